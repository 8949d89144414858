//! A member whose database file is deleted under its daemon.

use crate::report::groups;
use crate::scenario;
use crate::wait::{eventually, soon};
use nix::libc::EIO;
use std::fs;

scenario!(member_without_its_file_leaves_the_group, |cluster| {
    let ours = |number: &usize| !cluster[*number].is_stock();
    let Some(victim) = cluster.numbers().into_iter().find(ours) else { return };
    let others: Vec<usize> = cluster.numbers().into_iter().filter(|number| *number != victim).collect();
    cluster[victim].write("before", "text").expect("written");
    soon("the file", || others.iter().all(|other| cluster[*other].has("before", "text")));
    let dir = cluster[victim].database().parent().expect("a directory").to_owned();
    for name in ["config.db", "config.db-wal", "config.db-shm"] {
        fs::remove_file(dir.join(name)).expect("removed");
    }
    eventually("the member leaves", || groups(&cluster[victim])["database"]["mode"] == "leave");
    eventually("it refuses changes", || {
        cluster[victim].write("refused", "text").is_err_and(|error| error.raw_os_error() == Some(EIO))
    });
    for &other in others.iter().filter(|other| !cluster[**other].is_stock()) {
        eventually("the others see it leave", || {
            let report = groups(&cluster[other])["database"].clone();
            let members = report["members"].as_array().cloned().unwrap_or_default();
            report["mode"] == "synced" && members.len() == others.len()
        });
    }
    let writer = others[0];
    eventually("the others write", || cluster[writer].write("meanwhile", "text").is_ok());
    let saved = || {
        fs::read_dir(&dir).expect("listed").any(|entry| {
            entry.expect("an entry").file_name().to_string_lossy().starts_with("config.db.rescued-")
        })
    };
    eventually("the tree is saved", saved);
    cluster[victim].stop();
    cluster[victim].start();
    eventually("it has the cluster's tree", || {
        cluster[victim].has("before", "text") && cluster[victim].has("meanwhile", "text")
    });
    eventually("it writes again", || cluster[victim].write("after", "text").is_ok());
    soon("and is read", || cluster[writer].has("after", "text"));
    cluster.assert_equal();
});
