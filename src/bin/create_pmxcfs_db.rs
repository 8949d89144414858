//! Makes a database from the regular files directly in a directory, without a daemon. The installer
//! does this for the first start of a node.
//!
//! Nothing is written before all files were read, and then all of it in one transaction.

use pmxcfs::clock::Clock;
use pmxcfs::memdb::{Change, Limits, MemDb, Stamp, TreePath, WriteAt};
use pmxcfs::store::Store;
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;

/// What stock exits with on any failure.
const FAILURE: u8 = 255;

const USAGE: &str = "Usage: create_pmxcfs_db /a/dir /a/filename.db";

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (directory, file) = match arguments.as_slice() {
        [directory, file] => (directory, file),
        [option] if option == "--help" || option == "-h" => return print(USAGE),
        [option] if option == "--version" || option == "-V" => {
            return print(concat!("create_pmxcfs_db ", env!("CARGO_PKG_VERSION")));
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(FAILURE);
        }
    };
    match create(Path::new(directory), Path::new(file)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(FAILURE)
        }
    }
}

/// Prints a line that the user asked for.
fn print(line: &str) -> ExitCode {
    // Fails if the reader of a pipe has closed it, and has then seen enough.
    let _ = writeln!(io::stdout(), "{line}");
    ExitCode::SUCCESS
}

fn create(directory: &Path, file: &Path) -> Result<(), Box<dyn Error>> {
    let contents = read_files(directory)?;
    let clock = Clock::start();
    let stamp = Stamp { writer: 0, time: clock.unix() };
    let mut store = Store::open(file, stamp.time)?;
    let mut tree = store.load(|rows| MemDb::load(rows, clock.uptime()))??;
    for (path, data) in contents {
        let create = Change::Create { path: path.clone() };
        let write = Change::Write { path, at: WriteAt::Offset(0), data };
        for (step, change) in [("create", create), ("write", write)] {
            tree.apply(change, stamp, Limits::Enforced, clock.uptime())
                .map_err(|error| format!("unable to {step} {error}"))?;
        }
    }
    if let Some(batch) = tree.take_batch() {
        store.commit(&batch)?;
    }
    Ok(store.close()?)
}

/// The regular files in `directory`, in the order of their names.
fn read_files(directory: &Path) -> Result<Vec<(TreePath, Vec<u8>)>, String> {
    let unable = |error| format!("unable to open dir: {error}: '{}'", directory.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(unable)? {
        let entry = entry.map_err(unable)?;
        let path = entry.path();
        let unreadable = |error| format!("unable to read '{}': {error}", path.display());
        if entry.file_type().map_err(unreadable)?.is_file() {
            let data = fs::read(&path).map_err(unreadable)?;
            files.push((TreePath::new(entry.file_name().as_bytes()), data));
        }
    }
    files.sort_by(|(one, _), (other, _)| one.as_bytes().cmp(other.as_bytes()));
    Ok(files)
}
