//! From the tree's values to fuser's, and what every answer has in common: errors become errnos in one
//! place, and a panic becomes an I/O error for the one request.

use crate::clock;
use crate::errno::ToErrno;
use crate::fs::{Attr, FsError, Kind};
use fuser::{Errno, FileAttr, FileType, Generation, INodeNo};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `st_blksize` says.
const IO_SIZE: u32 = 4096;

/// Runs the work of one request. If it panics, the answer that it owned is dropped, which fuser
/// sends as an I/O error, and the loop goes on.
pub(super) fn guarded(what: &str, work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        log::error!(target: "fuse", "{what} panicked and failed with an I/O error; please report this");
    }
}

/// An answer that can be an error.
pub(super) trait Refuse {
    fn refuse(self, errno: Errno);
}

macro_rules! refuse {
    ($($reply:ident),*) => { $(
        impl Refuse for fuser::$reply {
            fn refuse(self, errno: Errno) {
                self.error(errno);
            }
        }
    )* };
}

refuse!(
    ReplyAttr,
    ReplyBmap,
    ReplyCreate,
    ReplyData,
    ReplyDirectory,
    ReplyDirectoryPlus,
    ReplyEmpty,
    ReplyEntry,
    ReplyIoctl,
    ReplyLock,
    ReplyLseek,
    ReplyOpen,
    ReplyPoll,
    ReplyWrite,
    ReplyXattr
);

/// Answers with what the operation gave, or with its errno.
pub(super) fn answer<T, R: Refuse>(
    what: &str,
    result: Result<T, FsError>,
    reply: R,
    accept: impl FnOnce(R, T),
) {
    match result {
        Ok(value) => accept(reply, value),
        Err(error) => {
            log::debug!(target: "fuse", "{what}: {error}");
            reply.refuse(Errno::from_i32(error.to_errno()));
        }
    }
}

/// A node's attributes as fuser has them.
pub(super) fn file_attr(attr: &Attr) -> FileAttr {
    let time = clock::to_system(attr.mtime);
    FileAttr {
        ino: INodeNo(attr.ino),
        size: attr.size,
        blocks: attr.blocks(),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(attr.kind),
        perm: attr.permissions,
        nlink: attr.links,
        uid: 0,
        gid: attr.gid,
        rdev: 0,
        blksize: IO_SIZE,
        flags: 0,
    }
}

pub(super) fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::Directory => FileType::Directory,
        Kind::File => FileType::RegularFile,
        Kind::Symlink => FileType::Symlink,
    }
}

pub(super) fn generation(attr: &Attr) -> Generation {
    Generation(attr.incarnation)
}

/// The entry that says: there is no such name, and this may be relied upon.
pub(super) fn absent() -> FileAttr {
    let time = clock::to_system(0);
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::guarded;

    #[test]
    fn a_panic_ends_with_the_work() {
        let mut after = false;
        guarded("test", || panic!("on purpose"));
        guarded("test", || after = true);
        assert!(after);
    }
}
