//! What users other than root may do: look, and in the group www-data read.

use crate::fixture::{NOBODY, Tree, www_data};

fn tree() -> Tree {
    let tree = Tree::new();
    tree.mkdir("nodes/x/priv");
    tree.mkdir("priv/lock/l");
    tree.write("f", "shared\n");
    tree.write("priv/f", "secret\n");
    tree.write("nodes/x/priv/f", "secret\n");
    tree
}

/// Runs `command` in the tree as a user; whether it succeeded, and what it printed.
fn run(tree: &Tree, uid: u32, gid: u32, command: &str) -> (bool, String) {
    let output = tree.shell_as(uid, gid, &format!("cd $TREE && {command}"));
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Commands that fail for everybody but root.
const FORBIDDEN: &[&str] = &[
    "cat priv/f",
    "ls priv",
    "cd priv",
    "ls priv/lock",
    "cat nodes/x/priv/f",
    "ls nodes/x/priv",
    "echo x > f",
    "echo x >> f",
    "echo x > new",
    "mkdir new",
    "rm -f f",
    "rmdir priv/lock/l",
    "mv f g",
    "touch f",
    "touch -d @0 priv/lock/l",
    "chmod 640 f",
    "chown 0 f",
    "truncate -s 0 f",
    "echo 1 > .debug",
];

#[test]
fn the_group_reads_what_is_not_private() {
    let tree = tree();
    let gid = www_data();
    let run = |command: &str| run(&tree, gid, gid, command);
    assert_eq!(run("cat f"), (true, "shared\n".to_owned()));
    assert!(run("cat .version .members .vmlist .rrd .clusterlog .debug >/dev/null").0);
    assert!(run("ls -la . nodes nodes/x && df . && readlink local").0);
    for command in FORBIDDEN {
        assert!(!run(command).0, "{command}");
    }
    assert_eq!(tree.read("f"), b"shared\n");
}

#[test]
fn others_only_look() {
    let tree = tree();
    let run = |command: &str| run(&tree, NOBODY, NOBODY, command);
    assert!(run("ls -la . nodes nodes/x && stat f && df . && readlink local").0);
    for command in FORBIDDEN.iter().chain(&["cat f", "cat .version", "cat .debug"]) {
        assert!(!run(command).0, "{command}");
    }
    assert_eq!(tree.list("priv/lock"), ["l"]);
}

#[test]
fn losing_quorum_takes_the_write_bit_that_programs_look_at() {
    let tree = tree();
    let script = "perl -e 'print((lstat \"local\")[2] & 0200 ? \"quorate\" : \"not\")'";
    assert_eq!(run(&tree, 0, 0, script).1, "quorate");
    tree.set_quorate(false);
    assert_eq!(run(&tree, 0, 0, script).1, "not");
    assert_eq!(run(&tree, 0, 0, "cat f").1, "shared\n");
    tree.set_quorate(true);
    assert_eq!(run(&tree, 0, 0, script).1, "quorate");
}
