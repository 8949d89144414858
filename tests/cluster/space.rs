//! A place of its own for one node: a thread in private network, mount and UTS namespaces. Work is sent
//! there; programs started there die with the thread, and with the last of them the namespaces, their
//! mounts and links vanish. So nothing is left behind, however the tests end.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Pid, gettid};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

type Job = Box<dyn FnOnce() + Send>;

/// The thread, and where it is.
pub struct Space {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    tid: Pid,
}

impl Space {
    /// Makes the namespaces.
    pub fn new() -> nix::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        let (ready, entered) = channel();
        let thread = thread::spawn(move || {
            let spaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
            let private = || {
                unshare(spaces)?;
                let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)
            };
            let result = private().map(|()| gettid());
            if ready.send(result).is_ok() && result.is_ok() {
                queue.into_iter().for_each(|job| job());
            }
        });
        let tid = entered.recv().expect("the thread says where it is")?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), tid })
    }

    /// Runs `work` there and waits for it; a panic comes through.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (sender, receiver) = channel();
        let job = move || {
            let result: Result<T, Box<dyn Any + Send>> = catch_unwind(AssertUnwindSafe(work));
            sender.send(result).expect("somebody waits");
        };
        self.jobs.as_ref().expect("until it is dropped").send(Box::new(job)).expect("the thread serves");
        receiver.recv().expect("the thread answers").unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Runs a program there to its end, which must be a success.
    pub fn command(&self, words: &[&str]) {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let output = self.run(move || {
            let output = Command::new(&words[0]).args(&words[1..]).output();
            output.map(|output| (words, output)).expect("a program that is there")
        });
        let (words, output) = output;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {errors}");
    }

    /// Mounts one thing over another there.
    pub fn bind(&self, from: &Path, over: &str) {
        let (from, over) = (from.to_owned(), PathBuf::from(over));
        self.run(move || {
            mount(Some(&from), &over, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("bind mount");
        });
    }

    /// An empty directory in memory, over another one.
    pub fn memory(&self, over: &str) {
        let over = PathBuf::from(over);
        self.run(move || {
            mount(Some("none"), &over, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("tmpfs");
        });
    }

    /// The thread, by which the kernel names the namespaces.
    pub fn tid(&self) -> Pid {
        self.tid
    }

    /// A path of the place as seen from everywhere in this process.
    pub fn path(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/self/task/{}/root", self.tid));
        root.join(path.strip_prefix("/").expect("an absolute path"))
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Jobs catch their panics.
            let _ = thread.join();
        }
    }
}
