//! Binds the setup socket of a service. While another process has its address, the bind is retried each
//! second, and the log names the process. Connections are accepted elsewhere.

use super::address::Address;
use super::holder::Holder;
use nix::sys::socket::{setsockopt, sockopt};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Interval of attempts to bind.
const TRY_INTERVAL: Duration = Duration::from_secs(1);
/// Shortest interval between log lines about the holder, even if holders alternate.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// The address can become free between a bind and the search for its holder; then the bind is retried.
const BIND_TRIES: usize = 3;

/// Reason why an address cannot be bound.
#[derive(Debug)]
pub(crate) enum NoAddress {
    /// Another process holds it; `None` if that process cannot be found.
    Taken(Option<Holder>),
    /// The system call failed.
    Io(io::Error),
}

impl From<io::Error> for NoAddress {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A listening setup socket. Dropping it removes its file, if the address is one.
#[derive(Debug)]
pub(crate) struct Bound {
    listener: UnixListener,
    file: Option<PathBuf>,
}

impl Bound {
    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Some(path) = &self.file {
            // Fails only if the file was already removed.
            let _ = fs::remove_file(path);
        }
    }
}

/// Binds an address. Messages on its sockets carry the sender's credentials.
///
/// # Errors
/// [`NoAddress::Taken`] if another process holds the address.
pub(crate) fn bind(address: &Address) -> Result<Bound, NoAddress> {
    let listener = bind_socket(address)?;
    let file = match address {
        Address::File(path) => Some(path.clone()),
        Address::Abstract(_) => None,
    };
    let bound = Bound { listener, file };
    if let Some(path) = &bound.file {
        // Access is checked by the peer's credentials, not by the mode of the file.
        fs::set_permissions(path, Permissions::from_mode(0o777))?;
    }
    setsockopt(&bound.listener, sockopt::PassCred, &true).map_err(io::Error::from)?;
    bound.listener.set_nonblocking(true)?;
    Ok(bound)
}

fn bind_socket(address: &Address) -> Result<UnixListener, NoAddress> {
    for _ in 0..BIND_TRIES {
        if let Address::File(path) = address {
            remove_dead_socket(path, address)?;
        }
        match UnixListener::bind_addr(&address.to_std()?) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            bound => return Ok(bound?),
        }
        if let Some(holder) = Holder::at(address) {
            return Err(NoAddress::Taken(Some(holder)));
        }
    }
    Err(NoAddress::Taken(None))
}

/// Removes the socket file of a killed server. Fails if a process listens there, or if it is no socket.
fn remove_dead_socket(path: &Path, address: &Address) -> Result<(), NoAddress> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(io::Error::other(format!("'{}' is no socket: remove it", path.display())).into()),
        Err(error) => return Err(error.into()),
    }
    if let Some(holder) = Holder::at(address) {
        return Err(NoAddress::Taken(Some(holder)));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// An address that another process holds.
pub(crate) struct Taken {
    service: String,
    address: Address,
    holder: Option<Holder>,
    /// Uptimes of the first attempt, of the next one, and of the last log line.
    since: Duration,
    next: Duration,
    logged: Duration,
}

impl Taken {
    /// Logs the holder. The first [`Taken::try_again`] is due a second after `now`, an uptime.
    pub(crate) fn new(service: &str, address: Address, holder: Option<Holder>, now: Duration) -> Self {
        let taken = Self {
            service: service.to_owned(),
            address,
            holder,
            since: now,
            next: now + TRY_INTERVAL,
            logged: now,
        };
        taken.log_holder();
        taken
    }

    /// Uptime of the next attempt.
    pub(crate) fn next(&self) -> Duration {
        self.next
    }

    /// The process, if it was found.
    pub(crate) fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref()
    }

    /// Retries the bind if it is due. Returns `Ok(None)` if the address is still taken.
    ///
    /// # Errors
    /// Errors other than a taken address. The next attempt is due a second later in any case.
    pub(crate) fn try_again(&mut self, now: Duration) -> io::Result<Option<Bound>> {
        if now < self.next {
            return Ok(None);
        }
        self.next = now + TRY_INTERVAL;
        match bind(&self.address) {
            Ok(bound) => {
                let seconds = now.saturating_sub(self.since).as_secs();
                log::info!(
                    target: "ipcs",
                    "the service '{}' is served now: its name was taken for {seconds} s",
                    self.service
                );
                Ok(Some(bound))
            }
            Err(NoAddress::Taken(holder)) => {
                let changed = holder != self.holder;
                self.holder = holder;
                if changed && now.saturating_sub(self.logged) >= LOG_INTERVAL {
                    self.logged = now;
                    self.log_holder();
                }
                Ok(None)
            }
            Err(NoAddress::Io(error)) => Err(error),
        }
    }

    fn log_holder(&self) {
        let service = &self.service;
        match &self.holder {
            Some(holder) => log::error!(
                target: "ipcs",
                "the name of the service, '{service}', is taken by {holder}: the tree is served, but programs \
                 cannot reach the daemon; end that process - the name is tried again each second"
            ),
            None => log::error!(
                target: "ipcs",
                "the name of the service, '{service}', is taken by a process that accepts no connections: the \
                 tree is served, but programs cannot reach the daemon; find that process (ss -xap | grep \
                 {service}) and end it - the name is tried again each second"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::qb::Namespace;

    #[test]
    fn socket_file_of_dead_server_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let address = Address::new("svc", &Namespace::Directory(dir.path().into()));
        let first = bind(&address).unwrap();
        let taken = bind(&address);
        assert!(matches!(&taken, Err(NoAddress::Taken(Some(holder))) if holder.is_trusted()), "{taken:?}");
        drop(first);
        bind(&address).unwrap();
    }

    #[test]
    fn file_that_is_no_socket_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("svc");
        let address = Address::new("svc", &Namespace::Directory(dir.path().into()));
        fs::write(&path, "an admin's").unwrap();
        let refused = bind(&address);
        assert!(matches!(&refused, Err(NoAddress::Io(_))), "{refused:?}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "an admin's");
    }

    #[test]
    fn taken_address_is_bound_once_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let address = Address::new("svc", &Namespace::Directory(dir.path().into()));
        let first = bind(&address).unwrap();
        let at = Duration::from_millis;
        let mut taken = Taken::new("svc", address, None, at(0));
        assert!(taken.try_again(at(1000)).unwrap().is_none());
        assert!(taken.holder().is_some(), "found at the second look");
        drop(first);
        assert!(taken.try_again(at(1999)).unwrap().is_none(), "not due yet");
        assert!(taken.try_again(at(2000)).unwrap().is_some());
    }
}
