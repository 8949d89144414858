//! `pmxcfs-ctl` on a stock daemon: what it tells is shown, what it does not tell is said to be unknown.

use crate::daemon::Side;
use crate::host::{Host, Served};
use crate::with_each_stock;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

fn ctl(served: &Served, arguments: &[&str]) -> Output {
    let output = served.daemon.inside(|| {
        Ok(Command::new(env!("CARGO_BIN_EXE_pmxcfs-ctl"))
            .args(arguments)
            .output()
            .expect("the program starts"))
    });
    output.unwrap_or_else(|failure| panic!("{failure}"))
}

fn json_of(served: &Served, arguments: &[&str]) -> Value {
    let output = ctl(served, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn a_stock_daemon_tells_what_it_can() {
    with_each_stock(ask_stock);
}

fn ask_stock(binary: PathBuf) {
    let host = Host::new();
    let served = host.start(&Side::Stock(binary));
    let status = json_of(&served, &["status"]);
    let node = status["members"]["nodename"].as_str().expect("a name").to_owned();
    let dir = served.path("nodes").join(&node).join("qemu-server");
    fs::create_dir_all(&dir).expect("directories");
    fs::write(dir.join("100.conf"), "name: web\n").expect("a guest");
    let status = json_of(&served, &["status"]);
    assert_eq!((&status["daemon"], &status["rates"]), (&Value::Null, &Value::Null));
    assert_eq!(status["guests"]["qemu"], 1);
    let text = String::from_utf8(ctl(&served, &["status"]).stdout).expect("text");
    assert!(text.contains("stock pmxcfs or another") && text.contains("unknown"), "{text}");
    assert_eq!(json_of(&served, &["guests"])[0]["properties"], json!({ "name": "web" }));
    assert_eq!(json_of(&served, &["log"])[0]["msg"], "starting cluster log");
    let path = format!("nodes/{node}/qemu-server/100.conf");
    assert_eq!(ctl(&served, &["get", "file", &path]).stdout, b"name: web\n");
    let metrics = String::from_utf8(ctl(&served, &["metrics"]).stdout).expect("text");
    assert!(metrics.contains("pmxcfs_up 1\n") && metrics.contains("version=\"unknown\""), "{metrics}");
    let output = ctl(&served, &["status", "--interval", "1"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(6), 0));
    let written = served.path("storage.cfg");
    let watched = std::thread::scope(|scope| {
        // Until it was seen, as nobody knows when the other looks first.
        let (done, ended) = std::sync::mpsc::channel::<()>();
        scope.spawn(move || {
            let mut text = String::new();
            while ended.recv_timeout(std::time::Duration::from_millis(300)).is_err() {
                text.push('x');
                fs::write(&written, &text).expect("a file");
            }
        });
        let watched = ctl(&served, &["watch", "--json", "--below", "storage.cfg", "--count", "1"]);
        done.send(()).expect("it writes");
        watched
    });
    let watched = String::from_utf8(watched.stdout).expect("text");
    assert!(
        watched.contains("\"counters_only\":true") && watched.contains("\"path\":\"storage.cfg\""),
        "{watched}"
    );
    served.stop();
}
