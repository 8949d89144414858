//! Where a service's setup socket is. libqb binds an abstract address, or a socket file if an
//! admin asked for that on the whole machine; client and server must agree.

use nix::sys::socket::UnixAddr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

/// libqb uses socket files if this file exists.
const FORCE_FILESYSTEM: &str = "/etc/libqb/force-filesystem-sockets";
/// Where Debian's libqb has its socket files; a build option of libqb.
const SOCKET_DIR: &str = "/tmp";
/// libqb passes the whole `sockaddr_un`, so the NULs behind the name are part of it.
const ABSTRACT_LEN: usize = 107;
/// libqb cuts longer names.
const NAME_MAX: usize = 106;

/// How a service's name becomes an address.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Namespace {
    /// As libqb of this machine decides.
    #[default]
    Machine,
    /// An abstract address.
    Abstract,
    /// A socket file in this directory.
    Directory(PathBuf),
}

/// A resolved address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Abstract(Vec<u8>),
    File(PathBuf),
}

impl Address {
    /// The address of `service`.
    pub(crate) fn new(service: &str, namespace: &Namespace) -> Self {
        match namespace {
            Namespace::Directory(directory) => Self::File(directory.join(service)),
            Namespace::Machine if Path::new(FORCE_FILESYSTEM).exists() => {
                Self::File(Path::new(SOCKET_DIR).join(service))
            }
            Namespace::Machine | Namespace::Abstract => {
                let mut name = service.as_bytes().to_vec();
                name.truncate(NAME_MAX);
                name.resize(ABSTRACT_LEN, 0);
                Self::Abstract(name)
            }
        }
    }

    /// To listen on.
    pub(crate) fn to_std(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Abstract(name) => SocketAddr::from_abstract_name(name),
            Self::File(path) => SocketAddr::from_pathname(path),
        }
    }

    /// To connect to without blocking.
    pub(crate) fn to_nix(&self) -> nix::Result<UnixAddr> {
        match self {
            Self::Abstract(name) => UnixAddr::new_abstract(name),
            Self::File(path) => UnixAddr::new(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::SockaddrLike;

    #[test]
    fn the_abstract_address_has_libqbs_length() {
        for service in ["pve2", &"x".repeat(200)] {
            let address = Address::new(service, &Namespace::Abstract);
            assert_eq!(address.to_nix().unwrap().len(), 110);
            let std = address.to_std().unwrap();
            let name = std.as_abstract_name().unwrap();
            assert_eq!(name.len(), 107);
            assert_eq!(name[106], 0);
        }
    }

    #[test]
    fn a_socket_file_is_named_after_the_service() {
        let namespace = Namespace::Directory("/somewhere".into());
        let address = Address::new("pve2", &namespace);
        assert_eq!(address, Address::File("/somewhere/pve2".into()));
    }
}
