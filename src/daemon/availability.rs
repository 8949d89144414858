//! Availability of the daemon for the service manager's status line: entries, quorum, and whether the service
//! has its name. While another process holds that name, the tree is served, and the daemon is ready and
//! alive; only the status line differs.

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
    /// A service that has its name. [`Availability::set_reach`] changes that.
    pub fn new(manager: Arc<Manager>, cfs: Arc<Cfs>) -> Self {
        Self { manager, cfs, reach: Mutex::new(Reach::Served) }
    }

    /// Whether the service has its name.
    pub fn has_name(&self) -> bool {
        *self.reach.lock().unwrap_or_else(PoisonError::into_inner) == Reach::Served
    }

    /// Stores and reports a change.
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
