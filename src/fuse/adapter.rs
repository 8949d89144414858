//! The requests of the kernel, one method each: take the numbers and bytes out, ask [`Fs`], answer.
//! Answers that have to wait move into the closure that is called when the work is done, so an event
//! loop never waits for the disk.

use super::hooks::Hooks;
use super::invalidate::Invalidate;
use super::reply::{Refuse, absent, answer, file_attr, file_type, generation, guarded};
use crate::clock;
use crate::counts::KernelRequest;
use crate::fs::{
    Attr, CacheRules, Caching, Fs, FsError, LateReplies, Lifetime, Opened, Outcome, SetAttr, StalePages,
    Write,
};
use crate::memdb::NAME_BYTES_MAX;
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, FileHandle, Filesystem, FopenFlags, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags,
    ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, Version, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The kernel interface of Linux 6.14, the first that takes names of up to [`NAME_BYTES_MAX`] bytes.
const LONG_NAMES: Version = Version(7, 42);

/// What is asked of the kernel beyond fuser's defaults, each on its own, since older ones lack some.
///
/// Not `FUSE_ATOMIC_O_TRUNC`, which would save a request: the kernel then sets the size to 0 a second
/// time, under its own lock, after the open was answered, and a write of another process that came in
/// between would seem lost for as long as attributes are cached.
const CAPABILITIES: [InitFlags; 3] = [
    // Attributes come with every listing: whoever lists, looks.
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
];

/// The handle of database files. They need none: a number says which file it is.
const NO_HANDLE: FileHandle = FileHandle(0);

/// The file system as fuser calls it.
#[derive(Debug)]
pub(super) struct Adapter {
    fs: Arc<Fs>,
    invalidate: Invalidate,
    lifetime: Duration,
    hooks: Hooks,
    /// Longest write in one request, in bytes.
    write_bytes_max: u32,
}

impl Adapter {
    pub(super) fn new(
        fs: Arc<Fs>,
        invalidate: Invalidate,
        lifetime: Duration,
        hooks: Hooks,
        rules: CacheRules,
    ) -> Self {
        Self { fs, invalidate, lifetime, hooks, write_bytes_max: rules.write_bytes_max() }
    }

    /// Counts a request and does its work.
    fn serve(&self, request: KernelRequest, work: impl FnOnce()) {
        self.fs.counts().requests(request).one();
        guarded(request.name(), work);
    }

    /// The answer to what this file system does not have. The kernel remembers most of these.
    fn refuse(&self, reply: impl Refuse) {
        self.fs.counts().requests(KernelRequest::Refused).one();
        answer("request", Err::<(), _>(FsError::NotSupported), reply, |_, ()| ());
    }

    fn lifetime_of(&self, attr: &Attr) -> Duration {
        match attr.lifetime {
            Lifetime::UntilInvalidated => self.lifetime,
            Lifetime::Volatile => Duration::ZERO,
        }
    }

    /// The result of an operation by path. If its inode was removed, the kernel walks the path once more; after
    /// that, the operation has the result of `last`.
    fn by_path<T>(
        &self,
        request: &Request,
        ino: INodeNo,
        result: Result<T, FsError>,
        last: impl FnOnce() -> Result<T, FsError>,
    ) -> Result<T, FsError> {
        match result {
            Err(FsError::Stale) if self.fs.is_final(request.pid(), ino.0) => last(),
            result => result,
        }
    }

    /// Asynchronous variant of [`Self::by_path`]: wraps a closure that replies to the request, from any thread.
    fn finish_by_path<T: Send + 'static>(
        &self,
        request: &Request,
        ino: INodeNo,
        finish: impl FnOnce(Outcome<T>) + Send + 'static,
        last: impl FnOnce(&Fs) -> Result<T, FsError> + Send + 'static,
    ) -> impl FnOnce(Outcome<T>) + Send + 'static {
        let (fs, thread) = (Arc::clone(&self.fs), request.pid());
        move |mut outcome: Outcome<T>| {
            if outcome.result.as_ref().is_err_and(|error| *error == FsError::Stale)
                && fs.is_final(thread, ino.0)
            {
                outcome.result = last(&fs);
            }
            finish(outcome);
        }
    }

    /// Sends a reply with the attributes of these nodes: immediately, or after their pages were invalidated
    /// if that is pending.
    fn after_pages(&self, mut nodes: Vec<u64>, reply: impl FnOnce() + Send + 'static) {
        nodes.retain(|ino| self.fs.has_pending_pages(*ino));
        let Some(last) = nodes.pop() else { return reply() };
        let mut reply: Box<dyn FnOnce() + Send> = Box::new(reply);
        for ino in nodes {
            let (invalidate, next) = (self.invalidate.clone(), reply);
            reply = Box::new(move || invalidate.before_reply(StalePages { ino, tail: None }, next));
        }
        let last = StalePages { ino: last, tail: None };
        self.invalidate.before_reply(last, Box::new(move || guarded("reply", reply)));
    }

    /// A closure that answers a request with an entry, from whatever thread.
    fn entry(&self) -> impl FnOnce(ReplyEntry, Attr) + Send + 'static {
        let lifetime = self.lifetime;
        move |reply, attr| reply.entry(&lifetime, &file_attr(&attr), generation(&attr))
    }

    /// A closure that answers a request. What the kernel cannot know from the answer is queued first,
    /// so that who was answered can wait for the queue; the queue itself waits for requests.
    fn finish<T: Send + 'static, R: Refuse + Send + 'static>(
        &self,
        what: &'static str,
        reply: R,
        accept: impl FnOnce(R, T) + Send + 'static,
    ) -> impl FnOnce(Outcome<T>) + Send + 'static {
        let invalidate = self.invalidate.clone();
        move |outcome: Outcome<T>| {
            guarded(what, || {
                invalidate.queue(&outcome.invalidations);
                let reply = move || answer(what, outcome.result, reply, accept);
                match outcome.stale_pages {
                    Some(stale) => invalidate.before_reply(stale, Box::new(move || guarded(what, reply))),
                    None => reply(),
                }
            });
        }
    }
}

fn opened_for_writing(flags: OpenFlags) -> bool {
    flags.acc_mode() != OpenAccMode::O_RDONLY
}

/// How the kernel may treat an opened file. Readers need no flush at close; that of writers waits for
/// the commit.
fn open_flags(writing: bool, caching: Caching) -> FopenFlags {
    let cached = match caching {
        Caching::Pages => FopenFlags::FOPEN_KEEP_CACHE,
        // The kernel keeps the pages of other descriptors of the file.
        Caching::Bypass => FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_DIRECT_IO,
    };
    if writing { cached } else { cached | FopenFlags::FOPEN_NOFLUSH }
}

/// Requests that change or read nodes, then those that this file system does not have.
impl Filesystem for Adapter {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for capability in CAPABILITIES {
            if config.add_capabilities(capability).is_err() {
                log::debug!(target: "fuse", "the kernel lacks {capability:?}");
            }
        }
        // Refused only when it is out of fuser's range.
        let _ = config.set_max_write(self.write_bytes_max);
        let kernel = config.kernel_abi();
        let rule = self.hooks.late_replies.unwrap_or(LateReplies::of_kernel(kernel.0, kernel.1));
        self.fs.set_late_replies(rule);
        if kernel >= LONG_NAMES {
            self.fs.set_name_bytes_max(NAME_BYTES_MAX);
        }
        Ok(())
    }

    fn forget(&self, _: &Request, ino: INodeNo, _lookups: u64) {
        self.fs.forget(ino.0);
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let lookup = || {
            let found = self.fs.lookup(parent.0, name.as_bytes());
            self.hooks.before_reply(KernelRequest::Lookup);
            found
        };
        self.serve(KernelRequest::Lookup, || match lookup() {
            // A name that is not there is something to remember too.
            Err(FsError::NotFound) => {
                reply.entry(&self.lifetime, &absent(), fuser::Generation(0));
            }
            result => answer("lookup", result, reply, |reply, attr| {
                // What a name means lasts, even where the attributes do not.
                let (ttl, attr_ttl) = (self.lifetime, self.lifetime_of(&attr));
                self.fs.found(request.pid(), attr.ino);
                self.after_pages(vec![attr.ino], move || {
                    reply.entry_with_ttls(&attr_ttl, &ttl, &file_attr(&attr), generation(&attr));
                });
            }),
        });
    }

    fn getattr(&self, request: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.serve(KernelRequest::Getattr, || {
            let found = self.fs.getattr(ino.0);
            self.hooks.before_reply(KernelRequest::Getattr);
            let found = self.by_path(request, ino, found, || Err(FsError::NotFound));
            answer("getattr", found, reply, |reply, attr| {
                let lifetime = self.lifetime_of(&attr);
                self.after_pages(vec![attr.ino], move || reply.attr(&lifetime, &file_attr(&attr)));
            });
        });
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.serve(KernelRequest::Setattr, || {
            // As through the stock daemon's library, one time without the other changes nothing.
            // A truncate by path comes with the time alone: that of the change is stored anyway.
            let mtime = atime.and(mtime).map(|mtime| match mtime {
                TimeOrNow::SpecificTime(time) => clock::from_system(time),
                TimeOrNow::Now => self.fs.now(),
            });
            let lifetime = if self.fs.trusts_setattr() { self.lifetime } else { Duration::ZERO };
            let finish = self.finish("setattr", reply, move |reply, attr: Attr| {
                let lifetime = if attr.lifetime == Lifetime::Volatile { Duration::ZERO } else { lifetime };
                reply.attr(&lifetime, &file_attr(&attr));
            });
            let set = SetAttr { mode, uid, gid, size, mtime, is_opened: handle.is_some() };
            let finish = self.finish_by_path(request, ino, finish, move |fs| fs.set_replaced(ino.0, &set));
            self.fs.setattr(ino.0, set, finish);
        });
    }

    fn readlink(&self, _: &Request, ino: INodeNo, reply: ReplyData) {
        self.serve(KernelRequest::Readlink, || {
            answer("readlink", self.fs.readlink(ino.0), reply, |reply, target| reply.data(target));
        });
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        if mode & libc::S_IFMT != libc::S_IFREG {
            return self.refuse(reply);
        }
        self.serve(KernelRequest::Mknod, || {
            let finish = self.finish("mknod", reply, self.entry());
            let finish = self.finish_by_path(request, parent, finish, |_| Err(FsError::NotFound));
            self.fs.mknod(parent.0, name.as_bytes(), finish);
        });
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        self.serve(KernelRequest::Mkdir, || {
            let finish = self.finish("mkdir", reply, self.entry());
            let finish = self.finish_by_path(request, parent, finish, |_| Err(FsError::NotFound));
            self.fs.mkdir(parent.0, name.as_bytes(), finish);
        });
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.serve(KernelRequest::Unlink, || {
            let finish = self.finish("unlink", reply, |reply: ReplyEmpty, ()| reply.ok());
            let finish = self.finish_by_path(request, parent, finish, |_| Err(FsError::NotFound));
            self.fs.unlink(parent.0, name.as_bytes(), finish);
        });
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.serve(KernelRequest::Rmdir, || {
            let finish = self.finish("rmdir", reply, |reply: ReplyEmpty, ()| reply.ok());
            let finish = self.finish_by_path(request, parent, finish, |_| Err(FsError::NotFound));
            self.fs.rmdir(parent.0, name.as_bytes(), finish);
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            // The kernel tells the caller EINVAL, as where a file system has no renameat2.
            return self.refuse(reply);
        }
        self.serve(KernelRequest::Rename, || {
            let finish = self.finish("rename", reply, |reply: ReplyEmpty, ()| reply.ok());
            let finish = self.finish_by_path(request, parent, finish, |_| Err(FsError::NotFound));
            let invalidate = self.invalidate.clone();
            let (from, to) = ((parent.0, name.as_bytes()), (newparent.0, newname.as_bytes()));
            self.fs.rename(from, to, move |mut outcome| {
                // Before the answer: whoever was told of the new name must see the mode it gave.
                outcome.invalidations.retain(|stale| !invalidate.attributes_now(stale));
                finish(outcome);
            });
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        self.serve(KernelRequest::Create, || {
            let writing = opened_for_writing(OpenFlags(flags));
            let (lifetime, open) = (self.lifetime, open_flags(writing, self.fs.caching(writing)));
            let finish = self.finish("create", reply, move |reply: ReplyCreate, attr: Attr| {
                reply.created(&lifetime, &file_attr(&attr), generation(&attr), NO_HANDLE, open);
            });
            let finish = self.finish_by_path(request, parent, finish, |_| Err(FsError::NotFound));
            self.fs.create(parent.0, name.as_bytes(), finish);
        });
    }

    fn open(&self, request: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.serve(KernelRequest::Open, || {
            let writing = opened_for_writing(flags);
            self.invalidate.before_open(ino.0);
            let opened = self.fs.open(ino.0, writing);
            let opened = self.by_path(request, ino, opened, || self.fs.open_replaced(ino.0));
            answer("open", opened, reply, |reply, opened| match opened {
                Opened::Entry(caching) => reply.opened(NO_HANDLE, open_flags(writing, caching)),
                Opened::Text(handle) => {
                    let uncached = FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH;
                    reply.opened(FileHandle(handle), uncached);
                }
            });
        });
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.serve(KernelRequest::Read, || {
            let read = self.fs.read(ino.0, handle.0, opened_for_writing(flags), offset, size);
            self.hooks.before_reply(KernelRequest::Read);
            answer("read", read, reply, |reply, chunk| reply.data(&chunk));
        });
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        self.serve(KernelRequest::Write, || {
            // A page that was changed through a mapping goes where it was mapped from.
            let is_page = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
            let append = flags.0 & libc::O_APPEND != 0 && !is_page;
            // No request is longer than 32 bits can say.
            let written = |reply: ReplyWrite, taken: usize| reply.written(taken as u32);
            let finish = self.finish("write", reply, written);
            let write = Write { offset, append, data: Arc::new(data.to_vec()) };
            if flags.0 & libc::O_DSYNC == 0 {
                return self.fs.write(ino.0, write, finish);
            }
            let fs = Arc::clone(&self.fs);
            self.fs.write(ino.0, write, move |outcome| {
                fs.fsync(ino.0, move |synced| {
                    let result = synced.and(outcome.result);
                    finish(Outcome { result, ..outcome });
                });
            });
        });
    }

    fn flush(&self, _: &Request, ino: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.serve(KernelRequest::Flush, || {
            self.fs.flush(ino.0, |result| {
                guarded("flush", || answer("flush", result, reply, |reply, ()| reply.ok()));
            });
        });
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.serve(KernelRequest::Fsync, || {
            self.fs.fsync(ino.0, |result| {
                guarded("fsync", || answer("fsync", result, reply, |reply, ()| reply.ok()));
            });
        });
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.serve(KernelRequest::Fsyncdir, || {
            self.fs.fsync_all(|result| {
                guarded("fsyncdir", || answer("fsyncdir", result, reply, |reply, ()| reply.ok()));
            });
        });
    }

    fn release(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.serve(KernelRequest::Release, || {
            self.fs.release(ino.0, handle.0);
            reply.ok();
        });
    }

    fn opendir(&self, request: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.serve(KernelRequest::Opendir, || {
            self.invalidate.before_open(ino.0);
            let opened = self.by_path(request, ino, self.fs.opendir(ino.0), || Err(FsError::NotFound));
            answer("opendir", opened, reply, |reply, handle| {
                // Not FOPEN_CACHE_DIR: the kernel fills one cached listing from several handles, so a handle
                // opened after a change could get names from before the change.
                reply.opened(FileHandle(handle), FopenFlags::empty());
            });
        });
    }

    fn readdir(&self, _: &Request, ino: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.serve(KernelRequest::Readdir, || {
            let listed = self.fs.readdir(ino.0, handle.0, offset, |entry| {
                let name = OsStr::from_bytes(entry.name);
                reply.add(INodeNo(entry.attr.ino), entry.next, file_type(entry.attr.kind), name)
            });
            self.hooks.before_reply(KernelRequest::Readdir);
            answer("readdir", listed, reply, |reply, ()| reply.ok());
        });
    }

    fn readdirplus(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        self.serve(KernelRequest::Readdirplus, || {
            let mut files = Vec::new();
            let listed = self.fs.readdir(ino.0, handle.0, offset, |entry| {
                let (name, attr) = (OsStr::from_bytes(entry.name), &entry.attr);
                files.push(attr.ino);
                let lifetime = self.lifetime_of(attr);
                reply.add(INodeNo(attr.ino), entry.next, name, &lifetime, &file_attr(attr), generation(attr))
            });
            self.hooks.before_reply(KernelRequest::Readdirplus);
            answer("readdirplus", listed, reply, |reply, ()| self.after_pages(files, || reply.ok()));
        });
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.serve(KernelRequest::Releasedir, || {
            self.fs.releasedir(handle.0);
            reply.ok();
        });
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.serve(KernelRequest::Statfs, || {
            let stat = self.fs.statfs();
            let (blocks, free) = (stat.blocks, stat.blocks_free);
            let (files, files_free) = (stat.files, stat.files_free);
            let (size, length) = (stat.block_size, stat.name_length);
            reply.statfs(blocks, free, free, files, files_free, size, length, size);
        });
    }

    fn symlink(&self, _: &Request, _: INodeNo, _: &OsStr, _: &Path, reply: ReplyEntry) {
        self.refuse(reply);
    }

    fn link(&self, _: &Request, _: INodeNo, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        self.refuse(reply);
    }

    fn setxattr(
        &self,
        _: &Request,
        _: INodeNo,
        _: &OsStr,
        _value: &[u8],
        _flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.refuse(reply);
    }

    fn getxattr(&self, _: &Request, _: INodeNo, _: &OsStr, _size: u32, reply: ReplyXattr) {
        self.refuse(reply);
    }

    fn listxattr(&self, _: &Request, _: INodeNo, _size: u32, reply: ReplyXattr) {
        self.refuse(reply);
    }

    fn removexattr(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEmpty) {
        self.refuse(reply);
    }

    fn getlk(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _start: u64,
        _end: u64,
        _typ: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        self.refuse(reply);
    }

    fn setlk(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: LockOwner,
        _start: u64,
        _end: u64,
        _typ: i32,
        _pid: u32,
        _sleep: bool,
        reply: ReplyEmpty,
    ) {
        self.refuse(reply);
    }

    fn bmap(&self, _: &Request, _: INodeNo, _blocksize: u32, _idx: u64, reply: ReplyBmap) {
        self.refuse(reply);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        self.refuse(reply);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        self.refuse(reply);
    }

    fn fallocate(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _offset: u64,
        _length: u64,
        _mode: i32,
        reply: ReplyEmpty,
    ) {
        self.refuse(reply);
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _whence: i32, reply: ReplyLseek) {
        self.refuse(reply);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _offset_in: u64,
        _: INodeNo,
        _: FileHandle,
        _offset_out: u64,
        _len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        self.refuse(reply);
    }
}
