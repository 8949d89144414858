//! Changes as they happen.

use crate::fixture::{Daemon, Root, wait_until};
use crate::{PROGRAM, ctl, output, public, to_daemon_of};
use pmxcfs::ipc::calls;
use pmxcfs::ipc::ops::Op;
use pmxcfs::ipc::qb::client::Client;
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A watching program, and its lines as they come. Killed when dropped.
struct Watcher {
    child: Child,
    events: Receiver<Value>,
}

impl Watcher {
    /// Starts it and waits until it watches.
    fn start(command: &mut Command) -> Self {
        let (sender, events) = channel();
        let child = command.stdout(Stdio::piped()).spawn().expect("the program starts");
        let mut watcher = Self { child, events };
        let lines = BufReader::new(watcher.child.stdout.take().expect("a pipe"));
        let read = move |lines: BufReader<ChildStdout>| {
            for line in lines.lines() {
                let event = serde_json::from_str(&line.expect("text")).expect("JSON");
                if sender.send(event).is_err() {
                    return;
                }
            }
        };
        std::thread::spawn(move || read(lines));
        assert_eq!(watcher.next()["kind"], "connected");
        watcher
    }

    fn next(&self) -> Value {
        self.events.recv_timeout(LIMIT).expect("an event in time")
    }

    /// The next event of the tree: kind of change, path, and type of what is there.
    fn next_change(&self) -> (String, String, String) {
        let event = self.next();
        assert_eq!(event["kind"], "tree", "{event}");
        let text = |name: &str| event[name].as_str().unwrap_or("none").to_owned();
        (text("change"), text("path"), text("type"))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn change(what: &str, path: &str, kind: &str) -> (String, String, String) {
    (what.to_owned(), path.to_owned(), kind.to_owned())
}

#[test]
fn changes_are_told_as_they_happen() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    fs::write(root.tree("before"), "x").expect("a file");
    let watcher = Watcher::start(&mut ctl(&root, &["watch", "--json"]));
    fs::create_dir(root.tree("dir")).expect("a directory");
    assert_eq!(watcher.next_change(), change("name", "dir", "directory"));
    fs::write(root.tree("before"), "longer").expect("a file");
    assert_eq!(watcher.next_change(), change("content", "before", "file"));
    fs::rename(root.tree("before"), root.tree("dir/after")).expect("a new name");
    let mut renamed = [watcher.next_change(), watcher.next_change()];
    renamed.sort();
    assert_eq!(renamed, [change("name", "before", "none"), change("name", "dir/after", "file")]);
    daemon.stop();
}

#[test]
fn filters_and_the_end_after_enough() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    let arguments = ["watch", "--json", "--kind", "tree,quorum", "--below", "nodes/n1", "--count", "1"];
    let mut watcher = Watcher::start(&mut ctl(&root, &arguments));
    fs::write(root.tree("other"), "x").expect("a file");
    fs::create_dir_all(root.tree("nodes/n1/lxc")).expect("directories");
    assert_eq!(watcher.next_change(), change("name", "nodes/n1", "directory"));
    assert!(watcher.child.wait().expect("our child").success());
    daemon.stop();
}

#[test]
fn readers_do_not_hear_of_what_is_private() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    fs::create_dir(root.tree("priv")).expect("a directory");
    let group = nix::unistd::Group::from_name("www-data").expect("groups").expect("www-data").gid.as_raw();
    let program = public::Copy::of(PROGRAM);
    let command = program.command_as(group, group);
    let watcher = Watcher::start(&mut to_daemon_of(&root, command, &["watch", "--json"]));
    fs::write(root.tree("priv/secret"), "x").expect("a file");
    fs::create_dir(root.tree("open")).expect("a directory");
    assert_eq!(watcher.next_change(), change("name", "open", "directory"));
    daemon.stop();
}

#[test]
fn a_restart_is_told_and_survived_and_a_stop_does_not_wait() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    let watcher = Watcher::start(&mut ctl(&root, &["watch", "--json"]));
    let clock = std::time::Instant::now();
    daemon.stop();
    assert!(clock.elapsed() < Duration::from_secs(20), "a watcher held up the end");
    assert_eq!(watcher.next()["kind"], "disconnected");
    let mut daemon: Daemon = root.serve(&["--local"]);
    assert_eq!(watcher.next()["kind"], "connected");
    assert_eq!(watcher.next()["kind"], "lost");
    fs::create_dir(root.tree("dir")).expect("a directory");
    assert_eq!(watcher.next_change(), change("name", "dir", "directory"));
    daemon.stop();
}

#[test]
fn nothing_is_polled_while_nothing_happens() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    let _watcher = Watcher::start(&mut ctl(&root, &["watch", "--json"]));
    let asked = || {
        let status = output(&root, &["status", "--json"]).stdout;
        let status: Value = serde_json::from_slice(&status).expect("JSON");
        status["daemon"]["ipc"]["requests"]["get_changes"].as_u64().expect("a count")
    };
    wait_until("it waits", || asked() == 2);
    assert_eq!(output(&root, &["status", "--interval", "2"]).status.code(), Some(0));
    assert_eq!(json!(asked()), json!(2));
    daemon.stop();
}

#[test]
fn clients_that_wait_and_vanish_hold_up_nobody() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    let connect = || Client::connect(&root.service, 1 << 20, LIMIT).expect("the service");
    let ask = |client: &mut Client, op: Op, body: &[u8]| {
        let response = client.request(op.id(), body, Some(LIMIT)).expect("an answer");
        (response.error, response.data.as_bytes().to_vec())
    };
    let mut witness = connect();
    let (error, data) = ask(&mut witness, Op::GetChanges, &calls::get_changes(0, u32::MAX));
    assert_eq!(error, 0, "the first question is answered at once");
    let answer: Value = serde_json::from_slice(&data).expect("JSON");
    let cursor = answer["cursor"].as_u64().expect("a cursor");
    let waiting: Vec<Client> = (0..40)
        .map(|number| {
            let mut client = connect();
            client.send(Op::GetChanges.id(), &calls::get_changes(cursor, u32::MAX)).expect("sent");
            if number % 2 == 0 {
                // More questions behind one that waits.
                client.send(Op::GetFsVersion.id(), b"").expect("sent");
            }
            client
        })
        .collect();
    drop(waiting);
    for body in [&b""[..], &[0; 11], &[0; 13], &[0xff; 4096]] {
        assert!(ask(&mut witness, Op::GetChanges, body).0 < 0, "{} bytes", body.len());
    }
    assert!(ask(&mut witness, Op::GetDaemonStatus, b"x").0 < 0);
    for strange in [1, cursor - 1, cursor + 1000, u64::MAX] {
        let (error, data) = ask(&mut witness, Op::GetChanges, &calls::get_changes(strange, u32::MAX));
        let answer: Value = serde_json::from_slice(&data).expect("JSON");
        assert_eq!(
            (error, &answer["lost"], &answer["cursor"]),
            (0, &json!(true), &json!(cursor)),
            "{strange}"
        );
    }
    fs::create_dir(root.tree("dir")).expect("the tree is served");
    let (_, data) = ask(&mut witness, Op::GetChanges, &calls::get_changes(cursor, u32::MAX));
    assert!(String::from_utf8(data).expect("text").contains("\"path\":\"dir\""));
    let clock = std::time::Instant::now();
    assert_eq!(daemon.stop().0.code(), Some(0));
    assert!(clock.elapsed() < Duration::from_secs(20), "waiting clients held up the end");
}
