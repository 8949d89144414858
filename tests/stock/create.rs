//! The program that makes a database for the installer, beside the stock one: the same rows.

use crate::host::{Row, rows};
use crate::tree::time_text;
use crate::with_each_stock;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn run(program: &Path, arguments: &[&Path]) -> Output {
    Command::new(program).args(arguments).output().expect("the program starts")
}

/// Rows by name, without the numbers: in which order a directory is read is up to the program.
fn by_name(rows: &[Row]) -> BTreeMap<Vec<u8>, (Row, String)> {
    let plain = |row: &Row| {
        let numbers = if row.inode == 0 { (0, row.version) } else { (1, 0) };
        let time = time_text(row.mtime);
        (row.name.clone(), (Row { inode: numbers.0, version: numbers.1, mtime: 0, ..row.clone() }, time))
    };
    rows.iter().map(plain).collect()
}

fn numbers(rows: &[Row]) -> Vec<(i64, i64)> {
    rows.iter().map(|row| (row.inode, row.version)).collect()
}

#[test]
fn a_directory_becomes_the_same_database() {
    with_each_stock(create_both);
}

fn create_both(binary: PathBuf) {
    let stock = binary.with_file_name("create_pmxcfs_db");
    if !stock.exists() {
        println!("skipped: {} is not there", stock.display());
        return;
    }
    let ours = Path::new(env!("CARGO_BIN_EXE_create_pmxcfs_db"));
    let dir = tempfile::tempdir().expect("a directory");
    let files = dir.path().join("files");
    fs::create_dir_all(files.join("directory")).expect("made");
    let contents: [(&[u8], usize); 8] = [
        (b"corosync.conf", 500),
        (b"datacenter.cfg", 1),
        (b"empty", 0),
        (b".hidden", 10),
        (b"caf\xe9", 20),
        (b"storage.cfg", 4096),
        (b"100.conf", 70_000),
        (b"longest", 1 << 20),
    ];
    for (name, length) in contents {
        fs::write(files.join(OsStr::from_bytes(name)), vec![b'x'; length]).expect("written");
    }
    std::os::unix::fs::symlink("empty", files.join("link")).expect("made");

    let (stock_db, our_db) = (dir.path().join("stock.db"), dir.path().join("ours.db"));
    let (stock_output, our_output) = (run(&stock, &[&files, &stock_db]), run(ours, &[&files, &our_db]));
    assert_eq!(stock_output.status, our_output.status, "{stock_output:?} {our_output:?}");
    let (stock_rows, our_rows) = (rows(&stock_db), rows(&our_db));
    assert_eq!(by_name(&stock_rows), by_name(&our_rows));
    assert_eq!(numbers(&stock_rows), numbers(&our_rows));

    let nowhere = dir.path().join("nowhere");
    let wrong: [&[&Path]; 4] = [&[], &[&files], &[&nowhere, &our_db], &[&files, &our_db, &our_db]];
    for arguments in wrong {
        let (stock, ours) = (run(&stock, arguments), run(ours, arguments));
        assert_eq!((stock.status, stock.stdout), (ours.status, ours.stdout), "{arguments:?}");
        assert_eq!(stock.stderr.is_empty(), ours.stderr.is_empty(), "{arguments:?}");
    }
}
