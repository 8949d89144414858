//! A running service: its address, its connections, its end. The work is done by the accepting
//! thread (`accept`) and by one thread for each connection (`connection`).

use super::accept::{Acceptor, Door};
use super::address::{Address, Namespace};
use super::connection::Connection;
use super::hangups::Hangups;
use super::holder::Holder;
use super::listener::{self, NoAddress, Taken};
use super::places::{Count, Place, Places};
use super::shm::ShmDir;
use super::sweep;
use super::throttle::{self, Throttle};
use super::workers::Workers;
use crate::clock::Clock;
use crate::ipc::server::{Client, Peer, Refused, Service};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a stop waits for requests that are being handled.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

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
    /// Most connections of all users other than root. Lower if the process may open too few files.
    pub max_connections: usize,
    /// Most connections of one user other than root. A web proxy with its most workers, doubled during a
    /// reload, needs 256.
    pub max_connections_per_user: usize,
    /// Connections reserved for root. Root can have as many as the process allows.
    pub reserved_for_root: usize,
    /// Most bytes of shared memory for the connections of all users other than root. Lower on a machine with
    /// little memory.
    pub max_memory: u64,
    /// Most bytes of shared memory for the connections of one user other than root.
    pub max_memory_per_user: u64,
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
            reserved_for_root: 256,
            max_memory: 1152 << 20,
            max_memory_per_user: 576 << 20,
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
    /// Peers taken from the queue of the setup socket.
    pub(crate) accepted: AtomicU64,
    pub(crate) hangups: Hangups,
    places: Places,
    table: Mutex<Table>,
    /// Notified when the table becomes empty.
    emptied: Condvar,
    /// Throttle for log lines about faults of clients.
    complaints: Mutex<Throttle>,
}

#[derive(Default)]
struct Table {
    connections: BTreeMap<u64, Arc<Connection>>,
    next_id: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn new(service_name: &str, service: Arc<dyn Service>, options: Options) -> io::Result<Self> {
        Ok(Self {
            service,
            service_name: service_name.to_owned(),
            shm: Arc::new(ShmDir::open(&options.shm_dir)?),
            hangups: Hangups::new()?,
            places: Places::new(&options)?,
            options,
            workers: Arc::default(),
            clock: Clock::start(),
            stopping: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            table: Mutex::default(),
            emptied: Condvar::new(),
            complaints: Mutex::default(),
        })
    }

    fn address(&self) -> Address {
        Address::new(&self.service_name, &self.options.namespace)
    }

    /// Removes the shared memory of a killed daemon. Requires the service's address, so that no other server
    /// of this name runs.
    ///
    /// # Errors
    /// If the directory of shared memory cannot be listed.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        match sweep::sweep(&self.shm, &self.service_name)? {
            0 => {}
            swept => log::info!("IPC: removed what {swept} connections of a killed daemon left"),
        }
        Ok(())
    }

    /// Whether connections shall end.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Takes a place for one more connection of `peer`.
    ///
    /// # Errors
    /// If there are too many already.
    pub(crate) fn take_place(&self, peer: Peer, message_size: u32) -> Result<Place, Refused> {
        let count = {
            let table = lock(&self.table);
            let of_root =
                table.connections.values().filter(|connection| connection.client().uid == 0).count();
            Count { all: table.connections.len(), of_root }
        };
        self.places.take(peer, message_size, count)
    }

    /// Gives a client a place in the table.
    pub(crate) fn insert(&self, socket: UnixStream, client: Client, place: Place) -> Arc<Connection> {
        let mut table = lock(&self.table);
        let id = table.next_id;
        table.next_id += 1;
        let connection = Arc::new(Connection::new(id, client, socket, place));
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

    /// Logs a fault of a client of this user. Of many such lines in a short time only the first one is
    /// logged, and later the number of the others.
    pub(crate) fn complain(&self, uid: u32, what: fmt::Arguments<'_>) {
        if lock(&self.complaints).admit(uid, self.clock.uptime()) {
            log::warn!("IPC: {what}");
        }
    }

    /// Logs the number of suppressed lines, where due.
    pub(crate) fn report_suppressed(&self) {
        let due = lock(&self.complaints).take_due(self.clock.uptime());
        for (uid, count) in due {
            log::warn!("IPC: {count} more complaints about clients of {}", throttle::user(uid));
        }
    }

    /// Uptime of the next [`Shared::report_suppressed`].
    pub(crate) fn next_report(&self) -> Option<Duration> {
        lock(&self.complaints).next_due()
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
    /// Peers that the accepting thread has taken from the queue of the setup socket, since the start.
    pub fn accepted(&self) -> u64 {
        self.shared.upgrade().map_or(0, |shared| shared.accepted.load(Ordering::Relaxed))
    }

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

/// Reason why a service cannot be offered.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Another process holds its name.
    #[error("its name is taken by {}", .0.as_ref().map_or("an unknown process".to_owned(), Holder::to_string))]
    Taken(Option<Holder>),
    /// Anything else.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<NoAddress> for StartError {
    fn from(error: NoAddress) -> Self {
        match error {
            NoAddress::Taken(holder) => Self::Taken(holder),
            NoAddress::Io(error) => Self::Io(error),
        }
    }
}

/// State of a service's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// The service listens under its name.
    Served,
    /// Another process holds its name; `None` if that process cannot be found.
    Taken(Option<Holder>),
}

/// Called on each change of [`Reach`], by the thread that starts the service or the accepting thread.
pub type OnReach = Box<dyn Fn(&Reach) + Send>;

/// A running server of a service; dropping it stops it.
pub struct Server {
    shared: Arc<Shared>,
    stop: Arc<EventFd>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts to serve `service` under `service_name`. When it returns, clients can connect.
    ///
    /// # Errors
    /// If the address is in use, or the directory of shared memory cannot be used.
    pub fn start(
        service_name: &str,
        service: Arc<dyn Service>,
        options: Options,
    ) -> Result<Self, StartError> {
        let shared = Arc::new(Shared::new(service_name, service, options)?);
        let bound = listener::bind(&shared.address())?;
        shared.sweep()?;
        Self::run(shared, Door::Open(bound), Box::new(|_| ()))
    }

    /// Serves `service` under `service_name`. If a process of another user holds that name, the bind is
    /// retried each second until it succeeds.
    ///
    /// # Errors
    /// If a process of root or of this user holds the name, or the directory of shared memory cannot be used.
    pub fn start_or_wait(
        service_name: &str,
        service: Arc<dyn Service>,
        options: Options,
        on_reach: OnReach,
    ) -> Result<Self, StartError> {
        let shared = Arc::new(Shared::new(service_name, service, options)?);
        let address = shared.address();
        let door = match listener::bind(&address) {
            Ok(bound) => {
                shared.sweep()?;
                Door::Open(bound)
            }
            Err(NoAddress::Taken(holder)) if !holder.as_ref().is_some_and(Holder::is_trusted) => {
                Door::Taken(Taken::new(service_name, address, holder, shared.clock.uptime()))
            }
            Err(error) => return Err(error.into()),
        };
        on_reach(&door.reach());
        Self::run(shared, door, on_reach)
    }

    fn run(shared: Arc<Shared>, door: Door, on_reach: OnReach) -> Result<Self, StartError> {
        let stop = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).map_err(io::Error::from)?);
        let acceptor = Acceptor::new(Arc::clone(&shared), door, on_reach, Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("ipc-accept".into());
        let acceptor = Some(thread.spawn(move || acceptor.run())?);
        Ok(Self { shared, stop, acceptor })
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
