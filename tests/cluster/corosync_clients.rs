//! Corosync's client libraries on the libqb of this project, which they find when LD_LIBRARY_PATH names its directory:
//! for a program, or for the daemon and all programs that it starts.

use crate::rules;
use crate::scenario;
use std::path::Path;

scenario!(corosync_clients_work_on_the_replaced_libqb, |cluster| {
    let root = tempfile::tempdir().expect("a directory");
    let installed =
        rules::make(root.path(), &["install-lib", "LIBDIR=/usr/lib"]).output().expect("make runs");
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    let libraries = root.path().join("usr/lib/pmxcfs-qb");
    let node = &cluster[1];
    for (words, expected) in [
        (&["corosync-quorumtool", "-s"][..], "Quorate:          Yes"),
        (&["corosync-cfgtool", "-s"], "Local node ID 1"),
        (&["corosync-cmapctl", "totem.cluster_name"], "testing"),
        // Iterates over all keys.
        (&["corosync-cmapctl"], "nodelist.node.2.name (str) = n3"),
        (&["corosync-cpgtool"], "pve_dcdb_v1"),
    ] {
        let (result, log) = run(node, words, &libraries);
        assert!(result.contains(expected), "{words:?}: {result}");
        assert!(log.contains("pmxcfs-qb/libqb.so.100"), "{words:?} did not load the library: {log}");
    }
});

/// Output of a program on a node, and the loader's log.
fn run(node: &crate::node::Node, words: &[&str], libraries: &Path) -> (String, String) {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let libraries = libraries.to_owned();
    let output = node.space.run(move || {
        let mut command = std::process::Command::new(&words[0]);
        command.args(&words[1..]).env("LD_LIBRARY_PATH", libraries).env("LD_DEBUG", "files");
        command.env("PATH", "/usr/sbin:/usr/bin").output().expect("a program of corosync")
    });
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}
