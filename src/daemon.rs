//! Assembly: makes the parts in the right order, waits for a reason to stop, and takes them down in
//! reverse. It owns the order and the files by which the daemon is known; it has no rules of its own.

mod availability;
pub mod background;
mod fresh;
pub mod guard;
mod notify;
mod run_files;
mod signals;
pub mod watchdog;

pub use run_files::RunFileError;
pub use signals::StopReason;

use availability::Availability;
use fresh::Traces;
use guard::Guard;
use notify::Manager;
use run_files::PidFile;
use watchdog::Watchdog;

use crate::cfs::{Cfs, NodeIdentity};
use crate::clock::Clock;
use crate::cluster::{self, Cluster};
use crate::dcdb::COROSYNC_CONF;
use crate::dir;
use crate::engine::{Engine, OpenError};
use crate::fuse;
use crate::ipc::requests::{MountedTree, Requests};
use crate::ipc::{self, Reach, Server};
use crate::memdb::{Change, TreePath, WriteAt};
use crate::options::Config;
use crate::rrd;
use crate::store::Store;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// How long a stop waits for programs that have files open. With the times below and the transport's
/// own it stays under the ten seconds after which the service manager kills.
const UNMOUNT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a stop waits for round-robin files.
const RRD_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Lock, pid file or a directory.
    #[error(transparent)]
    RunFile(#[from] RunFileError),
    /// The database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The host's corosync.conf could not be taken into a new database.
    #[error("unable to import '{path}' into the new database: {reason}")]
    Import {
        /// The host's file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The tree could not be mounted.
    #[error("unable to mount '{path}': {source}")]
    Mount {
        /// The mount point.
        path: PathBuf,
        /// What is wrong.
        source: fuse::MountError,
    },
    /// The service could not be offered.
    #[error("unable to start the IPC service '{name}': {source} - does another pmxcfs serve it?")]
    Service {
        /// Name of the service.
        name: String,
        /// What is wrong.
        source: ipc::StartError,
    },
    /// Threads or signals.
    #[error("unable to start: {0}")]
    System(#[from] io::Error),
}

/// Open files that the daemon wants to be allowed: two for each IPC client, and its own.
const OPEN_FILES: u64 = 4096;

/// Serves the tree until there is a reason to stop. `ready` is called once, when it is served.
///
/// # Errors
/// [`StartError`] says what keeps it from starting; nothing is left behind then.
pub fn run(config: &Config, ready: impl FnOnce() -> io::Result<()>) -> Result<StopReason, StartError> {
    let manager = Arc::new(Manager::of_environment());
    let outcome = run_for(config, &manager, ready);
    if let Err(error) = &outcome {
        manager.status(&error.to_string());
    }
    outcome
}

fn run_for(
    config: &Config,
    manager: &Arc<Manager>,
    ready: impl FnOnce() -> io::Result<()>,
) -> Result<StopReason, StartError> {
    signals::hold().map_err(io::Error::from)?;
    allow_open_files();
    forbid_core_dumps();
    manager.status("starting");
    run_files::make_directories(config)?;
    let traces = Traces::collect(&config.paths);
    let _lock = run_files::lock(&config.paths)?;
    let clock = Clock::start();
    let db = Arc::new(open_database(config, &traces, clock)?);
    let outcome = serve(config, &db, clock, manager, ready);
    // After everything that could still change it.
    if let Err(error) = db.close() {
        log::error!(target: "main", "closing the database: {error}");
    }
    outcome
}

/// Service managers start programs with room for about a thousand open files, but allow more.
fn allow_open_files() {
    let raise = || {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let wanted = OPEN_FILES.min(hard);
        if soft < wanted { setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) } else { Ok(()) }
    };
    if let Err(error) = raise() {
        log::warn!(target: "main", "fewer IPC clients can connect: the limit of open files stays low: {error}");
    }
}

/// Keeps the memory, which contains keys and tokens, out of core dumps, and away from debuggers without the
/// right to trace any process. A limit for core files above 0 enables dumps: the admin has requested them.
fn forbid_core_dumps() {
    let forbid = || match getrlimit(Resource::RLIMIT_CORE)? {
        (0, _) => prctl::set_dumpable(false).map(|()| false),
        _ => Ok(true),
    };
    match forbid() {
        Ok(false) => {}
        Ok(true) => log::info!(
            target: "main",
            "core dumps are on, as the limit for core files says: they contain keys and tokens of the cluster"
        ),
        Err(error) => log::warn!(target: "main", "core dumps cannot be turned off: {error}"),
    }
}

fn open_database(config: &Config, traces: &Traces, clock: Clock) -> Result<Engine, StartError> {
    let paths = &config.paths;
    let store = Store::open(&paths.database, clock.unix()).map_err(OpenError::from)?;
    let is_fresh = store.is_created();
    if let Some(warning) = traces.warning(store.path()).filter(|_| is_fresh) {
        log::warn!(target: "main", "{warning}");
    }
    let db = Engine::open(store, clock)?;
    db.set_rescue_dir(paths.run_dir.clone());
    if is_fresh && !config.local {
        import_corosync_conf(config, &db)?;
    }
    match (is_cluster(&db), config.local) {
        (true, false) => Ok(db),
        (true, true) => {
            log::info!(target: "main", "forcing local mode (although corosync.conf exists)");
            log::warn!(
                target: "main",
                "changes made in local mode are not replicated: if other nodes of this cluster change theirs, the \
                 databases diverge, and the one with the lower version is overwritten when the cluster meets again"
            );
            Ok(db)
        }
        (false, _) => {
            log::debug!(target: "main", "using local mode (corosync.conf does not exist)");
            Ok(db)
        }
    }
}

/// Whether the database belongs to a cluster.
fn is_cluster(db: &Engine) -> bool {
    db.read().resolve(COROSYNC_CONF).is_some()
}

/// A node that was installed into a cluster has corosync's configuration before it has a database.
fn import_corosync_conf(config: &Config, db: &Engine) -> Result<(), StartError> {
    let path = &config.paths.corosync_conf;
    let failed = |reason: String| StartError::Import { path: path.clone(), reason };
    let data = match dir::read_file(path) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error.to_string())),
    };
    let name = TreePath::new(COROSYNC_CONF);
    let create = Change::Create { path: name.clone() };
    let write = Change::Write { path: name, at: WriteAt::Offset(0), data };
    for change in [create, write] {
        db.submit_wait(change).map_err(|error| failed(error.to_string()))?;
    }
    db.sync_wait().map_err(|error| failed(error.to_string()))
}

/// The parts that serve, in the order in which they are made.
struct Parts {
    cfs: Arc<Cfs>,
    rrd: rrd::Writer,
    mounted: fuse::Mounted,
    guard: Guard,
    cluster: Option<Cluster>,
    availability: Arc<Availability>,
    server: Server,
    /// Removed when the parts are gone.
    _pid_file: PidFile,
}

fn serve(
    config: &Config,
    db: &Arc<Engine>,
    clock: Clock,
    manager: &Arc<Manager>,
    ready: impl FnOnce() -> io::Result<()>,
) -> Result<StopReason, StartError> {
    let (reports, reasons) = signals::watch()?;
    let parts = start(config, db, clock, manager, reports)?;
    run_files::lower_restart_flag(&config.paths);
    let reason = match ready().and_then(|()| watch_over(config, &parts, manager)) {
        Ok(watchdog) => {
            // The signal thread holds a sender as long as the process lives.
            let reason = reasons.recv().unwrap_or(StopReason::Unmounted);
            // Its probe is a client, and would not understand.
            drop(watchdog);
            Ok(reason)
        }
        Err(error) => Err(error.into()),
    };
    manager.stopping();
    if let Ok(reason) = reason {
        log::debug!(target: "main", "stopping: {reason:?}");
        run_files::raise_restart_flag(&config.paths, config.www_data_gid);
    }
    log::info!(target: "main", "teardown filesystem");
    stop(parts);
    reason
}

/// Notifies the service manager that the tree is served, and then feeds its watchdog, if there is one. The
/// service may still wait for its name: the status line says so.
fn watch_over(config: &Config, parts: &Parts, manager: &Arc<Manager>) -> io::Result<Option<Watchdog>> {
    manager.ready(&parts.availability.status());
    let start = |interval| {
        let mount_point = parts.mounted.path().to_owned();
        let target = watchdog::Target { service: config.service.clone(), mount_point, interval };
        let (manager, availability) = (Arc::clone(manager), Arc::clone(&parts.availability));
        Watchdog::start(target, manager, availability, parts.server.clients())
    };
    notify::watchdog_interval().map(start).transpose()
}

fn start(
    config: &Config,
    db: &Arc<Engine>,
    clock: Clock,
    manager: &Arc<Manager>,
    reports: Sender<StopReason>,
) -> Result<Parts, StartError> {
    let paths = &config.paths;
    let rrd_options =
        rrd::Options { base_dir: paths.rrd_dir.clone(), rrdcached_socket: paths.rrdcached_socket.clone() };
    let (sink, rrd) = rrd::Writer::start(rrd_options, clock)?;
    let node = NodeIdentity {
        name: config.node_name.clone(),
        address: Some(config.node_address),
        www_data_gid: config.www_data_gid,
    };
    let cfs = Arc::new(Cfs::new(Arc::clone(db), clock, node, sink));
    let in_cluster = !config.local && is_cluster(db);
    // Alone, this node decides. In a cluster it has to be told that it may.
    cfs.set_quorate(!in_cluster);
    let mount_options = fuse::Options {
        on_end: Box::new(move || {
            // The receiver is gone only when the daemon is stopping already.
            let _ = reports.send(StopReason::Unmounted);
        }),
        rules: if in_cluster { fuse::CacheRules::GROUP } else { fuse::CacheRules::THIS_MOUNT },
        ..fuse::Options::default()
    };
    let mounted = fuse::mount(Arc::clone(&cfs), &paths.mount_point, mount_options)
        .map_err(|source| StartError::Mount { path: paths.mount_point.clone(), source })?;
    // Whatever fails from here on drops what was made, which unmounts the tree again.
    let guard = Guard::start(mounted.path(), &paths.lock_file)?;
    let pid_file = PidFile::write(&paths.pid_file)?;
    let cluster = if in_cluster { Some(join_cluster(config, &cfs, &mounted)?) } else { None };
    let availability = Arc::new(Availability::new(Arc::clone(manager), Arc::clone(&cfs)));
    let server = start_service(config, &cfs, &mounted, &availability)?;
    Ok(Parts { cfs, rrd, mounted, guard, cluster, availability, server, _pid_file: pid_file })
}

/// Starts the service. If a process of another user holds the service's name, the tree is served all the same
/// and the service waits for the name. If a process of root holds it, this fails: it may be another daemon.
fn start_service(
    config: &Config,
    cfs: &Arc<Cfs>,
    mounted: &fuse::Mounted,
    availability: &Arc<Availability>,
) -> Result<Server, StartError> {
    let requests = Arc::new(Requests::new(Arc::clone(cfs)));
    let path = mounted.path().to_owned();
    requests.know_tree(MountedTree { device: fuse::mounted_device(&path), path });
    let reported = Arc::clone(availability);
    let on_reach = Box::new(move |reach: &Reach| reported.set_reach(reach));
    let options = ipc::Options::default();
    let server = Server::start_or_wait(&config.service, Arc::clone(&requests) as _, options, on_reach)
        .map_err(|source| StartError::Service { name: config.service.clone(), source })?;
    requests.know_clients(server.clients());
    Ok(server)
}

fn join_cluster(config: &Config, cfs: &Arc<Cfs>, mounted: &fuse::Mounted) -> io::Result<Cluster> {
    let invalidate = mounted.invalidate().clone();
    Cluster::start(cluster::Options {
        cfs: Arc::clone(cfs),
        invalidate: Box::new(move |invalidations| invalidate.queue(invalidations)),
        corosync_conf: config.paths.corosync_conf.clone(),
    })
}

fn stop(parts: Parts) {
    // Or clients that wait for one would hold up the end.
    parts.cfs.changes.close();
    parts.server.stop();
    if !parts.mounted.unmount(UNMOUNT_TIMEOUT) {
        log::warn!(target: "main", "files of the tree are still open: programs that use them get errors from now on");
    }
    drop(parts.guard);
    if let Some(cluster) = parts.cluster {
        cluster.stop();
    }
    if !parts.rrd.stop(RRD_TIMEOUT) {
        log::warn!(target: "main", "not all RRD values were written in time");
    }
}
