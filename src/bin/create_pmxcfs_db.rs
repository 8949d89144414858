//! Makes a database from the regular files directly in a directory, without a daemon. The installer
//! does this for the first start of a node.
//!
//! Nothing is written before all files were read, and then all of it in one transaction.

use pmxcfs::clock::Clock;
use pmxcfs::dir::{self, Access, Dir, Kind};
use pmxcfs::memdb::{BLOCK_SIZE, BLOCKS, Change, Limits, MAX_FILE_SIZE, MemDb, Stamp, TreePath, WriteAt};
use pmxcfs::store;
use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Read, Write};
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
    if let Err(error) = dir::remove_on_signals() {
        eprintln!("create_pmxcfs_db: a signal will leave temporary files: {error}");
    }
    match create(Path::new(directory), Path::new(file)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(FAILURE)
        }
    }
}

/// Prints a line that the command line requested.
fn print(line: &str) -> ExitCode {
    // Fails if the reader of a pipe has closed it, and then needs no more output.
    let _ = writeln!(io::stdout(), "{line}");
    ExitCode::SUCCESS
}

fn create(directory: &Path, file: &Path) -> Result<(), Box<dyn Error>> {
    let contents = read_files(directory)?;
    let clock = Clock::start();
    let stamp = Stamp { writer: 0, time: clock.unix() };
    warn_if_exposed(file);
    store::work_on(file, stamp.time, |store| {
        let mut tree = store.load(|rows| MemDb::load(rows, clock.uptime()))??;
        for (path, data) in contents {
            let create = Change::Create { path: path.clone() };
            let write = Change::Write { path, at: WriteAt::Offset(0), data };
            for (step, change) in [("create", create), ("write", write)] {
                tree.apply(change, stamp, Limits::Enforced, clock.uptime())
                    .map_err(|error| format!("unable to {step} {error}"))?;
            }
        }
        match tree.take_batch() {
            Some(batch) => Ok(store.commit(&batch)?),
            None => Ok(()),
        }
    })
}

/// Warns if other users can replace the new database afterwards.
fn warn_if_exposed(file: &Path) {
    if let Ok((dir, _)) = Dir::holding_target(file) {
        if let Some(exposed) = dir.exposed() {
            let exposed = exposed.display();
            eprintln!("warning: other users can rename and remove entries of '{exposed}'");
        }
    }
}

/// The regular files in `directory`, in the order of their names.
fn read_files(directory: &Path) -> Result<Vec<(TreePath, Vec<u8>)>, String> {
    let unable = |error| format!("unable to open dir: {error}: '{}'", directory.display());
    let dir = Dir::open(directory).map_err(unable)?;
    let mut files = Vec::new();
    let mut bytes = 0;
    for name in dir.names().map_err(unable)? {
        let read = || -> io::Result<Option<Vec<u8>>> {
            if dir.entry(&name)?.is_none_or(|entry| entry.kind != Kind::File) {
                return Ok(None);
            }
            let mut data = Vec::new();
            // One byte over the limit is enough: the tree then refuses the file.
            dir.open_file(&name, Access::Read)?.take(MAX_FILE_SIZE + 1).read_to_end(&mut data)?;
            Ok(Some(data))
        };
        let data = read()
            .map_err(|error| format!("unable to read '{}': {error}", directory.join(&name).display()))?;
        bytes += data.as_ref().map_or(0, |data| data.len() as u64);
        if bytes > BLOCKS * BLOCK_SIZE {
            // Before more is read: sparse files of another user would exhaust the memory.
            let (path, limit) = (directory.join(&name), (BLOCKS * BLOCK_SIZE) >> 20);
            let text = "the database would be full";
            return Err(format!(
                "unable to read '{}': {text} ({limit} MiB); remove files that are not needed",
                path.display()
            ));
        }
        files.extend(data.map(|data| (TreePath::new(name.as_bytes()), data)));
    }
    Ok(files)
}
