//! The network of a cluster: one switch, in a place of its own, with a link to each node. Links can be
//! moved to a second switch: then there are two networks.

use crate::space::Space;

/// The switch.
pub struct Network {
    switch: Space,
}

/// Where a link can be plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Main,
    Other,
}

impl Side {
    fn bridge(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Other => "other",
        }
    }
}

impl Network {
    pub fn new() -> nix::Result<Self> {
        let switch = Space::new()?;
        for side in [Side::Main, Side::Other] {
            switch.command(&["ip", "link", "add", side.bridge(), "type", "bridge"]);
            switch.command(&["ip", "link", "set", side.bridge(), "up"]);
        }
        Ok(Self { switch })
    }

    /// Connects a node.
    pub fn connect(&self, node: &Space, number: usize) {
        let (link, tid) = (link(number), node.tid().to_string());
        let pair = ["ip", "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &tid];
        self.switch.command(&pair);
        self.plug(number, Side::Main);
        self.switch.command(&["ip", "link", "set", &link, "up"]);
        node.command(&["ip", "link", "set", "lo", "up"]);
        node.command(&["ip", "addr", "add", &format!("{}/24", address(number)), "dev", "eth0"]);
        node.command(&["ip", "link", "set", "eth0", "up"]);
    }

    /// Moves a node's link.
    pub fn plug(&self, number: usize, side: Side) {
        self.switch.command(&["ip", "link", "set", &link(number), "master", side.bridge()]);
    }
}

fn link(number: usize) -> String {
    format!("node{number}")
}

/// The address of a node; it exists inside of the namespaces only.
pub fn address(number: usize) -> String {
    format!("10.99.0.{number}")
}
