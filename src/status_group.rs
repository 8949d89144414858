//! The status group: key/values, round-robin values and the cluster log of all members. It runs on
//! [`crate::dfsm`] and works on a [`Status`]; it never does I/O.
//!
//! There is nothing to agree on: everybody is synced at once, and tells at every sync what it has.

pub mod wire;

use crate::dfsm::wire::Extension;
use crate::dfsm::{App, Delivered, Delivery, Leave, Member, Members, Outgoing, Port, Then};
use crate::status::clusterlog::{Entry, Ring};
use crate::status::{RrdKeyError, RrdUpdate, Status, Stored};
use wire::Request;

/// The status group as an application of the state machine.
#[derive(Debug)]
pub struct StatusGroup {
    /// The address that this node's name resolves to, as text: told when no other one was set.
    address: Vec<u8>,
}

/// Why a message of another node was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a status message that was not understood")]
pub struct NotTaken;

/// What has to happen outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatusEffect {
    /// A round-robin value of another node is to be written, or its key is of no known kind.
    Rrd { key: Vec<u8>, update: Result<RrdUpdate, RrdKeyError> },
    /// The node with this id has set or removed a value.
    ValueSet { node_id: u32, key: Vec<u8> },
    /// A node has put an entry into the cluster log.
    Logged(Entry),
}

impl StatusGroup {
    /// The group's application on a node with this address.
    pub fn new(address: &str) -> Self {
        Self { address: address.as_bytes().to_vec() }
    }

    fn take_value(
        status: &mut Status,
        message: &Delivery<'_>,
        port: &mut Port<'_, Self>,
    ) -> Result<(), NotTaken> {
        let (key, value) = match wire::decode_value(message.payload) {
            Ok(read) => read,
            Err(error) => {
                port.critical(error.to_string());
                return Err(NotTaken);
            }
        };
        match status.set_peer(message.from.node, key, value, port.now().uptime) {
            Ok(Stored::Rrd(update)) => port.effect(StatusEffect::Rrd { key: key.to_vec(), update }),
            Ok(Stored::Value) => {
                port.effect(StatusEffect::ValueSet { node_id: message.from.node, key: key.to_vec() });
            }
            // A node that is not in the list, or a value that no client could have set: as stock,
            // without a word.
            Ok(Stored::Address { .. }) | Err(_) => {}
        }
        Ok(())
    }

    fn take_log(
        status: &mut Status,
        message: &Delivery<'_>,
        port: &mut Port<'_, Self>,
    ) -> Result<(), NotTaken> {
        match Entry::decode(message.payload) {
            Ok(entry) => {
                if status.log_mut().insert(&entry) {
                    port.effect(StatusEffect::Logged(entry));
                }
                Ok(())
            }
            Err(error) => {
                port.critical(error.to_string());
                Err(NotTaken)
            }
        }
    }
}

impl App for StatusGroup {
    const GROUP: &'static str = "pve_kvstore_v1";
    const DOMAIN: &'static str = "status";
    const PROTOCOL_VERSION: u32 = 0;
    const VERIFIES: bool = false;

    type Store = Status;
    type Request = Request;
    type Outcome = Result<(), NotTaken>;
    type Effect = StatusEffect;

    fn check(&self, _store: &Status, request: Request) -> Result<Request, Self::Outcome> {
        Ok(request)
    }

    fn encode(request: Request, _: Extension) -> Outgoing {
        request.encode()
    }

    fn state(&mut self, store: &mut Status) -> Vec<u8> {
        store.log_mut().state().to_vec()
    }

    fn process_states(
        &mut self,
        store: &mut Status,
        members: &mut [Member],
        port: &mut Port<'_, Self>,
    ) -> Result<(), Leave> {
        let local = port.local();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        let mut passed_local = false;
        for member in members {
            member.synced = true;
            if member.id == local {
                passed_local = true;
                continue;
            }
            match Ring::decode(member.state.as_deref().unwrap_or_default()) {
                Ok(ring) => if passed_local { &mut after } else { &mut before }.push(ring),
                Err(error) => port.critical(format!("state of {}: {error}", member.id)),
            }
        }
        store.log_mut().merge(&before, &after);
        for (key, value) in store.own_values() {
            port.send(wire::encode_value(key, value));
        }
        Ok(())
    }

    fn process_update(&mut self, _payload: &[u8], port: &mut Port<'_, Self>) -> Result<(), Leave> {
        port.critical("received unexpected update message");
        Err(Leave)
    }

    fn finish_resync(&mut self, _store: &mut Status, _port: &mut Port<'_, Self>) -> Result<(), Leave> {
        Ok(())
    }

    fn forget_round(&mut self) {}

    fn deliver(
        &mut self,
        store: &mut Status,
        message: &Delivery<'_>,
        port: &mut Port<'_, Self>,
    ) -> Delivered<Self::Outcome> {
        let outcome = match message.subtype {
            _ if message.local => Ok(()),
            wire::VALUE => Self::take_value(store, message, port),
            wire::LOG => Self::take_log(store, message, port),
            other => {
                port.critical(format!("received unknown message type {other}"));
                Err(NotTaken)
            }
        };
        Delivered { outcome, then: Then::Continue }
    }

    fn checksum(&mut self, _store: &Status) -> [u8; 32] {
        [0; 32]
    }

    fn membership_changed(&mut self, store: &mut Status, members: &Members) {
        let online: Vec<u32> = members.iter().map(|member| member.id.node).collect();
        store.set_online(&online);
    }

    fn synced(&mut self, store: &mut Status, port: &mut Port<'_, Self>) {
        let own = store.address(store.node()).map(<[u8]>::to_vec);
        let value = [own.unwrap_or_else(|| self.address.clone()), vec![0]].concat();
        // Only an address too long to be one is refused; then the others are told nothing either.
        if store.set(b"nodeip", &value, port.now().uptime).is_ok() {
            port.send(wire::encode_value(b"nodeip", &value));
        }
    }
}
