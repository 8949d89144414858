//! Corosync's configuration, changed in the tree.

use crate::scenario;
use crate::wait::{eventually, soon};
use std::fs;

scenario!(a_new_corosync_conf_reaches_all_hosts_and_corosync, |cluster| {
    cluster.settings.version = 7;
    let text = cluster.settings.text();
    cluster[2].write("corosync.conf.new", &text).expect("written");
    fs::rename(cluster[2].tree("corosync.conf.new"), cluster[2].tree("corosync.conf")).expect("renamed");
    for node in &cluster.nodes {
        soon("the host's file", || fs::read_to_string(node.corosync_conf()).is_ok_and(|host| host == text));
        soon("a log line", || node.logged("wrote new corosync config") == 1);
        eventually("the new version", || node.json(".members")["cluster"]["version"] == 7);
    }
    // An older one stays in the tree.
    cluster.settings.version = 6;
    cluster[3].write("corosync.conf", cluster.settings.text()).expect("written");
    for node in &cluster.nodes {
        soon("a log line", || node.logged("local corosync.conf is newer") > 0);
        assert_eq!(fs::read_to_string(node.corosync_conf()).expect("the host's file"), text);
    }
});
