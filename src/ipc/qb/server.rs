//! A running service: its address, its connections, its end. The work is done by the accepting
//! thread (`accept`) and by one thread for each connection (`connection`).

use super::accept::Acceptor;
use super::address::{Address, Namespace};
use super::connection::Connection;
use super::shm::ShmDir;
use super::workers::Workers;
use super::{sigbus, sweep};
use crate::clock::Clock;
use crate::ipc::server::{Client, Refused, Service};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::{setsockopt, sockopt};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a stop waits for requests that are being handled.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// At most one complaint about clients in this time.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(1);
/// Descriptors that connections leave to the rest of the process.
const DESCRIPTORS_SPARED: u64 = 128;
/// Descriptors of a connection: its socket and its directory.
const DESCRIPTORS_EACH: u64 = 2;

/// What an administrator or a test may want otherwise.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the setup socket is.
    pub namespace: Namespace,
    /// Where connections have their files.
    pub shm_dir: PathBuf,
    /// The longest message a client can get agreed to, header included. A connection of libqb's takes
    /// twice this of shared memory.
    pub max_message_size: u32,
    /// Connections at once. Fewer if the process may not open enough files.
    pub max_connections: usize,
    /// Connections at once of one user that is not root, so that none takes all of them or all
    /// memory. A web proxy with all the workers it may have, twice for a reload, needs 256.
    pub max_connections_per_user: usize,
    /// How long a peer may take to say what it wants.
    pub auth_timeout: Duration,
    /// How long an answer waits for a client to read earlier ones.
    pub room_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            namespace: Namespace::Machine,
            shm_dir: "/dev/shm".into(),
            max_message_size: 1 << 20,
            max_connections: 1024,
            max_connections_per_user: 256,
            auth_timeout: Duration::from_secs(5),
            room_timeout: Duration::from_secs(5),
        }
    }
}

/// What the threads of a server share.
pub(crate) struct Shared {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) service_name: String,
    pub(crate) options: Options,
    pub(crate) shm: Arc<ShmDir>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) clock: Clock,
    stopping: AtomicBool,
    pub(crate) refused: AtomicU64,
    table: Mutex<Table>,
    /// Notified when the table becomes empty.
    emptied: Condvar,
    complaints: Mutex<Complaints>,
}

#[derive(Default)]
struct Table {
    connections: BTreeMap<u64, Arc<Connection>>,
    next_id: u64,
}

#[derive(Default)]
struct Complaints {
    last: Option<Duration>,
    suppressed: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Whether connections shall end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether one more connection of this user may be.
    ///
    /// # Errors
    /// If there are too many already.
    pub(crate) fn has_room(&self, uid: u32) -> Result<(), Refused> {
        let (all, held) = {
            let table = lock(&self.table);
            let same_user = |other: &&Arc<Connection>| other.client().uid == uid;
            (table.connections.len(), table.connections.values().filter(same_user).count())
        };
        let user_is_full = uid != 0 && held >= self.options.max_connections_per_user;
        if all >= self.options.max_connections || user_is_full {
            self.complain(format_args!("user {uid} refused: too many connections"));
            return Err(Refused::TooMany);
        }
        Ok(())
    }

    /// Gives a client a place in the table.
    pub(crate) fn insert(&self, socket: UnixStream, client: Client) -> Arc<Connection> {
        let mut table = lock(&self.table);
        let id = table.next_id;
        table.next_id += 1;
        let connection = Arc::new(Connection::new(id, client, socket));
        table.connections.insert(id, Arc::clone(&connection));
        connection
    }

    /// Takes a connection out of the table.
    pub(crate) fn remove(&self, id: u64) {
        let mut table = lock(&self.table);
        table.connections.remove(&id);
        if table.connections.is_empty() {
            self.emptied.notify_all();
        }
    }

    /// Logs what a client did wrong, but lets no client flood the log.
    pub(crate) fn complain(&self, what: fmt::Arguments<'_>) {
        let now = self.clock.uptime();
        let mut complaints = lock(&self.complaints);
        let early = |last: Duration| now.saturating_sub(last) < COMPLAINT_INTERVAL;
        if complaints.last.is_some_and(early) {
            complaints.suppressed += 1;
            return;
        }
        let suppressed = std::mem::take(&mut complaints.suppressed);
        complaints.last = Some(now);
        drop(complaints);
        match suppressed {
            0 => log::warn!("IPC: {what}"),
            more => log::warn!("IPC: {what} (and {more} more complaints)"),
        }
    }
}

/// A view of who is connected to a server, which it does not keep running.
#[derive(Clone)]
pub struct Clients {
    shared: Weak<Shared>,
}

/// What came to a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// Who is connected, the longest first, and how much each has asked.
    pub clients: Vec<(Client, u64)>,
    /// Connections that were admitted since the start.
    pub connects: u64,
    /// Peers that were not.
    pub refused: u64,
}

impl Clients {
    /// As it is now; None when the server is gone.
    pub fn traffic(&self) -> Option<Traffic> {
        let shared = self.shared.upgrade()?;
        let table = lock(&shared.table);
        let clients =
            table.connections.values().map(|connection| (*connection.client(), connection.requests()));
        let refused = shared.refused.load(Ordering::Relaxed);
        Some(Traffic { clients: clients.collect(), connects: table.next_id, refused })
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}

/// A running server of a service; dropping it stops it.
pub struct Server {
    shared: Arc<Shared>,
    stop: Arc<EventFd>,
    acceptor: Option<JoinHandle<()>>,
    socket_file: Option<PathBuf>,
}

impl Server {
    /// Starts to serve `service` under `service_name`. When it returns, clients can connect.
    ///
    /// # Errors
    /// If the address is in use, or the directory of shared memory cannot be used.
    pub fn start(service_name: &str, service: Arc<dyn Service>, mut options: Options) -> io::Result<Self> {
        options.max_connections = options.max_connections.min(most_connections()?);
        let shm = Arc::new(ShmDir::open(&options.shm_dir)?);
        let address = Address::new(service_name, &options.namespace);
        let listener = listen(&address)?;
        match sweep::sweep(&shm, service_name)? {
            0 => {}
            swept => log::info!("IPC: removed what {swept} connections of a killed daemon left"),
        }
        let shared = Arc::new(Shared {
            service,
            service_name: service_name.to_owned(),
            options,
            shm,
            workers: Arc::default(),
            clock: Clock::start(),
            stopping: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            table: Mutex::default(),
            emptied: Condvar::new(),
            complaints: Mutex::default(),
        });
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?);
        let acceptor = Acceptor::new(Arc::clone(&shared), listener, Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("ipc-accept".into());
        let acceptor = Some(thread.spawn(move || acceptor.run())?);
        let socket_file = match address {
            Address::File(path) => Some(path),
            Address::Abstract(_) => None,
        };
        Ok(Self { shared, stop, acceptor, socket_file })
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        lock(&self.shared.table).connections.len()
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// A view of who is connected.
    pub fn clients(&self) -> Clients {
        Clients { shared: Arc::downgrade(&self.shared) }
    }

    /// Disconnects all clients, removes all files and ends all threads, but does not wait for ever
    /// for a service that does not return.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        if let Err(error) = self.stop.write(1) {
            log::error!("IPC: cannot stop the accepting thread: {error}");
            return;
        }
        let acceptor = self.acceptor.take().map(JoinHandle::join);
        if acceptor.is_some_and(|ended| ended.is_err()) {
            log::error!("IPC: the accepting thread has panicked");
        }
        if let Some(path) = &self.socket_file {
            // An error means that somebody has removed it before.
            let _ = std::fs::remove_file(path);
        }
        self.shared.workers.close();
        let table = lock(&self.shared.table);
        table.connections.values().for_each(|connection| connection.hang_up());
        let busy = |table: &mut Table| !table.connections.is_empty();
        let waited = self.shared.emptied.wait_timeout_while(table, STOP_TIMEOUT, busy);
        let (table, _) = waited.unwrap_or_else(PoisonError::into_inner);
        for connection in table.connections.values() {
            log::warn!("IPC: a request of process {} still runs", connection.client().pid);
            connection.remove_files();
        }
    }
}

/// How many connections the process can have.
fn most_connections() -> io::Result<usize> {
    let (open_files, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = open_files.saturating_sub(DESCRIPTORS_SPARED) / DESCRIPTORS_EACH;
    Ok(usize::try_from(most).unwrap_or(usize::MAX).clamp(1, sigbus::SLOTS))
}

/// Binds the setup socket. Its sockets tell who sends.
fn listen(address: &Address) -> io::Result<UnixListener> {
    if let Address::File(path) = address {
        remove_dead_socket(path)?;
    }
    let listener = UnixListener::bind_addr(&address.to_std()?)?;
    if let Address::File(path) = address {
        // Who may connect is decided by who they are, not by who can open the file.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
    }
    setsockopt(&listener, sockopt::PassCred, &true)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Removes the socket file of a killed server, but not that of a running one.
fn remove_dead_socket(path: &Path) -> io::Result<()> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
