//! The one table from typed errors to errnos. An errno is protocol: Perl and C clients act on it.
//!
//! Each `match` is exhaustive, so a new error does not compile until its errno is chosen here.

#[cfg(feature = "daemon")]
mod daemon;

/// What a daemon answers to a request with a number that it does not know.
pub const UNKNOWN_REQUEST: i32 = libc::ECHRNG;

/// What a system call says that a signal interrupted.
#[cfg(feature = "daemon")]
pub(crate) const INTERRUPTED: nix::errno::Errno = nix::errno::Errno::EINTR;

/// A typed error that has an errno outside.
pub trait ToErrno {
    /// The positive errno a caller of the file system or of the IPC service sees.
    fn to_errno(&self) -> i32;
}

impl ToErrno for crate::ipc::qb::client::ClientError {
    fn to_errno(&self) -> i32 {
        match self {
            Self::Refused(errno) => *errno,
            Self::NotConnected => libc::ENOTCONN,
            Self::TimedOut => libc::ETIMEDOUT,
            Self::Busy => libc::EAGAIN,
            Self::TooLong => libc::EMSGSIZE,
            Self::NoMemory => libc::ENOMEM,
            Self::Untrusted(_) => libc::EPERM,
            Self::Unsupported(_) => libc::ENOTSUP,
            Self::Protocol(_) => libc::EBADMSG,
            Self::Io(error) => error.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

impl ToErrno for crate::ipc::calls::BadArgument {
    fn to_errno(&self) -> i32 {
        match self {
            Self::TooLong { .. } => libc::ENAMETOOLONG,
            Self::Count(_) | Self::Nul(_) => libc::EINVAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ToErrno;

    #[test]
    fn ipc_client() {
        use crate::ipc::qb::client::ClientError;
        use crate::ipc::server::Peer;
        let rows = [
            (ClientError::Refused(libc::EACCES), libc::EACCES),
            (ClientError::NotConnected, libc::ENOTCONN),
            (ClientError::TimedOut, libc::ETIMEDOUT),
            (ClientError::Busy, libc::EAGAIN),
            (ClientError::TooLong, libc::EMSGSIZE),
            (ClientError::Untrusted(Peer { pid: 1, uid: 33, gid: 33 }), libc::EPERM),
            (ClientError::Unsupported(0), libc::ENOTSUP),
            (ClientError::Protocol("x"), libc::EBADMSG),
            (ClientError::Io(std::io::Error::from_raw_os_error(libc::ENOENT)), libc::ENOENT),
            (ClientError::Io(std::io::Error::other("x")), libc::EIO),
        ];
        for (error, errno) in rows {
            assert_eq!(error.to_errno(), errno, "{error}");
        }
    }

    #[test]
    fn arguments() {
        use crate::ipc::calls::BadArgument;
        assert_eq!(BadArgument::TooLong { what: "ident", max: 254 }.to_errno(), libc::ENAMETOOLONG);
        assert_eq!(BadArgument::Count(0).to_errno(), libc::EINVAL);
        assert_eq!(BadArgument::Nul("path").to_errno(), libc::EINVAL);
    }
}
