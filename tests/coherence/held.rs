//! Late replies: a request of the kernel is held between its reading of the tree and its reply, and meanwhile a change
//! of another member is delivered. Afterwards no view may show the state before the change.

use crate::fixture::{PATIENCE, Tree};
use crate::group::{Group, Lost};
use crate::operations::Operation;
use crate::scene::{Scene, Verdict, check_attributes, check_open, check_paths};
use crate::views::size_from_the_daemon;
use pmxcfs::counts::KernelRequest;
use pmxcfs::fuse::{Hooks, LateReplies, Notification};
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// A request that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// LOOKUP of `d/f`, for an open.
    Lookup,
    /// LOOKUP of the name that the operation makes or removes.
    LookupOther,
    /// GETATTR of `d/f`.
    Getattr,
    /// READ of `d/f`.
    Read,
    /// READDIRPLUS of `d`.
    List,
}

impl Request {
    const ALL: [Self; 5] = [Self::Lookup, Self::LookupOther, Self::Getattr, Self::Read, Self::List];

    fn kind(self) -> KernelRequest {
        match self {
            Self::Lookup | Self::LookupOther => KernelRequest::Lookup,
            Self::Getattr => KernelRequest::Getattr,
            Self::Read => KernelRequest::Read,
            Self::List => KernelRequest::Readdirplus,
        }
    }
}

/// A deliberate fault in the kernel's place: notifications that fail without being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsent {
    Nothing,
    /// Invalidation of the name that no entry has: the barrier.
    Barrier,
    /// Invalidations of names, as on a kernel that knows none of them and takes no lock for it.
    Names,
    /// As [`Unsent::Names`], and new epochs.
    NamesAndEpochs,
}

impl Unsent {
    fn includes(self, notification: &Notification<'_>) -> bool {
        match notification {
            Notification::Entry { name, .. } => match self {
                Self::Nothing => false,
                Self::Barrier => *name == b"/",
                Self::Names | Self::NamesAndEpochs => true,
            },
            Notification::Epoch => self == Self::NamesAndEpochs,
            Notification::Inode { .. } | Notification::Store { .. } => false,
        }
    }
}

/// Holds the next request of one kind once it is armed.
struct Gate {
    armed: Mutex<Option<KernelRequest>>,
    held: Mutex<Sender<()>>,
    release: Mutex<Receiver<()>>,
}

/// The end of a [`Gate`] in the test.
struct Holder {
    gate: Arc<Gate>,
    held: Receiver<()>,
    release: Sender<()>,
}

impl Holder {
    fn new() -> Self {
        let (held_sender, held) = channel();
        let (release, release_receiver) = channel();
        let gate = Gate {
            armed: Mutex::default(),
            held: Mutex::new(held_sender),
            release: Mutex::new(release_receiver),
        };
        Self { gate: Arc::new(gate), held, release }
    }

    fn hooks(&self, rule: LateReplies, unsent: Unsent) -> Hooks {
        let gate = Arc::clone(&self.gate);
        let refused = move |notification: &Notification<'_>| {
            unsent.includes(notification).then(|| Err(io::Error::from(ErrorKind::NotFound)))
        };
        Hooks {
            before_reply: Some(Arc::new(move |request| gate.pass(request))),
            notification: Some(Arc::new(refused)),
            late_replies: Some(rule),
        }
    }

    fn arm(&self, request: KernelRequest) {
        *self.gate.armed.lock().expect("not poisoned") = Some(request);
    }
}

impl Gate {
    fn pass(&self, request: KernelRequest) {
        let mut armed = self.armed.lock().expect("not poisoned");
        if *armed != Some(request) {
            return;
        }
        *armed = None;
        drop(armed);
        self.held.lock().expect("not poisoned").send(()).expect("the test listens");
        self.release.lock().expect("not poisoned").recv().expect("the test releases");
    }
}

/// A request that crosses a change.
#[derive(Debug, Clone, Copy)]
struct Crossing {
    held: Request,
    elsewhere: Operation,
}

impl Crossing {
    fn all() -> impl Iterator<Item = Self> {
        Request::ALL
            .into_iter()
            .flat_map(|held| Operation::ALL.into_iter().map(move |elsewhere| Self { held, elsewhere }))
    }

    /// Runs the crossing and compares all views with the tree.
    fn run(self, rule: LateReplies, unsent: Unsent) -> Verdict {
        let holder = Holder::new();
        let tree = Scene::unseen(holder.hooks(rule, unsent));
        // Declared after the tree: closed first, so that the tree can be unmounted.
        let reader = matches!(self.held, Request::Getattr | Request::Read)
            .then(|| File::open(tree.path("d/f")).expect("there"));
        let group = Group::join(&tree, Lost::Nothing);
        holder.arm(self.held.kind());
        let opened = thread::scope(|scope| {
            let call = scope.spawn(|| self.call(&tree, reader.as_ref()));
            holder.held.recv_timeout(PATIENCE).expect("the request is held");
            match self.elsewhere.remote() {
                Some(change) => drop(group.deliver_remote(change)),
                None => tree.cfs.set_quorate(false),
            }
            await_notifier(&tree);
            holder.release.send(()).expect("the gate listens");
            call.join().expect("the call ends")
        });
        // The call took place before the change or after it. All later calls take place after it.
        tree.drain();
        for file in opened.iter().chain(&reader) {
            check_attributes(&tree, file)?;
            check_open(&tree, file, "open across the change")?;
        }
        check_paths(&tree)
    }

    /// A system call that causes the request. Returns the file that it opened.
    fn call(self, tree: &Tree, reader: Option<&File>) -> Option<File> {
        let path = |name: &str| tree.path(&format!("d/{name}"));
        match self.held {
            Request::Lookup => return File::open(path("f")).ok(),
            Request::LookupOther => drop(fs::symlink_metadata(path(self.other_name()))),
            Request::Getattr => drop(size_from_the_daemon(&path("f"))),
            Request::Read => {
                // The change may remove the file.
                let _ = reader.expect("opened before").read_at(&mut [0; 100], 4096);
            }
            Request::List => drop(tree.list("d")),
        }
        None
    }

    fn other_name(self) -> &'static str {
        match self.elsewhere {
            Operation::Rmdir => "s",
            Operation::Replace => "g",
            _ => "n",
        }
    }
}

/// Waits until all notifications are sent, or a notifier thread is blocked in the kernel by the held request.
fn await_notifier(tree: &Tree) {
    let deadline = Instant::now() + PATIENCE;
    let blocked = || {
        let threads = fs::read_dir("/proc/self/task").expect("threads");
        threads.flatten().any(|thread| is_blocked_notifier(&thread.path()))
    };
    while !tree.mounted().invalidate().wait(Duration::from_millis(1)) && !blocked() {
        assert!(Instant::now() < deadline, "the notifier neither ends nor blocks");
    }
}

/// Returns true if a thread is a notifier in an uninterruptible wait.
fn is_blocked_notifier(thread: &Path) -> bool {
    let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
    stat.contains("(notify-") && stat.contains(") D ")
}

/// Returns true on this version of Linux and later ones.
fn kernel_is(major: u32, minor: u32) -> bool {
    let release = nix::sys::utsname::uname().expect("a kernel");
    let release = release.release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}

/// Rules that this kernel supports.
fn rules() -> Vec<LateReplies> {
    let epoch = kernel_is(6, 16).then_some(LateReplies::Epoch);
    let locked = (!kernel_is(6, 19)).then_some(LateReplies::Locked);
    epoch.into_iter().chain(locked).collect()
}

fn assert_coherent(rule: LateReplies, unsent: Unsent) {
    let failure = |crossing: Crossing| Some(format!("{crossing:?}: {}", crossing.run(rule, unsent).err()?));
    let failures: Vec<String> = Crossing::all().filter_map(failure).collect();
    assert!(failures.is_empty(), "{rule:?}, {} crossings:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn late_replies_leave_caches_coherent() {
    rules().into_iter().for_each(|rule| assert_coherent(rule, Unsent::Nothing));
}

/// As on kernels on which an invalidation of an unknown name does not wait for lookups.
#[test]
fn epoch_replaces_the_directorys_lock() {
    if rules().contains(&LateReplies::Epoch) {
        assert_coherent(LateReplies::Epoch, Unsent::Names);
    } else {
        eprintln!("SKIPPED epoch_replaces_the_directorys_lock: Linux before 6.16 has no epochs");
    }
}

#[test]
fn missing_protection_of_late_replies_is_noticed() {
    let faults = [
        (LateReplies::Locked, Unsent::Barrier, Request::Lookup, Operation::Utimens),
        (LateReplies::Locked, Unsent::Barrier, Request::Lookup, Operation::Grow),
        (LateReplies::Locked, Unsent::Barrier, Request::List, Operation::Utimens),
        (LateReplies::Locked, Unsent::Names, Request::LookupOther, Operation::Create),
        (LateReplies::Locked, Unsent::Names, Request::LookupOther, Operation::Rmdir),
        (LateReplies::Locked, Unsent::Names, Request::List, Operation::Unlink),
        (LateReplies::Epoch, Unsent::NamesAndEpochs, Request::List, Operation::Utimens),
        (LateReplies::Epoch, Unsent::NamesAndEpochs, Request::LookupOther, Operation::Create),
        (LateReplies::Epoch, Unsent::NamesAndEpochs, Request::List, Operation::Unlink),
    ];
    let supported = rules();
    for (rule, unsent, held, elsewhere) in faults {
        let crossing = Crossing { held, elsewhere };
        if supported.contains(&rule) {
            assert!(crossing.run(rule, unsent).is_err(), "{crossing:?} hides {rule:?} without {unsent:?}");
        }
    }
}
