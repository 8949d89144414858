//! The one table from typed errors to errnos. An errno is protocol: Perl and C clients act on it.
//!
//! Each `match` is exhaustive, so a new error does not compile until its errno is chosen here.

/// A typed error that has an errno outside.
pub trait ToErrno {
    /// The positive errno a caller of the file system or of the IPC service sees.
    fn to_errno(&self) -> i32;
}

impl ToErrno for crate::ipc::requests::parse::ParseError {
    fn to_errno(&self) -> i32 {
        match self {
            Self::UnknownOp(_) => libc::ECHRNG,
            Self::Trailing(_)
            | Self::Short(_)
            | Self::LogMessage
            | Self::Vmid(_)
            | Self::Properties(_)
            | Self::Token => libc::EINVAL,
        }
    }
}

impl ToErrno for crate::ipc::server::Refused {
    fn to_errno(&self) -> i32 {
        match self {
            Self::Stranger => libc::EACCES,
            Self::TooMany => libc::EAGAIN,
            Self::Setup(error) => error.raw_os_error().unwrap_or(libc::EIO),
        }
    }
}

impl ToErrno for crate::ipc::server::Unanswered {
    fn to_errno(&self) -> i32 {
        match self {
            Self::Panicked => libc::EIO,
            // What libqb's client reports itself for an answer longer than its buffer.
            Self::TooLong => libc::ENOBUFS,
        }
    }
}

impl ToErrno for crate::status::SetError {
    fn to_errno(&self) -> i32 {
        match self {
            Self::NameTooLong(_) => libc::EINVAL,
            Self::ValueTooLong(_) => libc::EFBIG,
            // Stock has one answer for whatever it did not take.
            Self::NotAnAddress | Self::NotAnRrdValue => libc::ENOMEM,
        }
    }
}

impl ToErrno for crate::status::NoSuchValue {
    fn to_errno(&self) -> i32 {
        libc::ENOENT
    }
}

#[cfg(test)]
mod tests {
    use super::ToErrno;
    use crate::ipc::ops::Op;
    use crate::ipc::requests::parse::{Guests, ParseError};
    use crate::ipc::server::{Refused, Unanswered};

    #[test]
    fn status() {
        use crate::status::{NoSuchValue, SetError};
        assert_eq!(SetError::NameTooLong(256).to_errno(), libc::EINVAL);
        assert_eq!(SetError::ValueTooLong(32769).to_errno(), libc::EFBIG);
        assert_eq!(SetError::NotAnAddress.to_errno(), libc::ENOMEM);
        assert_eq!(SetError::NotAnRrdValue.to_errno(), libc::ENOMEM);
        assert_eq!(NoSuchValue.to_errno(), libc::ENOENT);
    }

    #[test]
    fn requests() {
        assert_eq!(ParseError::UnknownOp(9).to_errno(), libc::ECHRNG);
        for malformed in [
            ParseError::Trailing(Op::GetFsVersion),
            ParseError::Short(Op::SetStatus),
            ParseError::LogMessage,
            ParseError::Vmid(99),
            ParseError::Properties(Guests::All),
            ParseError::Token,
        ] {
            assert_eq!(malformed.to_errno(), libc::EINVAL);
        }
    }

    #[test]
    fn ipc() {
        assert_eq!(Refused::Stranger.to_errno(), libc::EACCES);
        assert_eq!(Refused::TooMany.to_errno(), libc::EAGAIN);
        let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(Refused::Setup(full).to_errno(), libc::ENOSPC);
        let other = std::io::Error::other("text");
        assert_eq!(Refused::Setup(other).to_errno(), libc::EIO);
        assert_eq!(Unanswered::Panicked.to_errno(), libc::EIO);
        assert_eq!(Unanswered::TooLong.to_errno(), libc::ENOBUFS);
    }
}
