//! The answers of servers to a client that asks for a connection of our own: what is not right is refused,
//! and none of the memory that came along is kept.

use super::fake::{FakeServer, say_with, until_left};
use super::support::run;
use nix::sys::memfd::{MFdFlags, memfd_create};
use pmxcfs::errno::ToErrno;
use pmxcfs::ipc::qb::client::ConnectOptions;
use pmxcfs::ipc::qb::own::Answer;
use pmxcfs::ipc::qb::wire::AuthResponse;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Memory of a length, sealed or not.
pub fn memory(len: usize, seals: i32) -> File {
    let file = File::from(memfd_create(c"test", MFdFlags::MFD_ALLOW_SEALING).unwrap());
    file.set_len(len as u64).unwrap();
    let seals = nix::fcntl::SealFlag::from_bits_retain(seals);
    nix::fcntl::fcntl(&file, nix::fcntl::FcntlArg::F_ADD_SEALS(seals)).unwrap();
    file
}

fn read_only(file: &File) -> File {
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap()
}

/// What a server of ours says.
pub const ANSWER: Answer =
    Answer { max_message_size: 1 << 20, requests_len: 4096 - 512, answers_len: 4096, long_len: 65536 };
/// How much memory that is.
pub const END: usize = 4096 + 4096 + 2 * 65536;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Runs only in the process that [`a_server_sends_what_it_should_not`] starts, which has no other threads
/// that open files.
#[test]
fn handshakes_process() {
    if std::env::var_os("PMXCFS_TEST_HANDSHAKES").is_none() {
        return;
    }
    let good = || memory(END, libc::F_SEAL_SHRINK);
    let encoded = ANSWER.encode().to_vec();
    let libqb = AuthResponse::refusal(libc::EACCES).encode().unwrap();
    let changed = |at: usize, value: u8| {
        let mut bytes = encoded.clone();
        bytes[at] = value;
        bytes
    };
    type Case = (&'static str, Vec<u8>, Vec<File>);
    let cases: Vec<Case> = vec![
        ("no memory", encoded.clone(), vec![]),
        ("two memories", encoded.clone(), vec![good(), good()]),
        ("many", encoded.clone(), (0..200).map(|_| good()).collect()),
        ("memory that could be cut", encoded.clone(), vec![memory(END, 0)]),
        ("too short", encoded.clone(), vec![memory(END - 1, libc::F_SEAL_SHRINK)]),
        ("too long", encoded.clone(), vec![memory(END + 1, libc::F_SEAL_SHRINK)]),
        ("memory that may only be read", encoded.clone(), vec![read_only(&good())]),
        ("no memory at all", encoded.clone(), vec![File::open("/dev/null").unwrap()]),
        ("a file", encoded.clone(), vec![tempfile::tempfile().unwrap()]),
        ("more bytes", [&encoded[..], &[0]].concat(), vec![good()]),
        ("fewer bytes", encoded[..43].to_vec(), vec![good()]),
        ("another length", changed(8, 45), vec![good()]),
        ("a ring of no length", changed(33, 0), vec![good()]),
        ("an odd ring", changed(32, 1), vec![good()]),
        ("a huge ring", changed(39, 0xff), vec![good()]),
        ("huge long rings", changed(43, 0xff), vec![good()]),
        ("no long rings", changed(42, 0), vec![good()]),
        ("another version", changed(20, 0), vec![good()]),
        ("without the mark", changed(4, 0), vec![good()]),
        ("an error", changed(16, 1), vec![good()]),
        ("that of libqb, with memory", libqb, vec![good()]),
    ];
    let server = FakeServer::start(1 << 20, Duration::from_millis(100));
    let before = open_descriptors();
    for (what, bytes, files) in &cases {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let client = server.accept();
                say_with(&client, bytes, &files.iter().collect::<Vec<_>>());
                until_left(&client);
            });
            let error = server.connect().unwrap_err();
            let allowed = [libc::EBADMSG, libc::ETIMEDOUT, libc::EACCES];
            assert!(allowed.contains(&error.to_errno()), "{what}: {error}");
        });
        assert_eq!(open_descriptors(), before, "{what}");
    }
    let good = good();
    let cut_off = |marked: bool| {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let client = server.accept();
                say_with(&client, &encoded, &[&good]);
                until_left(&client);
            });
            let options = ConnectOptions { as_libqb: !marked, ..server.options.clone() };
            server.connect_with(&options).map(drop).map_err(|error| error.to_errno())
        })
    };
    assert_eq!(cut_off(true), Ok(()), "what is right is taken");
    assert_eq!(cut_off(false), Err(libc::EBADMSG), "but not by who has not asked for it");
    println!("\nall refused");
}

#[test]
fn a_server_sends_what_it_should_not() {
    let program = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(program);
    command
        .args(["--exact", "handshakes::handshakes_process", "--nocapture"])
        .env("PMXCFS_TEST_HANDSHAKES", "1");
    assert!(run(&mut command).contains("\nall refused\n"));
}
