//! What cannot be done is answered with one line that says what to do, and nothing is changed.

use crate::support::{Home, run, verb};
use std::ffi::OsStr;
use std::path::Path;

/// The verbs that take a database and nothing else.
const VERBS: &[&str] = &["check", "dump", "info"];

#[test]
fn wrong_files() {
    let home = Home::empty();
    std::fs::create_dir(home.at("directory")).unwrap();
    std::fs::write(home.at("text"), "only a text, but long enough to be taken for more\n".repeat(99))
        .unwrap();
    std::fs::write(home.at("short"), "SQLite").unwrap();
    std::fs::write(home.at("empty"), "").unwrap();
    let other = rusqlite::Connection::open(home.at("other")).unwrap();
    other.execute_batch("CREATE TABLE cats (name TEXT)").unwrap();
    drop(other);
    let newer = Home::damaged("ALTER TABLE tree ADD COLUMN acl TEXT");
    std::fs::copy(newer.db(), home.at("newer")).unwrap();
    let view = Home::damaged("ALTER TABLE tree RENAME TO t; CREATE VIEW tree AS SELECT * FROM t");
    std::fs::copy(view.db(), home.at("view")).unwrap();
    let before = home.bytes();
    for verb_name in VERBS {
        for (file, words) in [
            ("missing", "No such file or directory; check the path"),
            ("missing/config.db", "No such file or directory; check the path"),
            ("directory", "it is a directory"),
            ("text", "not an SQLite database"),
            ("short", "not an SQLite database"),
            ("empty", "the file is empty"),
            ("other", "there is no table 'tree'"),
            (
                "newer",
                "(inode, parent, version, writer, mtime, type, name, data, acl), which this program does not",
            ),
            ("view", "'tree' is a view"),
        ] {
            let ran = verb(verb_name, &home.at(file));
            assert!(ran.complaint().contains(words), "{verb_name} {file}: {ran:?}");
            assert!(ran.complaint().contains(file), "{verb_name} {file}: {ran:?}");
        }
    }
    assert_eq!(home.bytes(), before);
}

#[test]
fn wrong_command_lines() {
    let golden = Path::new("tests/golden/cluster.db");
    for (arguments, words) in [
        (&[][..], "subcommand"),
        (&["chekc"], "chekc"),
        (&["check"], "FILE"),
        (&["check", "a", "b"], "'b'"),
        (&["check", "--nosuch", "a"], "--nosuch"),
    ] {
        let ran = run(arguments);
        assert!(ran.complaint().contains(words), "{arguments:?}: {ran:?}");
        assert!(ran.complaint().ends_with("; see pmxcfs-db --help"), "{ran:?}");
    }
    let ran = run(&[OsStr::new("dump"), OsStr::new("--contents"), golden.as_os_str()]);
    assert!(ran.complaint().contains("name its PATH too"), "{ran:?}");
    let help = run(&["--help"]);
    assert!(help.code == 0 && help.err.is_empty() && help.out.contains("check"), "{help:?}");
}
