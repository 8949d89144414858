//! FIFOs, sockets, devices, directories and links in place of a database: each verb and the daemon refuse them with one
//! line, without delay, and without a change.

use crate::support::{Home, Ran};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

const KINDS: [(&str, &str); 7] = [
    ("fifo", "a FIFO"),
    ("socket", "a socket"),
    ("device", "a device"),
    ("directory", "a directory"),
    ("link-to-fifo", "a FIFO"),
    ("link-to-nothing", "No such file or directory"),
    ("link-to-itself", "too many symbolic links"),
];

/// A directory with an entry of each kind, a good database, and a source directory.
fn home() -> Home {
    let home = Home::golden();
    mkfifo(&home.at("fifo"), Mode::S_IRWXU).unwrap();
    drop(UnixListener::bind(home.at("socket")).unwrap());
    // A read of this device returns endless zeros.
    mknod(&home.at("device"), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 5)).expect("needs root");
    std::fs::create_dir(home.at("directory")).unwrap();
    for (target, link) in
        [("fifo", "link-to-fifo"), ("nothing", "link-to-nothing"), ("link-to-itself", "link-to-itself")]
    {
        symlink(target, home.at(link)).unwrap();
    }
    std::fs::create_dir(home.at("source")).unwrap();
    std::fs::write(home.at("source/file"), "text").unwrap();
    home
}

fn names(home: &Home) -> Vec<PathBuf> {
    let mut names: Vec<_> =
        std::fs::read_dir(home.dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names
}

/// Runs a program that must end by itself. A program that blocks ends with 124.
fn run(program: &str, words: &[&str], paths: &[&Path]) -> Ran {
    let mut command = Command::new("timeout");
    Ran::of(&command.args(["60", program]).args(words).args(paths).output().unwrap())
}

fn tool(words: &[&str], paths: &[&Path]) -> Ran {
    run(env!("CARGO_BIN_EXE_pmxcfs-db"), words, paths)
}

#[test]
fn database_of_another_kind_is_refused_by_each_verb() {
    let home = home();
    let (good, source, new) = (home.db(), home.at("source"), home.at("new"));
    let before = (names(&home), std::fs::read(&good).unwrap());
    for (name, words) in KINDS {
        let odd = home.at(name);
        let verbs: [(&[&str], &[&Path]); 9] = [
            (&["check"], &[&odd]),
            (&["dump"], &[&odd]),
            (&["info"], &[&odd]),
            (&["repair"], &[&odd]),
            (&["repair", "--apply"], &[&odd]),
            (&["compact"], &[&odd]),
            (&["diff"], &[&odd, &good]),
            (&["diff"], &[&good, &odd]),
            (&["export"], &[&odd, &new]),
        ];
        for (verb, paths) in verbs {
            let ran = tool(verb, paths);
            assert!(ran.complaint().contains(words), "{verb:?} {name}: {ran:?}");
        }
        let ran = tool(&["import"], &[&source, &odd]);
        assert!(ran.complaint().contains("is there and is no file"), "{name}: {ran:?}");
    }
    assert_eq!((names(&home), std::fs::read(&good).unwrap()), before);
}

#[test]
fn directory_of_another_kind_is_refused_by_import_and_export() {
    let home = home();
    let (good, new) = (home.db(), home.at("new"));
    let before = names(&home);
    for (name, words) in KINDS.into_iter().filter(|(name, _)| *name != "directory") {
        let ran = tool(&["import"], &[&home.at(name), &new]);
        assert!(ran.complaint().contains(words), "{name}: {ran:?}");
        let ran = tool(&["export"], &[&good, &home.at(name)]);
        assert!(ran.complaint().contains(name), "{name}: {ran:?}");
    }
    assert_eq!(names(&home), before);
}

#[test]
fn backup_onto_another_kind_is_refused() {
    let home = home();
    home.sql("UPDATE tree SET name = '' WHERE inode = 9");
    let (bad, before) = (home.db(), names(&home));
    for (name, _) in KINDS {
        let backup = home.at(name);
        let ran = tool(&["repair", "--apply", "--backup"], &[&backup, &bad]);
        assert!(ran.complaint().contains("there is such a file"), "{name}: {ran:?}");
    }
    assert_eq!(names(&home), before);
}

#[test]
fn database_of_another_kind_is_refused_at_the_start() {
    let home = home();
    let kinds = KINDS.into_iter().filter(|(name, _)| !matches!(*name, "link-to-nothing"));
    for (name, words) in kinds {
        let ran = run(env!("CARGO_BIN_EXE_create_pmxcfs_db"), &[], &[&home.at("source"), &home.at(name)]);
        assert!(
            ran.code == 255 && ran.err.lines().count() == 1 && ran.err.contains(words),
            "{name}: {ran:?}"
        );
        let dir = home.at("root/var/lib/pve-cluster");
        std::fs::create_dir_all(&dir).unwrap();
        symlink(home.at(name), dir.join("config.db")).unwrap();
        let words_of_daemon = ["--local", "--foreground", "--node", "n1", "--ip", "192.0.2.1"];
        let root = home.at("root");
        let options = ["--root", root.to_str().unwrap()];
        let service = format!("wrong-kind-{}-{name}", std::process::id());
        let all = [&words_of_daemon[..], &options, &["--service", &service]].concat();
        let ran = run(env!("CARGO_BIN_EXE_pmxcfs"), &all, &[]);
        assert!(ran.code == 255 && ran.err.contains(words), "{name}: {ran:?}");
        std::fs::remove_file(dir.join("config.db")).unwrap();
    }
}
