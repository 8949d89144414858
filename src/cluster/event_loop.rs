//! Event loop of the cluster thread: polls corosync, the command queue and deadlines. Nothing in it blocks for
//! longer than a call into corosync's libraries.

use super::command_queue::{Command, CommandQueue};
use super::connect::Link;
use super::cpg_group::{CpgGroup, REPORTS_AT_ONCE};
use super::database_member::{CpgProposer, DatabaseMember, SharedMember};
use super::drivers::{DatabaseDriver, StatusDriver};
use super::heap::trim_heap;
use super::poll::poll_for_reading;
use super::{cmap, quorum};
use crate::cfs::{Cfs, Event as CfsEvent, News};
use crate::dcdb::wire::Request as TreeRequest;
use crate::dfsm::{Event, Now, Submission};
use crate::engine::{Engine, Invalidate};
use crate::status::clusterlog::Entry;
use crate::status_group::StatusGroup;
use crate::status_group::wire::Request as StatusRequest;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// The longest sleep: a backstop, every event has a time or a descriptor of its own.
const SLEEP_MAX: Duration = Duration::from_secs(10);

/// How long the end waits for the thread, which corosync's libraries hold for as long as corosync stands
/// still.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// A wait that took no longer was none: what ended it was there before.
const NO_WAIT: Duration = Duration::from_micros(20);

/// Messages that nobody waits for, and that may wait for a group. At every sync all status values are
/// told again; who wants a lock removed asks again.
const BACKLOG_MAX: usize = 4096;

/// What the thread works with.
pub struct Options {
    /// The node.
    pub cfs: Arc<Cfs>,
    /// Invalidates kernel caches after changes that did not come from this node's kernel.
    pub invalidate: Invalidate,
    /// The host's corosync configuration.
    pub corosync_conf: PathBuf,
}

/// The running thread; leaves the groups when dropped.
pub struct Cluster {
    commands: Arc<CommandQueue>,
    thread: Option<JoinHandle<()>>,
    engine: Arc<Engine>,
    watcher: Option<JoinHandle<()>>,
    /// Nothing comes of it but its end, when the thread has ended.
    ended: Receiver<()>,
}

impl Cluster {
    /// Starts to take part in the cluster. From now on changes of the database go through the group.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(options: Options) -> io::Result<Self> {
        let commands = Arc::new(CommandQueue::new()?);
        let cfs = Arc::clone(&options.cfs);
        let driver = DatabaseDriver::new(Arc::clone(&cfs), options.invalidate, options.corosync_conf);
        driver.export_config(true);
        let address = cfs.node.address.map(|address| address.to_string()).unwrap_or_default();
        let member = Arc::new(SharedMember::new(driver));
        let looper = EventLoop {
            cfs: Arc::clone(&cfs),
            commands: Arc::clone(&commands),
            quorum: Link::default(),
            cmap: Link::default(),
            member: Arc::clone(&member),
            status_group: CpgGroup::new(StatusGroup::new(&address)),
            status: StatusDriver::new(Arc::clone(&cfs)),
            has_left: false,
        };
        let engine = Arc::clone(&cfs.engine);
        let watcher = thread::Builder::new()
            .name("cluster-watch".to_owned())
            .spawn(move || engine.pending().watch())?;
        let (running, ended) = channel();
        let thread = thread::Builder::new().name("cluster".to_owned());
        let thread = thread.spawn(move || {
            looper.run_to_the_end();
            drop(running);
        });
        let thread = thread.inspect_err(|_| cfs.engine.pending().close())?;
        cfs.engine.replicate_by(Box::new(CpgProposer::new(cfs.clock, &member, &commands)));
        let told = Arc::clone(&commands);
        cfs.watch(Box::new(move |event| tell_group(&told, event)));
        let engine = Arc::clone(&cfs.engine);
        Ok(Self { commands, thread: Some(thread), engine, watcher: Some(watcher), ended })
    }

    /// Leaves the groups and ends.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Refused when the thread has ended by itself.
        let _ = self.commands.push(Command::Stop);
        match self.ended.recv_timeout(STOP_TIMEOUT) {
            Err(RecvTimeoutError::Timeout) => {
                log::warn!(target: "main", "corosync does not answer: this node is not waiting for its end");
            }
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                // Its panics are caught.
                let _ = self.thread.take().map(JoinHandle::join);
            }
        }
        self.engine.pending().close();
        let _ = self.watcher.take().map(JoinHandle::join);
    }
}

/// What this node's clients say is told to the others.
fn tell_group(commands: &CommandQueue, event: CfsEvent<'_>) {
    let request = match event {
        CfsEvent::StatusSet { name, value } => {
            Some(StatusRequest::Value { key: name.to_vec(), value: value.to_vec() })
        }
        CfsEvent::Logged(entry) => Entry::decode(entry).ok().map(StatusRequest::Log),
        CfsEvent::Quorum(_) => None,
    };
    if let Some(request) = request {
        // Refused at the end of the daemon only.
        let _ = commands.push(Command::Status(request));
    }
}

/// Everything the thread owns.
struct EventLoop {
    cfs: Arc<Cfs>,
    commands: Arc<CommandQueue>,
    quorum: Link<quorum::Connection>,
    cmap: Link<cmap::Connection>,
    member: Arc<SharedMember>,
    status_group: CpgGroup<StatusGroup>,
    status: StatusDriver,
    /// The group was left for good, because of a fault of this program.
    has_left: bool,
}

/// Who has something to say.
#[derive(Debug, Default, Clone, Copy)]
struct Ready {
    wakeup: bool,
    quorum: bool,
    cmap: bool,
    tree: bool,
    status: bool,
    /// They had it to say before they were waited for.
    at_once: bool,
}

impl EventLoop {
    /// Runs until it is told to stop. Whatever ends it, nobody waits for the group after it, and this node
    /// changes nothing without the others.
    fn run_to_the_end(mut self) {
        if catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
            log::error!(
                target: "main",
                "a fault of this program ended its part in the cluster: nothing can be changed on this node until \
                 pmxcfs is restarted"
            );
            self.cfs.set_quorate(false);
        }
        // The way of changes may outlive the thread.
        self.member.close();
        self.commands.close();
        self.cfs.engine.pending().close();
    }

    fn run(&mut self) {
        loop {
            let now = self.now();
            self.connect(now);
            self.check_database(now);
            self.with_member(|member| member.group.poll(&mut member.driver, now));
            self.status_group.poll(&mut self.status, now);
            self.check_database(now);
            if self.with_member(|member| member.group.round_ended()) {
                trim_heap();
            }
            let ready = self.wait();
            if ready.wakeup && !self.run_commands() {
                break;
            }
            self.serve_corosync(ready);
        }
        let now = self.now();
        self.with_member(|member| {
            member.group.close();
            let nobody = Event::Confchg { members: &[], joined: false };
            member.group.handle(&mut member.driver, nobody, now);
        });
        self.status_group.close();
    }

    fn with_member<T>(&self, act: impl FnOnce(&mut DatabaseMember) -> T) -> T {
        act(&mut self.member.lock())
    }

    fn now(&self) -> Now {
        Now { unix: self.cfs.clock.unix(), uptime: self.cfs.clock.uptime() }
    }

    fn connect(&mut self, now: Now) {
        if self.quorum.connect("quorum", quorum::Connection::open, now.uptime) {
            let asked = self.quorum.connection.as_ref().map(quorum::Connection::ask);
            self.set_quorate(matches!(asked, Some(Ok(true))));
        }
        if self.cmap.connect("confdb", cmap::Connection::open, now.uptime) {
            self.read_node_list();
        }
    }

    fn set_quorate(&mut self, quorate: bool) {
        if self.cfs.is_quorate() != quorate {
            let text = if quorate { "node has quorum" } else { "node lost quorum" };
            log::info!(target: "status", "{text}");
        }
        self.with_member(|member| member.group.dfsm_mut().app_mut().set_quorate(quorate));
        self.cfs.set_quorate(quorate);
    }

    fn read_node_list(&mut self) {
        let Some(connection) = &self.cmap.connection else { return };
        match connection.node_list() {
            Ok(info) => {
                log::info!(
                    target: "status",
                    "update cluster info (cluster name  {}, version = {})",
                    info.name,
                    info.config_version
                );
                self.cfs.with_status(|status| status.set_cluster(info));
                self.cfs.changes.note(News::Members);
            }
            Err(error) => {
                log::error!(target: "confdb", "unable to read the node list: {error}");
                self.cmap.connection = None;
            }
        }
    }

    /// Leaves the group while the database cannot be written, and lets it be joined again afterwards: a change that
    /// cannot be stored must not be agreed to.
    fn check_database(&mut self, now: Now) {
        let is_failed = self.cfs.engine.is_failed();
        let has_left = self.has_left;
        self.has_left = self.with_member(|member| {
            let DatabaseMember { group, driver } = member;
            if driver.replica.is_failed() && !has_left {
                group.handle(driver, Event::StoreBroken, now);
            }
            if group.set_paused(is_failed) && is_failed {
                group.handle(driver, Event::StoreFailed, now);
            }
            driver.replica.is_failed()
        });
    }

    /// Waits until there is something to do.
    fn wait(&self) -> Ready {
        let uptime = self.cfs.clock.uptime();
        let (tree_due, tree_pause, tree_fd) =
            self.with_member(|member| (member.group.due(), member.group.pause(), member.group.fd()));
        let due = [self.quorum.due(), self.cmap.due(), tree_due, self.status_group.due()];
        let left = due.into_iter().min().unwrap_or_default().saturating_sub(uptime).min(SLEEP_MAX);
        let pause = left.max(tree_pause).max(self.status_group.pause());
        // The tree first: a loss of quorum that came before a message is then told with it.
        let fds = [
            tree_fd,
            self.quorum.connection.as_ref().map(quorum::Connection::fd),
            self.cmap.connection.as_ref().map(cmap::Connection::fd),
            self.status_group.fd(),
        ];
        let (wakeup, [tree, quorum, cmap, status]) = poll_for_reading(self.commands.as_fd(), fds, pause);
        let at_once = self.cfs.clock.uptime().saturating_sub(uptime) < NO_WAIT;
        Ready { wakeup, quorum, cmap, tree, status, at_once }
    }

    /// Serves what local callers left; false when that is to end.
    fn run_commands(&mut self) -> bool {
        for command in self.commands.take() {
            let now = self.now();
            match command {
                Command::Propose(proposal) => {
                    // What is left is sent before the next wait.
                    let _ = self.with_member(|member| member.submit(proposal, now));
                }
                Command::ExpireLock { .. }
                    if self.with_member(|member| member.group.backlog()) >= BACKLOG_MAX => {}
                Command::ExpireLock { path, checksum } => {
                    let request = Submission::unawaited(TreeRequest::Expire { path, checksum });
                    self.with_member(|member| member.group.submit(&mut member.driver, request, now));
                }
                Command::Status(_) if self.status_group.backlog() >= BACKLOG_MAX => {}
                Command::Status(request) => {
                    self.status_group.submit(&mut self.status, Submission::unawaited(request), now);
                }
                Command::Stop => return false,
            }
        }
        true
    }

    fn serve_corosync(&mut self, ready: Ready) {
        if ready.cmap {
            self.serve_cmap();
        }
        if ready.tree || ready.quorum {
            // To look whether there is a second report takes time, and the next wait says so anyway.
            let most = if ready.at_once { REPORTS_AT_ONCE } else { 1 };
            self.serve_tree(most, ready.quorum);
        }
        if ready.status {
            let now = self.now();
            self.status_group.dispatch(&mut self.status, now);
        }
    }

    /// Serves the database group, whose messages count only with quorum; of that corosync tells elsewhere.
    /// A loss counts for what is still to be delivered, a gain only after all that could be delivered
    /// when it was learnt of: what only the lost part of a cluster got must not be applied.
    fn serve_tree(&mut self, most: usize, is_quorum_told: bool) {
        let (mut reports, mut outcome) = self.with_member(|member| member.group.dispatch_batch(most));
        // The first report was there when there was no news of quorum, later ones need not have been.
        let quorum = if is_quorum_told || reports.len() > 1 { self.ask_quorum() } else { None };
        if quorum == Some(false) {
            self.set_quorate(false);
        }
        let now = self.now();
        while !reports.is_empty() {
            for report in reports {
                self.with_member(|member| member.group.handle_report(&mut member.driver, report, now));
            }
            let goes_on = quorum == Some(true) && outcome.is_ok();
            (reports, outcome) = if goes_on {
                self.with_member(|member| member.group.dispatch_batch(most))
            } else {
                (Vec::new(), outcome)
            };
        }
        self.with_member(|member| member.group.finish_reports(&mut member.driver, outcome, now));
        if quorum == Some(true) {
            self.set_quorate(true);
        }
    }

    /// What is new of quorum. Without a connection there is none.
    fn ask_quorum(&mut self) -> Option<bool> {
        match self.quorum.connection.as_ref().map(quorum::Connection::dispatch) {
            Some(Ok(news)) => news,
            None => None,
            Some(Err(error)) => {
                log::error!(target: "quorum", "quorum_dispatch failed: {error}");
                self.quorum.connection = None;
                Some(false)
            }
        }
    }

    fn serve_cmap(&mut self) {
        match self.cmap.connection.as_ref().map(cmap::Connection::dispatch) {
            Some(Ok(true)) => self.read_node_list(),
            Some(Ok(false)) | None => {}
            Some(Err(error)) => {
                log::error!(target: "confdb", "cmap_dispatch failed: {error}");
                self.cmap.connection = None;
            }
        }
    }
}
