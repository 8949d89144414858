//! Process that holds a service's address, for messages to admins. Any local user can bind an abstract
//! address. So a daemon that cannot bind it, or a client that does not trust the server, reports the process,
//! its user and its program.
//!
//! User and process come from the kernel. The program is a hint: a process chooses its own name, and only a
//! debugger may read the path of its executable.

use super::address::{Address, Namespace};
use crate::ipc::server::Peer;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, connect, getsockopt, socket, sockopt::PeerCredentials,
};
use nix::unistd::geteuid;
use std::fmt;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A process that holds an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Process, user and group. The process is 0 if it is outside of this PID namespace.
    pub process: Peer,
    /// Path of the executable, or the name that the process chose; `None` if it has ended.
    pub program: Option<String>,
}

impl Holder {
    /// Process that listens at the other end of a connected socket.
    pub(crate) fn of_socket(socket: &impl AsFd) -> nix::Result<Self> {
        Ok(Self::of_process(listener_of(socket)?))
    }

    /// This process, with its program.
    pub fn of_process(process: Peer) -> Self {
        let dir = PathBuf::from(format!("/proc/{}", process.pid));
        let path = fs::read_link(dir.join("exe")).map(|path| path.to_string_lossy().into_owned());
        let name = || fs::read_to_string(dir.join("comm")).map(|name| name.trim_end().to_owned());
        Self { process, program: path.or_else(|_| name()).ok() }
    }

    /// Finds the process that holds the address of `service`: by a connection, or by its open files if the
    /// process does not accept any. The latter needs the rights of a debugger for processes of other users.
    pub fn find(service: &str, namespace: &Namespace) -> Option<Self> {
        Self::at(&Address::new(service, namespace))
    }

    pub(crate) fn at(address: &Address) -> Option<Self> {
        by_connection(address).or_else(|| by_open_files(address))
    }

    /// Whether clients of this project would accept it as a server: root, or their own user.
    pub fn is_trusted(&self) -> bool {
        is_trusted(self.process.uid)
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process.pid {
            0 => write!(f, "a process of another PID namespace")?,
            pid => write!(f, "process {pid}")?,
        }
        if let Some(program) = &self.program {
            write!(f, " ({program})")?;
        }
        write!(f, " of user {}", self.process.uid)
    }
}

/// Whether a server of this user is accepted by clients: root, or the client's own user.
pub(crate) fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// Process that called `listen` for the socket at the other end of a connection, as recorded by the kernel.
pub(crate) fn listener_of(socket: &impl AsFd) -> nix::Result<Peer> {
    let from = getsockopt(socket, PeerCredentials)?;
    Ok(Peer { pid: from.pid(), uid: from.uid(), gid: from.gid() })
}

fn by_connection(address: &Address) -> Option<Holder> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).ok()?;
    connect(socket.as_raw_fd(), &address.to_nix().ok()?).ok()?;
    Holder::of_socket(&socket).ok()
}

fn by_open_files(address: &Address) -> Option<Holder> {
    let inode = bound_socket(&fs::read("/proc/net/unix").ok()?, address)?;
    let link = PathBuf::from(format!("socket:[{inode}]"));
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        Some((entry.file_name().to_str()?.parse::<i32>().ok()?, entry.path()))
    });
    processes.into_iter().find_map(|(pid, dir)| {
        let files = fs::read_dir(dir.join("fd")).ok()?;
        let mut targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        targets.any(|target| target == link).then_some(())?;
        let owner = fs::metadata(&dir).ok()?;
        Some(Holder::of_process(Peer { pid, uid: owner.uid(), gid: owner.gid() }))
    })
}

/// Inode of the socket that is bound to an address, from the kernel's table of sockets.
fn bound_socket(table: &[u8], address: &Address) -> Option<u64> {
    let wanted = match address {
        // The table shows each NUL of an abstract address as an at sign, including the first one.
        Address::Abstract(name) => {
            let shown = name.iter().map(|&byte| if byte == 0 { b'@' } else { byte });
            std::iter::once(b'@').chain(shown).collect()
        }
        Address::File(path) => Path::new(path).as_os_str().as_bytes().to_vec(),
    };
    // Connected sockets of a server have its address, too, with state 03. A socket that listens or is only
    // bound has state 01.
    table.split(|&byte| byte == b'\n').find_map(|line| {
        let mut fields = line.split(|&byte| byte == b' ').filter(|field| !field.is_empty()).skip(5);
        let (state, inode, name) = (fields.next()?, fields.next()?, fields.next()?);
        let found = state == b"01" && name == wanted;
        found.then(|| std::str::from_utf8(inode).ok()?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::bind;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    fn address() -> (String, Address) {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("pmxcfs-holder-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let address = Address::new(&name, &Namespace::Abstract);
        (name, address)
    }

    fn assert_is_this_process(holder: &Holder) {
        assert_eq!(holder.process.pid as u32, std::process::id());
        assert_eq!(holder.process.uid, nix::unistd::getuid().as_raw());
        let program = std::env::current_exe().unwrap();
        assert_eq!(holder.program.as_deref(), program.to_str());
        assert!(holder.is_trusted());
        let user = format!("({}) of user {}", program.display(), holder.process.uid);
        assert!(holder.to_string().ends_with(&user), "{holder}");
    }

    #[test]
    fn listening_holder_found_by_connection() {
        let (name, address) = address();
        assert_eq!(Holder::find(&name, &Namespace::Abstract), None);
        let _listener = UnixListener::bind_addr(&address.to_std().unwrap()).unwrap();
        assert_is_this_process(&by_connection(&address).unwrap());
        assert_is_this_process(&by_open_files(&address).unwrap());
    }

    #[test]
    fn bound_holder_found_by_its_open_files() {
        let (name, address) = address();
        let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(socket.as_raw_fd(), &address.to_nix().unwrap()).unwrap();
        assert_eq!(by_connection(&address), None, "it does not listen");
        assert_is_this_process(&Holder::find(&name, &Namespace::Abstract).unwrap());
        // A name with the same beginning is another address.
        let short = SocketAddr::from_abstract_name(&name).unwrap();
        let _other = UnixListener::bind_addr(&short).unwrap();
        drop(socket);
        assert_eq!(Holder::find(&name, &Namespace::Abstract), None);
    }

    #[test]
    fn other_users_are_not_trusted() {
        let process = Peer { pid: 0, uid: 54321, gid: 54321 };
        let holder = Holder { process, program: None };
        assert!(!holder.is_trusted());
        assert_eq!(holder.to_string(), "a process of another PID namespace of user 54321");
    }
}
