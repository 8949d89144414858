//! The part of the table that only the daemon has: its errors, from the operations down.

use super::ToErrno;

impl ToErrno for crate::guest_props::GuestError {
    fn to_errno(&self) -> i32 {
        match self {
            Self::Unknown(_) => libc::ENOENT,
            // As stock: there is nothing to read properties from.
            Self::EmptyConfig(_) => libc::EIO,
        }
    }
}

impl ToErrno for crate::ipc::requests::RequestError {
    fn to_errno(&self) -> i32 {
        match self {
            Self::Malformed(error) => error.to_errno(),
            Self::ReadOnly(_) | Self::Private => libc::EPERM,
            Self::NoFile | Self::NoToken => libc::ENOENT,
            Self::TooManyWaits => libc::EAGAIN,
            Self::Set(error) => error.to_errno(),
            Self::Get(error) => error.to_errno(),
            Self::Guest(error) => error.to_errno(),
        }
    }
}

impl ToErrno for crate::dcdb::Refused {
    fn to_errno(&self) -> i32 {
        match self {
            Self::Change(error) => error.to_errno(),
            Self::NoQuorum => libc::EACCES,
            Self::Incomplete => libc::EINVAL,
            Self::Malformed => libc::EPERM,
        }
    }
}

impl ToErrno for crate::dfsm::SendError {
    fn to_errno(&self) -> i32 {
        match self {
            Self::NotMember | Self::Left | Self::Partitioned | Self::SendFailed => libc::EBUSY,
            Self::TooLong => libc::EFBIG,
        }
    }
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
            Self::Memory => libc::ENOMEM,
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
            // As the stock daemon.
            Self::BadLength => libc::EINVAL,
            Self::NoMemory => libc::ENOMEM,
        }
    }
}

impl ToErrno for crate::fs::FsError {
    fn to_errno(&self) -> i32 {
        match self {
            Self::NotFound => libc::ENOENT,
            // The kernel walks the path once more, and reports what it finds then.
            Self::Stale => libc::ESTALE,
            Self::NameTooLong => libc::ENAMETOOLONG,
            Self::TooLarge => libc::EFBIG,
            Self::NotDirectory => libc::ENOTDIR,
            Self::IsDirectory => libc::EISDIR,
            Self::Generated | Self::NoQuorum => libc::EACCES,
            Self::ReadOnlyText | Self::DebugValue => libc::EIO,
            Self::FixedMode | Self::FixedOwner => libc::EPERM,
            Self::NotSupported => libc::ENOSYS,
            Self::Engine(error) => error.to_errno(),
        }
    }
}

impl ToErrno for crate::engine::EngineError {
    fn to_errno(&self) -> i32 {
        match self {
            Self::Change(error) => error.to_errno(),
            Self::Storage | Self::Closed => libc::EIO,
            Self::NoSpace => libc::ENOSPC,
            Self::Refused(error) => error.to_errno(),
            Self::Send(error) => error.to_errno(),
            Self::TimedOut => libc::ETIMEDOUT,
            // As of a change that is abandoned when the group is left: it may or may not have been made.
            Self::TreeReplaced => libc::EBUSY,
        }
    }
}

impl ToErrno for crate::memdb::ChangeError {
    fn to_errno(&self) -> i32 {
        match self {
            Self::NotFound { .. } | Self::Replaced { .. } => libc::ENOENT,
            // Stock says ENOTDIR for a write to a directory; the kernel never lets it get that far.
            Self::NotDirectory { .. } | Self::IsDirectory { .. } => libc::ENOTDIR,
            Self::Exists { .. } | Self::GuestExists { .. } => libc::EEXIST,
            Self::NotEmpty { .. } => libc::ENOTEMPTY,
            Self::BadName { .. }
            | Self::Root
            | Self::LockMoved { .. }
            | Self::LockHeld { .. }
            | Self::LockForeign { .. }
            | Self::LockChanged { .. } => libc::EACCES,
            Self::NameTooLong { .. } => libc::ENAMETOOLONG,
            Self::IntoItself { .. } => libc::EINVAL,
            Self::TooLarge { .. } => libc::EFBIG,
            Self::NoSpace { .. } | Self::NoInodes { .. } => libc::ENOSPC,
            Self::LastVersion { .. } => libc::EIO,
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
    fn refused_changes() {
        use crate::memdb::{ChangeError, GuestKind};
        let path = || "a".into();
        let table = [
            (ChangeError::NotFound { path: path() }, libc::ENOENT),
            (ChangeError::Replaced { inode: 7 }, libc::ENOENT),
            (ChangeError::NotDirectory { path: path() }, libc::ENOTDIR),
            (ChangeError::IsDirectory { path: path() }, libc::ENOTDIR),
            (ChangeError::BadName { path: path() }, libc::EACCES),
            (ChangeError::NameTooLong { len: 9 }, libc::ENAMETOOLONG),
            (ChangeError::Exists { path: path() }, libc::EEXIST),
            (
                ChangeError::GuestExists { path: path(), vmid: 1, kind: GuestKind::Lxc, node: "n".into() },
                libc::EEXIST,
            ),
            (ChangeError::NotEmpty { path: path() }, libc::ENOTEMPTY),
            (ChangeError::Root, libc::EACCES),
            (ChangeError::LockMoved { path: path() }, libc::EACCES),
            (ChangeError::LockHeld { path: path() }, libc::EACCES),
            (ChangeError::LockForeign { path: path(), holder: 1 }, libc::EACCES),
            (ChangeError::LockChanged { path: path() }, libc::EACCES),
            (ChangeError::IntoItself { from: path(), to: path() }, libc::EINVAL),
            (ChangeError::TooLarge { path: path(), end: 1 }, libc::EFBIG),
            (ChangeError::NoSpace { path: path() }, libc::ENOSPC),
            (ChangeError::NoInodes { path: path() }, libc::ENOSPC),
            (ChangeError::LastVersion { version: 1 }, libc::EIO),
        ];
        for (error, errno) in table {
            assert_eq!(error.to_errno(), errno, "{error}");
        }
    }

    #[test]
    fn mounted_tree() {
        use crate::engine::EngineError;
        use crate::fs::FsError;
        let table = [
            (FsError::NotFound, libc::ENOENT),
            (FsError::Stale, libc::ESTALE),
            (FsError::NameTooLong, libc::ENAMETOOLONG),
            (FsError::TooLarge, libc::EFBIG),
            (FsError::NotDirectory, libc::ENOTDIR),
            (FsError::IsDirectory, libc::EISDIR),
            (FsError::Generated, libc::EACCES),
            (FsError::NoQuorum, libc::EACCES),
            (FsError::ReadOnlyText, libc::EIO),
            (FsError::DebugValue, libc::EIO),
            (FsError::FixedMode, libc::EPERM),
            (FsError::FixedOwner, libc::EPERM),
            (FsError::NotSupported, libc::ENOSYS),
            (FsError::Engine(EngineError::Storage), libc::EIO),
            (FsError::Engine(EngineError::NoSpace), libc::ENOSPC),
        ];
        for (error, errno) in table {
            assert_eq!(error.to_errno(), errno, "{error}");
        }
    }

    #[test]
    fn database() {
        use crate::engine::EngineError;
        use crate::memdb::ChangeError;
        assert_eq!(EngineError::Change(ChangeError::Root).to_errno(), libc::EACCES);
        assert_eq!(EngineError::Storage.to_errno(), libc::EIO);
        assert_eq!(EngineError::NoSpace.to_errno(), libc::ENOSPC);
        assert_eq!(EngineError::Closed.to_errno(), libc::EIO);
        assert_eq!(EngineError::TreeReplaced.to_errno(), libc::EBUSY);
        assert_eq!(EngineError::Refused(crate::dcdb::Refused::NoQuorum).to_errno(), libc::EACCES);
        assert_eq!(EngineError::Send(crate::dfsm::SendError::Left).to_errno(), libc::EBUSY);
        assert_eq!(EngineError::TimedOut.to_errno(), libc::ETIMEDOUT);
    }

    #[test]
    fn groups() {
        use crate::dcdb::Refused;
        use crate::dfsm::SendError;
        assert_eq!(Refused::Change(crate::memdb::ChangeError::Root).to_errno(), libc::EACCES);
        assert_eq!(Refused::NoQuorum.to_errno(), libc::EACCES);
        assert_eq!(Refused::Incomplete.to_errno(), libc::EINVAL);
        assert_eq!(Refused::Malformed.to_errno(), libc::EPERM);
        assert_eq!(SendError::NotMember.to_errno(), libc::EBUSY);
        assert_eq!(SendError::Left.to_errno(), libc::EBUSY);
        assert_eq!(SendError::Partitioned.to_errno(), libc::EBUSY);
        assert_eq!(SendError::SendFailed.to_errno(), libc::EBUSY);
        assert_eq!(SendError::TooLong.to_errno(), libc::EFBIG);
    }

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
        use crate::guest_props::GuestError;
        use crate::ipc::requests::RequestError;
        use crate::status::{NoSuchValue, SetError};
        let table = [
            (RequestError::Malformed(ParseError::UnknownOp(9)), libc::ECHRNG),
            (RequestError::ReadOnly(Op::SetStatus), libc::EPERM),
            (RequestError::Private, libc::EPERM),
            (RequestError::NoFile, libc::ENOENT),
            (RequestError::NoToken, libc::ENOENT),
            (RequestError::TooManyWaits, libc::EAGAIN),
            (RequestError::Set(SetError::ValueTooLong(32769)), libc::EFBIG),
            (RequestError::Get(NoSuchValue), libc::ENOENT),
            (RequestError::Guest(GuestError::Unknown(100)), libc::ENOENT),
            (RequestError::Guest(GuestError::EmptyConfig(100)), libc::EIO),
        ];
        for (error, errno) in table {
            assert_eq!(error.to_errno(), errno, "{error}");
        }
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
        assert_eq!(Refused::Memory.to_errno(), libc::ENOMEM);
        let full = std::io::Error::from_raw_os_error(libc::ENOSPC);
        assert_eq!(Refused::Setup(full).to_errno(), libc::ENOSPC);
        let other = std::io::Error::other("text");
        assert_eq!(Refused::Setup(other).to_errno(), libc::EIO);
        assert_eq!(Unanswered::Panicked.to_errno(), libc::EIO);
        assert_eq!(Unanswered::TooLong.to_errno(), libc::ENOBUFS);
        assert_eq!(Unanswered::BadLength.to_errno(), libc::EINVAL);
        assert_eq!(Unanswered::NoMemory.to_errno(), libc::ENOMEM);
    }
}
