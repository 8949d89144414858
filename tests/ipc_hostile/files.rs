//! Clients that damage the files of their connections, or take all the memory for them.

use super::raw::RawClient;
use super::support::*;
use super::{against, against_with, assert_served};
use pmxcfs::errno::ToErrno;
use pmxcfs::ipc::qb::wire::ring_header;
use std::os::unix::fs::FileExt;

#[test]
fn truncates_each_file() {
    against(|server| {
        for (file, len) in (0..6).flat_map(|file| [0, 4096, 8200].map(|len| (file, len))) {
            let mut client = RawClient::connect(&server.name);
            assert_served(&mut client);
            client.files()[file].set_len(len).unwrap();
            match file {
                0 => client.ring_bell(),
                1 => {
                    client.post();
                    client.ring_bell();
                }
                _ => client.send(ECHO, b"x"),
            }
            // The semaphore of a header is on its third page; the first page of the data is in use.
            let needed = [8192, 1, 8192, 1, 0, 0][file];
            if len < needed {
                client.expect_hangup();
            }
        }
    });
}

#[test]
fn truncates_while_an_answer_is_written() {
    against(|server| {
        for _ in 0..30 {
            let mut client = RawClient::connect(&server.name);
            client.send(LENGTH, &1_000_000u32.to_ne_bytes());
            // Sometimes before, sometimes within, sometimes after the copy.
            client.responses.data.set_len(4096).unwrap();
            client.ring_bell();
            client.responses.header.set_len(0).unwrap();
            client.requests.header.set_len(0).unwrap();
            client.ring_bell();
            client.expect_hangup();
        }
    });
}

#[test]
fn truncates_and_leaves() {
    against(|server| {
        for _ in 0..20 {
            let client = RawClient::connect(&server.name);
            client.files().iter().for_each(|file| file.set_len(0).unwrap());
            client.hang_up();
        }
    });
}

#[test]
fn names_other_files_in_the_header() {
    let victim = tempfile::NamedTempFile::new().unwrap();
    let path = [victim.path().as_os_str().as_encoded_bytes(), b"\0"].concat();
    against(|server| {
        let mut client = RawClient::connect(&server.name);
        for file in [&client.requests, &client.responses, &client.events] {
            file.header.write_all_at(&path, ring_header::HEADER_PATH as u64).unwrap();
            file.header.write_all_at(&path, ring_header::DATA_PATH as u64).unwrap();
        }
        assert_served(&mut client);
        client.hang_up();
    });
    assert!(victim.path().exists());
}

/// A file system of its own for shared memory; unmounted when dropped.
struct SmallTmpfs(tempfile::TempDir);

impl SmallTmpfs {
    fn mount(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={size},mode=1777");
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(dir.path())
            .status();
        assert!(mount.unwrap().success());
        Self(dir)
    }
}

impl Drop for SmallTmpfs {
    fn drop(&mut self) {
        let umount = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
        assert!(umount.is_ok_and(|status| status.success()));
    }
}

/// The files are sparse. libqb's client allocates them and fails if it cannot; where a client does
/// not care, the server finds out when it writes.
#[test]
fn takes_all_the_shared_memory() {
    let tmpfs = SmallTmpfs::mount("6M");
    against_with(
        |options| options.shm_dir = tmpfs.0.path().into(),
        |server| {
            // The well-behaved client has allocated what it needs by then.
            eventually("it is served", || {
                let dirs = entries(tmpfs.0.path()).into_iter().map(|dir| tmpfs.0.path().join(dir));
                let mut headers = dirs.map(|dir| dir.join(format!("qb-request-{}-header", server.name)));
                let written = |header: Vec<u8>| header.get(..4).is_some_and(|index| index != [0; 4]);
                headers.any(|header| std::fs::read(header).is_ok_and(written))
            });
            let filler = std::fs::File::create(tmpfs.0.path().join("filler")).unwrap();
            let full = (0..).find(|page| filler.write_all_at(&[1; 4096], page * 4096).is_err()).unwrap();
            // Room for the headers and the first pages of the rings only.
            filler.set_len((full - 20) * 4096).unwrap();
            let mut client = RawClient::connect(&server.name);
            assert_served(&mut client);
            client.send(LENGTH, &1_000_000u32.to_ne_bytes());
            client.expect_hangup();
            let refused = try_connect_as_libqb(&server.name).map(drop).map_err(|e| e.to_errno());
            assert_eq!(refused, Err(libc::ENOSPC));
            // Ours needs none of it.
            assert_echo(&mut server.connect(), &[7; 1_000_000]);
            drop(filler);
            std::fs::remove_file(tmpfs.0.path().join("filler")).unwrap();
        },
    );
}
