//! Shares of users in a daemon's service: greedy users of the group www-data beside root, the watchdog and
//! other users.

use crate::fixture::{Daemon, PATIENCE, Root, wait_until};
use crate::public;
use pmxcfs::ipc::calls;
use pmxcfs::ipc::ops::Op;
use pmxcfs::ipc::qb::client::{Client, ClientError};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Far below the longest wait of a request.
const SOON: Duration = Duration::from_secs(10);
const SERVICE: &str = "PMXCFS_TEST_HOG";
const WAITS: &str = "PMXCFS_TEST_HOG_WAITS";

fn www_data() -> u32 {
    nix::unistd::Group::from_name("www-data").expect("groups").expect("www-data").gid.as_raw()
}

/// A copy of this program that other users can run.
fn this_program() -> public::Copy {
    public::Copy::of(std::env::current_exe().expect("a program"))
}

fn connect(service: &str) -> Result<Client, ClientError> {
    Client::connect(service, 1 << 20, PATIENCE)
}

/// Sends a request that waits for a change as long as allowed.
fn wait_for_change(client: &mut Client) {
    let first = calls::get_changes(0, 0);
    let answer = client.request(Op::GetChanges.id(), &first, Some(PATIENCE)).expect("an answer");
    let answer: Value = serde_json::from_slice(answer.data.as_bytes()).expect("JSON");
    let cursor = answer["cursor"].as_u64().expect("a cursor");
    client.send(Op::GetChanges.id(), &calls::get_changes(cursor, 60_000)).expect("sent");
}

/// Takes as much as it can; runs only in the processes of [`Hog`].
#[test]
fn hog_process() {
    let Ok(service) = std::env::var(SERVICE) else { return };
    let waits = std::env::var(WAITS).ok().map(|count| count.parse::<usize>().expect("a number"));
    let mut held = Vec::new();
    let error = loop {
        match connect(&service) {
            Ok(client) if waits != Some(held.len()) => held.push(client),
            Ok(_) => break 0,
            Err(ClientError::Refused(errno)) => break errno,
            Err(error) => panic!("{error}"),
        }
    };
    let mut refused = 0;
    if waits.is_some() {
        held.iter_mut().for_each(wait_for_change);
        for client in &mut held {
            match client.receive(Some(Duration::from_millis(20))) {
                Ok((_, response)) if response.error == -libc::EAGAIN => refused += 1,
                Ok(other) => panic!("{other:?}"),
                Err(ClientError::TimedOut) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    println!("\nheld {} {error} {refused}", held.len());
    std::io::stdin().read_to_end(&mut Vec::new()).expect("the end");
}

/// A process of a user in www-data that takes as many connections, or waits, as it can.
struct Hog {
    child: Child,
    _output: BufReader<ChildStdout>,
    /// Number of connections; errno of the first refusal; number of requests refused because of too many
    /// waits.
    held: usize,
    errno: i32,
    refused: usize,
}

impl Hog {
    fn start(program: &public::Copy, root: &Root, uid: u32, waits: Option<usize>) -> Self {
        let mut command = program.command_as(uid, www_data());
        command.args(["--exact", "shares::hog_process", "--nocapture"]).env(SERVICE, &root.service);
        if let Some(waits) = waits {
            command.env(WAITS, waits.to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        while !line.starts_with("held ") {
            line.clear();
            assert!(output.read_line(&mut line).expect("text") > 0, "user {uid} ended");
        }
        let numbers: Vec<i32> =
            line.split_whitespace().skip(1).map(|number| number.parse().expect("a number")).collect();
        let [held, errno, refused] = numbers[..] else { panic!("{line}") };
        Self { child, _output: output, held: held as usize, errno, refused: refused as usize }
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        self.child.kill().expect("our child");
        self.child.wait().expect("our child");
    }
}

/// Clients of the daemon, including this one.
fn clients(client: &mut Client) -> u64 {
    let answer = client.request(Op::GetDaemonStatus.id(), &[], Some(PATIENCE)).expect("an answer");
    let status: Value = serde_json::from_slice(answer.data.as_bytes()).expect("JSON");
    status["ipc"]["clients"].as_u64().expect("a number")
}

#[test]
fn greedy_users_leave_room_for_root_and_others() {
    let (root, program) = (Root::new(), this_program());
    // Room for (1024 - 256) / 2 connections: half of them for root, the last four for helpers.
    let mut daemon = root.serve_with(|command| {
        let mut limited = Command::new("prlimit");
        limited.arg("--nofile=1024:1024").arg(command.get_program()).args(command.get_args());
        limited
    });
    let hogs: Vec<Hog> = (60001..60005).map(|uid| Hog::start(&program, &root, uid, None)).collect();
    let held: Vec<usize> = hogs.iter().map(|hog| hog.held).collect();
    assert!(hogs.iter().all(|hog| hog.errno == libc::EAGAIN), "refused as busy");
    assert!(held.iter().sum::<usize>() < 188 && held.iter().all(|&held| held > 5), "{held:?}");
    let next = Hog::start(&program, &root, 60005, None);
    assert!(next.held > 2, "another user gets in: {}", next.held);

    let mut of_root: Vec<Client> = (0..150).map(|_| connect(&root.service).expect("root gets in")).collect();
    let all = clients(&mut of_root[0]);
    assert_eq!(all, (held.iter().sum::<usize>() + next.held + 150) as u64);
    drop((hogs, next));
    wait_until("the places are free again", || clients(&mut of_root[0]) == 150);
    let again = Hog::start(&program, &root, 60001, None);
    assert_eq!(again.held, held[0]);
    drop(again);
    assert_eq!(daemon.stop().0.code(), Some(0));
}

#[test]
fn client_gone_while_it_waits_gives_its_place_back() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    let mut observer = connect(&root.service).expect("the service");
    for _ in 0..3 {
        let mut waiting: Vec<Client> = (0..20).map(|_| connect(&root.service).expect("served")).collect();
        waiting.iter_mut().for_each(wait_for_change);
        assert_eq!(clients(&mut observer), 21);
        let start = Instant::now();
        drop(waiting);
        wait_until("the places are free again", || clients(&mut observer) == 1);
        assert!(start.elapsed() < SOON, "they were held for {:?}", start.elapsed());
    }
    assert_eq!(daemon.stop().0.code(), Some(0));
}

#[test]
fn waiting_requests_of_a_user_are_limited() {
    let (root, program) = (Root::new(), this_program());
    let mut daemon = root.serve(&["--local"]);
    let hog = Hog::start(&program, &root, 60001, Some(70));
    assert_eq!((hog.held, hog.errno, hog.refused), (70, 0, 6));
    let other = Hog::start(&program, &root, 60002, Some(3));
    assert_eq!((other.held, other.refused), (3, 0), "other users are not affected");
    let mut of_root: Vec<Client> = (0..70).map(|_| connect(&root.service).expect("served")).collect();
    of_root.iter_mut().for_each(wait_for_change);
    fs::write(root.tree("news"), "").expect("written");
    for client in &mut of_root {
        let (_, response) = client.receive(Some(PATIENCE)).expect("news");
        assert_eq!(response.error, 0, "root is not limited");
    }
    drop((hog, other));
    let again = Hog::start(&program, &root, 60001, Some(70));
    assert_eq!((again.held, again.refused), (70, 6), "what was given back can be had again");
    drop(again);
    assert_eq!(daemon.stop().0.code(), Some(0));
}

/// Nice values of the daemon's threads of this name.
fn nice_values(daemon: &Daemon, name: &str) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("a process");
    let stats = tasks.filter_map(|task| fs::read_to_string(task.expect("readable").path().join("stat")).ok());
    let named = stats.filter(|stat| stat.contains(&format!("({name})")));
    let nice = |stat: String| {
        let (_, fields) = stat.rsplit_once(") ").expect("a name");
        fields.split(' ').nth(16).expect("a field").parse().expect("a number")
    };
    named.map(nice).collect()
}

/// Root of a container may not.
fn may_raise_priority() -> bool {
    const CAP_SYS_NICE: u64 = 1 << 23;
    let status = fs::read_to_string("/proc/self/status").expect("readable");
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:")).expect("a line");
    u64::from_str_radix(mask.trim(), 16).expect("a mask") & CAP_SYS_NICE != 0
}

#[test]
fn accepting_thread_runs_before_flooding_processes() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    let _clients: Vec<Client> = (0..3).map(|_| connect(&root.service).expect("served")).collect();
    let usual = nice_values(&daemon, "pmxcfs");
    assert_eq!(
        nice_values(&daemon, "ipc-accept"),
        if may_raise_priority() { vec![-20] } else { usual.clone() }
    );
    let of_clients = nice_values(&daemon, "ipc-client");
    assert!(
        of_clients.len() >= 3 && of_clients.iter().all(|nice| *nice == usual[0]),
        "{of_clients:?} {usual:?}"
    );
    assert_eq!(daemon.stop().0.code(), Some(0));
}
