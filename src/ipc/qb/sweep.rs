//! Removing what a killed daemon left in the directory of shared memory: directories named after a
//! process that is gone, ours by owner, with nothing in them but files of our service. They may be
//! empty: a stock client that outlives its server removes the files itself.

use super::shm::{ShmDir, file_names, remove};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::signal::kill;
use nix::sys::stat::{Mode, fstat};
use nix::unistd::{Pid, UnlinkatFlags, geteuid};
use std::io;

/// Removes the leftovers of `service`; returns how many connections they were of. The caller holds
/// the service's address, so no other daemon with it is running.
///
/// # Errors
/// If the directory cannot be listed. What cannot be removed is logged.
pub(crate) fn sweep(shm: &ShmDir, service: &str) -> io::Result<usize> {
    let mut swept = 0;
    for entry in shm.path().read_dir()? {
        let name = entry?.file_name();
        let Some(name) = name.to_str() else { continue };
        let Some(server) = server_pid(name) else { continue };
        // A process with our own number was another one, as we have no connection yet; but another
        // service in this process may be about to fill an empty directory.
        let own = i32::try_from(std::process::id()) == Ok(server);
        if !own && !is_gone(server) {
            continue;
        }
        match sweep_one(shm, name, service, !own) {
            Ok(found) => swept += usize::from(found),
            Err(error) => log::warn!("cannot sweep '{name}' in {}: {error}", shm.path().display()),
        }
    }
    Ok(swept)
}

/// The server's process id in the name of a connection's directory,
/// `qb-<server>-<client>-<descriptor>-<random>`.
fn server_pid(name: &str) -> Option<i32> {
    let mut fields = name.strip_prefix("qb-")?.split('-');
    let server = fields.next()?.parse().ok().filter(|&pid| pid > 0)?;
    let numbers = [fields.next()?, fields.next()?];
    let numeric = numbers.iter().all(|field| field.parse::<u32>().is_ok());
    let complete = fields.next().is_some_and(|random| !random.is_empty());
    (numeric && complete && fields.next().is_none()).then_some(server)
}

/// Whether no such process exists.
fn is_gone(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
}

/// Removes one directory if it is ours, also an empty one if `empty`; tells whether it did.
fn sweep_one(shm: &ShmDir, name: &str, service: &str, empty: bool) -> io::Result<bool> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let dir = match openat(shm.fd(), name, flags, Mode::empty()) {
        Err(Errno::ENOTDIR | Errno::ELOOP | Errno::ENOENT) => return Ok(false),
        result => result?,
    };
    if fstat(&dir)?.st_uid != geteuid().as_raw() {
        return Ok(false);
    }
    let ours = file_names(service);
    let mut is_empty = true;
    for entry in shm.path().join(name).read_dir()? {
        let file = entry?.file_name();
        if !ours.iter().any(|ours| file.to_str() == Some(ours)) {
            return Ok(false);
        }
        is_empty = false;
    }
    if is_empty && !empty {
        return Ok(false);
    }
    for file in ours {
        remove(&dir, &file, UnlinkatFlags::NoRemoveDir);
    }
    remove(shm.fd(), name, UnlinkatFlags::RemoveDir);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn leave(shm: &Path, name: &str, files: &[String]) {
        std::fs::create_dir(shm.join(name)).unwrap();
        for file in files {
            std::fs::write(shm.join(name).join(file), "x").unwrap();
        }
    }

    /// The number of a process that has ended.
    fn dead_pid() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    #[test]
    fn only_our_own_leftovers_go() {
        let temp = tempfile::tempdir().unwrap();
        let dead = dead_pid();
        let (own, alive) = (std::process::id(), std::os::unix::process::parent_id());
        let ours = file_names("svc");
        leave(temp.path(), &format!("qb-{dead}-5-9-abcdef"), &ours);
        leave(temp.path(), &format!("qb-{dead}-6-9-abcdef"), &ours[2..3]);
        leave(temp.path(), &format!("qb-{own}-5-9-abcdef"), &ours);
        leave(temp.path(), &format!("qb-{dead}-5-9-empty"), &[]);
        let kept = [
            (format!("qb-{alive}-5-9-abcdef"), ours.clone()),
            (format!("qb-{own}-5-9-empty"), vec![]),
            (format!("qb-{dead}-5-9-other"), file_names("other")),
            (format!("qb-{dead}-5-9-more"), [&ours[..], &["more".into()]].concat()),
            (format!("qb-{dead}-5-9"), ours.clone()),
            (format!("xx-{dead}-5-9-abcdef"), ours.clone()),
        ];
        for (name, files) in &kept {
            leave(temp.path(), name, files);
        }
        std::os::unix::fs::symlink(&kept[5].0, temp.path().join(format!("qb-{dead}-5-9-link"))).unwrap();
        let shm = ShmDir::open(temp.path()).unwrap();
        assert_eq!(sweep(&shm, "svc").unwrap(), 4);
        let left = temp.path().read_dir().unwrap().count();
        assert_eq!(left, kept.len() + 1);
        assert_eq!(sweep(&shm, "svc").unwrap(), 0);
    }

    #[test]
    fn names_of_other_shapes_are_not_ours() {
        assert_eq!(server_pid("qb-12-34-5-abcdef"), Some(12));
        for name in [
            "qb-12-34-5",
            "qb-12-34-5-",
            "qb--12-34-5-a",
            "qb-0-1-2-a",
            "qb-12-34-5-a-b",
            "qb-x-1-2-a",
            "12-34-5-a",
            "qb-99999999999-1-2-a",
            "",
        ] {
            assert_eq!(server_pid(name), None, "{name}");
        }
    }
}
