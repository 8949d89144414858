//! A server whose every word to a client a test chooses.
#![allow(dead_code, reason = "each test program uses its own part of it")]

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg, setsockopt, sockopt};
use pmxcfs::ipc::qb::Namespace;
use pmxcfs::ipc::qb::client::{Client, ClientError, ConnectOptions};
use pmxcfs::ipc::qb::wire::AUTH_REQUEST_LEN;
use std::fs::File;
use std::io::{IoSlice, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

/// Its setup socket, as a socket file.
pub struct FakeServer {
    /// What a client connects with.
    pub options: ConnectOptions,
    listener: UnixListener,
    _dir: TempDir,
}

impl FakeServer {
    pub fn start(max_message_size: u32, timeout: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = listen(dir.path());
        let namespace = Namespace::Directory(dir.path().into());
        let options = ConnectOptions { namespace, max_message_size, timeout: Some(timeout), as_libqb: false };
        Self { options, listener, _dir: dir }
    }

    /// The next client, once it has asked for a connection.
    pub fn accept(&self) -> UnixStream {
        accept(&self.listener)
    }

    pub fn connect(&self) -> Result<Client, ClientError> {
        self.connect_with(&self.options)
    }

    pub fn connect_with(&self, options: &ConnectOptions) -> Result<Client, ClientError> {
        Client::connect_with("server", options)
    }
}

/// The setup socket of such a server in a directory.
pub fn listen(dir: &Path) -> UnixListener {
    let listener = UnixListener::bind(dir.join("server")).unwrap();
    setsockopt(&listener, sockopt::PassCred, &true).unwrap();
    listener
}

pub fn accept(listener: &UnixListener) -> UnixStream {
    let (mut client, _) = listener.accept().unwrap();
    client.read_exact(&mut [0; AUTH_REQUEST_LEN]).unwrap();
    client
}

/// Sends descriptors along. The client may have left.
pub fn say_with(socket: &UnixStream, bytes: &[u8], files: &[&File]) {
    let fds: Vec<i32> = files.iter().map(|file| file.as_raw_fd()).collect();
    let control = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &control[..] };
    let _ = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None);
}

/// Until the client is gone, by whichever word.
pub fn until_left(mut client: &UnixStream) {
    while matches!(client.read(&mut [0; 64]), Ok(1..)) {}
}
