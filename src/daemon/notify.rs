//! What the service manager hears of the daemon: that it serves, that it stops, what it does, that it
//! lives. It owns systemd's protocol for that, a datagram to the socket that `NOTIFY_SOCKET` names,
//! and never waits: without a manager, or with one that does not listen, nothing happens.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::time::Duration;

const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG_INTERVAL: &str = "WATCHDOG_USEC";
const WATCHDOG_OF: &str = "WATCHDOG_PID";

/// The service manager, if there is one.
#[derive(Debug)]
pub struct Manager {
    link: Option<(UnixDatagram, SocketAddr)>,
}

impl Manager {
    /// The manager that started this process.
    pub fn of_environment() -> Self {
        let name = env::var_os(SOCKET).filter(|name| !name.is_empty());
        let link = name.map(|name| connect(&name)).transpose().unwrap_or_else(|error| {
            log::warn!(target: "main", "the service manager cannot be told anything: {error}");
            None
        });
        Self { link }
    }

    /// The daemon serves, as `status` says.
    pub fn ready(&self, status: &str) {
        // The process that serves is not always the one that was started.
        self.say(&format!("READY=1\nMAINPID={}\nSTATUS={}", std::process::id(), one_line(status)));
    }

    /// The daemon takes itself down.
    pub fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=stopping");
    }

    /// What the daemon does, for whoever asks the manager.
    pub fn status(&self, status: &str) {
        self.say(&format!("STATUS={}", one_line(status)));
    }

    /// The daemon has just answered a request.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    fn say(&self, words: &str) {
        let Some((socket, address)) = &self.link else { return };
        if let Err(error) = socket.send_to_addr(words.as_bytes(), address) {
            log::debug!(target: "main", "the service manager does not listen: {error}");
        }
    }
}

fn connect(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that reads nothing must not keep the daemon from its work.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

/// A line break would begin another word of the protocol.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// How often the manager wants to hear that the daemon lives, if it does.
pub fn watchdog_interval() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let microseconds = number(WATCHDOG_INTERVAL).filter(|&microseconds| microseconds > 0)?;
    // In the background this process is the child of the one that was started.
    let ours = [u64::from(std::process::id()), u64::from(std::os::unix::process::parent_id())];
    let meant =
        env::var_os(WATCHDOG_OF).is_none() || number(WATCHDOG_OF).is_some_and(|pid| ours.contains(&pid));
    meant.then(|| Duration::from_micros(microseconds))
}

/// Keeps a helper of the daemon from speaking in its name.
pub fn hide_from(helper: &mut Command) -> &mut Command {
    helper.env_remove(SOCKET).env_remove(WATCHDOG_INTERVAL).env_remove(WATCHDOG_OF)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn told(listener: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        let len = listener.recv(&mut buffer).expect("a datagram");
        String::from_utf8_lossy(&buffer[..len]).into_owned()
    }

    fn manager(name: &OsStr) -> Manager {
        Manager { link: Some(connect(name).expect("an address")) }
    }

    #[test]
    fn each_word_is_a_datagram() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).expect("bound");
        let manager = manager(path.as_os_str());
        manager.ready("serving");
        assert_eq!(told(&listener), format!("READY=1\nMAINPID={}\nSTATUS=serving", std::process::id()));
        manager.status("a\nREADY=1");
        assert_eq!(told(&listener), "STATUS=a READY=1");
        manager.alive();
        assert_eq!(told(&listener), "WATCHDOG=1");
        manager.stopping();
        assert_eq!(told(&listener), "STOPPING=1\nSTATUS=stopping");
    }

    #[test]
    fn abstract_addresses_too() {
        let name = format!("pmxcfs-notify-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).expect("an address");
        let listener = UnixDatagram::bind_addr(&address).expect("bound");
        manager(&OsString::from(format!("@{name}"))).alive();
        assert_eq!(told(&listener), "WATCHDOG=1");
    }

    #[test]
    fn nobody_is_waited_for() {
        Manager { link: None }.ready("serving");
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("notify");
        manager(path.as_os_str()).alive();
        // Full, since nobody reads: what does not fit is lost.
        let _listener = UnixDatagram::bind(&path).expect("bound");
        let manager = manager(path.as_os_str());
        (0..10_000).for_each(|_| manager.alive());
    }
}
