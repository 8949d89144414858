//! Availability of the daemon for the service manager's status line: entries, quorum, and whether the
//! service has its name. The tree is served also while another process holds that name, so the daemon is
//! ready and alive without it; the status line says so.

use super::notify::Manager;
use crate::cfs::Cfs;
use crate::ipc::Reach;
use std::sync::{Arc, Mutex, PoisonError};

/// State of the service, shared by the threads that change and report it.
#[derive(Debug)]
pub struct Availability {
    manager: Arc<Manager>,
    cfs: Arc<Cfs>,
    reach: Mutex<Reach>,
}

impl Availability {
    /// A service that has its name until [`Availability::set_reach`] says otherwise.
    pub fn new(manager: Arc<Manager>, cfs: Arc<Cfs>) -> Self {
        Self { manager, cfs, reach: Mutex::new(Reach::Served) }
    }

    /// Whether clients can reach the service, as far as its name goes.
    pub fn has_name(&self) -> bool {
        *self.reach.lock().unwrap_or_else(PoisonError::into_inner) == Reach::Served
    }

    /// Notes and reports a change.
    pub fn set_reach(&self, reach: &Reach) {
        self.reach.lock().unwrap_or_else(PoisonError::into_inner).clone_from(reach);
        self.manager.status(&self.status());
    }

    /// One line about the daemon.
    pub fn status(&self) -> String {
        let quorum = if self.cfs.is_quorate() { "changes allowed" } else { "no quorum: read only" };
        let entries = self.cfs.engine.read().usage().entries;
        let name = match &*self.reach.lock().unwrap_or_else(PoisonError::into_inner) {
            Reach::Served => String::new(),
            Reach::Taken(Some(holder)) => format!("; no IPC: its name is taken by {holder}"),
            Reach::Taken(None) => "; no IPC: its name is taken by an unknown process".to_owned(),
        };
        format!("serving {entries} entries, {quorum}{name}")
    }
}
