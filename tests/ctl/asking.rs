//! What is there: status, guests, log, files, values.

use crate::fixture::Root;
use crate::{PROGRAM, ask, ask_json, ctl, fails, public, to_daemon_of};
use pmxcfs::ipc::calls;
use pmxcfs::ipc::ops::Op;
use pmxcfs::ipc::qb::client::Client;
use serde_json::json;
use std::fs;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);

fn request(root: &Root, op: Op, body: &[u8]) {
    let mut client = Client::connect(&root.service, 1 << 20, LIMIT).expect("the service");
    assert_eq!(client.request(op.id(), body, Some(LIMIT)).expect("an answer").error, 0);
}

fn make_guests(root: &Root) {
    for (dir, file, text) in [
        ("nodes/n1/qemu-server", "100.conf", "name: web\ncores: 2\n"),
        ("nodes/n2/lxc", "101.conf", "hostname: db\n"),
    ] {
        fs::create_dir_all(root.tree(dir)).expect("directories");
        fs::write(root.tree(dir).join(file), text).expect("a guest");
    }
}

#[test]
fn status_tells_all_of_a_node() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    make_guests(&root);
    let status = ask_json(&root, &["status"]);
    let own = &status["daemon"];
    assert_eq!(status["pid"], daemon.pid().as_raw());
    assert_eq!(own["daemon"]["pid"], daemon.pid().as_raw());
    assert_eq!(own["daemon"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        own["node"],
        json!({ "name": "n1", "address": "192.0.2.1", "mode": "local", "quorate": true })
    );
    let tree = root.path("etc/pve");
    assert_eq!(status["tree"], json!({ "path": tree, "mounted": true, "covered_by": null }));
    assert_eq!(own["tree"]["mount_point"], json!(tree));
    assert_eq!(status["guests"], json!({ "qemu": 1, "lxc": 1, "openvz": 0 }));
    assert_eq!(own["guests"], status["guests"]);
    assert_eq!(own["groups"], json!(null));
    let database = &own["database"];
    assert_eq!(database["path"], root.database().to_str().expect("text"));
    assert_eq!(database["version"], database["stored_version"]);
    assert_eq!((&database["entries"], &database["failures"]), (&json!(8), &json!(0)));
    assert!(database["commits"].as_u64() > Some(0) && database["row_bytes"].as_u64() > Some(0), "{database}");
    assert_eq!(own["kernel"]["requests"]["mkdir"], 5);
    assert_eq!(own["kernel"]["requests"]["create"], 2);
    assert_eq!(own["caches"]["guest_list"], json!({ "hits": 0, "misses": 0 }));
    assert_eq!(own["ipc"]["requests"]["get_daemon_status"], 1);
    assert_eq!((&own["ipc"]["clients"], &own["ipc"]["connects"]), (&json!(1), &json!(1)));
    assert_eq!(own["ipc"]["client_list"][0]["access"], "rw");
    assert!(own["process"]["resident_bytes"].as_u64() > Some(1 << 20), "{}", own["process"]);
    assert!(status["rates"]["kernel_requests"].as_f64() > Some(0.0), "{}", status["rates"]);

    let text = ask(&root, &["status"]);
    for part in ["n1 (192.0.2.1), local mode, quorate", "2: 1 lxc, 1 qemu", "none: local mode", "(on disk)"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let rates = &ask_json(&root, &["status", "--interval", "1"])["rates"];
    assert!(rates["seconds"].as_f64() >= Some(1.0), "{rates}");
    assert_eq!(rates["commits"], 0.0, "nothing was written meanwhile");
    daemon.stop();
}

#[test]
fn guests_with_their_names_and_what_else_is_asked_for() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    assert_eq!(ask(&root, &["guests"]), "VMID  TYPE  NODE  NAME\n");
    make_guests(&root);
    let text = ask(&root, &["guests", "--property", "cores"]);
    assert_eq!(text, "VMID  TYPE  NODE  NAME  cores\n100   qemu  n1    web   2\n101   lxc   n2    db\n");
    let list = ask_json(&root, &["guests", "--node", "n2"]);
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    assert_eq!((&list[0]["vmid"], &list[0]["properties"]), (&json!(101), &json!({ "hostname": "db" })));

    assert_eq!(ask(&root, &["get", "guest", "100", "cores", "name"]), "cores: 2\nname: web\n");
    assert_eq!(ask(&root, &["get", "guest", "all", "hostname"]), "101 hostname: db\n");
    assert_eq!(ask_json(&root, &["get", "guest", "100", "name"]), json!({ "100": { "name": "web" } }));
    assert_eq!(
        fails(&root, &["get", "guest", "999", "name"]),
        (1, "pmxcfs-ctl: there is no guest 999\n".to_owned())
    );
    daemon.stop();
}

#[test]
fn files_and_values_come_as_they_are() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    fs::write(root.tree("a.cfg"), b"a\xff\n").expect("a file");
    fs::write(root.tree("t.cfg"), "text").expect("a file");
    let output = ctl(&root, &["get", "file", "/a.cfg"]).output().expect("the program starts");
    assert_eq!(output.stdout, b"a\xff\n");
    assert_eq!(
        ask_json(&root, &["get", "file", "a.cfg"]),
        json!({ "path": "a.cfg", "size": 3, "hex": "61ff0a" })
    );
    assert_eq!(ask_json(&root, &["get", "file", "t.cfg"])["text"], "text");
    for name in [".version", ".members", ".vmlist", ".clusterlog"] {
        assert_eq!(ask(&root, &["get", "file", name]).into_bytes(), fs::read(root.tree(name)).expect(name));
    }
    request(&root, Op::SetStatus, &calls::set_status(b"key", b"value").expect("short"));
    assert_eq!(ask(&root, &["get", "status", "key"]), "value");
    assert_eq!(ask(&root, &["get", "status", "key", "--node", "n1"]), "value");
    assert_eq!(
        fails(&root, &["get", "file", "nowhere"]),
        (1, "pmxcfs-ctl: there is no file 'nowhere'\n".to_owned())
    );
    let (code, text) = fails(&root, &["get", "status", "other", "--node", "n2"]);
    assert_eq!((code, text.as_str()), (1, "pmxcfs-ctl: n2 has no status value 'other'\n"));
    daemon.stop();
}

#[test]
fn the_log_is_in_order_and_cut_to_what_is_asked_for() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    for (user, text) in [("root@pam", "one"), ("u@pve", "two \"\x1b\u{e4}"), ("root@pam", "three")] {
        let body = calls::log_cluster_msg(6, user.as_bytes(), b"tag", text.as_bytes());
        request(&root, Op::LogClusterMsg, &body.expect("short"));
    }
    let entries = ask_json(&root, &["log"]);
    let texts: Vec<&str> =
        entries.as_array().expect("a list").iter().filter_map(|e| e["msg"].as_str()).collect();
    assert_eq!(texts, ["starting cluster log", "one", "two \"#027\u{e4}", "three"]);
    let text = ask(&root, &["log", "-n", "1"]);
    assert!(text.ends_with("info: three\n") && text.lines().count() == 1, "{text}");
    let text = ask(&root, &["log", "--user", "u@pve"]);
    assert!(text.contains("n1 u@pve tag[") && text.lines().count() == 1, "{text}");
    daemon.stop();
}

#[test]
fn readers_get_what_is_not_private_and_strangers_nothing() {
    let root = Root::new();
    let mut daemon = root.serve(&["--local"]);
    fs::create_dir(root.tree("priv")).expect("a directory");
    fs::write(root.tree("priv/secret"), "s").expect("a file");
    let group = nix::unistd::Group::from_name("www-data").expect("groups").expect("www-data").gid.as_raw();
    let program = public::Copy::of(PROGRAM);
    let run = |gid: u32, arguments: &[&str]| {
        let mut command = to_daemon_of(&root, program.command_as(gid, gid), arguments);
        let output = command.output().expect("the program starts");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (output.status.code().expect("a code"), text(output.stdout), text(output.stderr))
    };
    let (code, out, errors) = run(group, &["status", "--json"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let status: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(status["daemon"]["ipc"]["clients"], 1);
    assert_eq!(status["daemon"]["ipc"]["client_list"], json!(null), "who asks is for root");
    let (code, _, errors) = run(group, &["get", "file", "priv/secret"]);
    assert_eq!((code, errors.contains("'priv/secret': permission denied")), (4, true), "{errors}");
    let (code, _, errors) = run(54321, &["status"]);
    assert_eq!((code, errors.contains("connecting to the daemon: permission denied")), (4, true), "{errors}");
    daemon.stop();
}

#[test]
fn who_is_not_there_or_does_not_answer_is_said() {
    let root = Root::new();
    let (code, text) = fails(&root, &["status"]);
    assert_eq!((code, text.contains("no daemon serves")), (3, true), "{text}");
    let mut daemon = root.serve(&["--local"]);
    daemon.signal(nix::sys::signal::Signal::SIGSTOP);
    let (code, text) = fails(&root, &["guests", "--timeout", "1"]);
    daemon.signal(nix::sys::signal::Signal::SIGCONT);
    assert_eq!((code, text.contains("no answer within 1 s")), (5, true), "{text}");
    daemon.stop();
    for wrong in [&["nonsense"][..], &["get"], &["status", "--timeout", "x"]] {
        let output = ctl(&root, wrong).output().expect("the program starts");
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(ctl(&root, &["--help"]).output().expect("the program starts").status.code(), Some(0));
}
