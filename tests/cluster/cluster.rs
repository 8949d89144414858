//! A whole cluster, and what tests do with it.

use crate::compare::{self, Row};
use crate::corosync::{self, Settings};
use crate::network::{Network, Side};
use crate::node::{Kind, Node};
use crate::wait::{PATIENCE, eventually, within};
use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};
use std::path::PathBuf;

/// The nodes, numbered from 1, and their network.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub network: Network,
    pub settings: Settings,
    _dir: tempfile::TempDir,
}

/// Which daemons are where: `o` for ours, `s` for stock.
#[derive(Debug, Clone)]
pub struct Mix {
    pub kinds: Vec<Kind>,
}

impl Mix {
    pub fn ours(nodes: usize) -> Self {
        Self { kinds: vec![Kind::Ours; nodes] }
    }

    pub fn new(letters: &str, stock: &str) -> Self {
        let kind = |letter| if letter == 's' { Kind::Stock(PathBuf::from(stock)) } else { Kind::Ours };
        Self { kinds: letters.chars().map(kind).collect() }
    }

    pub fn has_stock(&self) -> bool {
        self.kinds.iter().any(|kind| *kind != Kind::Ours)
    }
}

/// Why there can be no cluster here; `None` when there can.
pub fn obstacle() -> Option<String> {
    if !corosync::is_installed() {
        return Some("corosync is not installed".to_owned());
    }
    match Network::new() {
        Ok(_) => None,
        Err(error) => Some(format!("namespaces are not permitted ({error})")),
    }
}

impl Cluster {
    /// Corosync on all nodes, no daemon yet.
    pub fn prepare(mix: &Mix, token: u32) -> Self {
        let dir = tempfile::Builder::new().prefix("cluster-").tempdir().expect("temp dir");
        let settings = Settings { token, version: 1, nodes: mix.kinds.len() };
        let network = Network::new().expect("namespaces");
        let mut nodes = Vec::new();
        for (number, kind) in (1..).zip(&mix.kinds) {
            let path = dir.path().join(format!("n{number}"));
            let mut node = Node::new(number, kind.clone(), &path).expect("namespaces");
            network.connect(&node.space, number);
            node.configure(&settings);
            node.start_corosync();
            nodes.push(node);
        }
        Self { nodes, network, settings, _dir: dir }
    }

    /// Everything runs and is in sync.
    pub fn start(mix: &Mix, token: u32) -> Self {
        let mut cluster = Self::prepare(mix, token);
        for node in &mut cluster.nodes {
            node.launch();
        }
        cluster.settle();
        cluster
    }

    pub fn numbers(&self) -> Vec<usize> {
        (1..=self.nodes.len()).collect()
    }

    /// Waits until all nodes are members, and each can change the tree of all.
    pub fn settle(&self) {
        let all = self.numbers();
        self.await_members(&all, &all);
        for node in &self.nodes {
            let name = format!("probe-{}", node.number);
            eventually("the tree can be changed", || node.write(&name, "x").is_ok());
            for other in &self.nodes {
                eventually("a change is everywhere", || other.has(&name, "x"));
            }
            std::fs::remove_file(node.tree(&name)).expect("removed");
        }
    }

    /// Waits until `on` see exactly `online`; there is quorum when these are the most.
    pub fn await_members(&self, on: &[usize], online: &[usize]) {
        let quorate = online.len() * 2 > self.nodes.len();
        for number in on {
            let node = &self[*number];
            let seen = within(PATIENCE, || node.sees(online, quorate));
            assert!(seen, "node {number} does not see {online:?}: {}{}", node.json(".members"), self.story());
        }
    }

    /// Cuts some nodes off from the others.
    pub fn cut(&self, numbers: &[usize]) {
        numbers.iter().for_each(|number| self.network.plug(*number, Side::Other));
    }

    /// One network again.
    pub fn heal(&self) {
        self.numbers().iter().for_each(|number| self.network.plug(*number, Side::Main));
    }

    /// All running daemons have stored the same rows, and show the same tree.
    pub fn assert_equal(&self) {
        let running: Vec<&Node> = self.nodes.iter().filter(|node| node.runs()).collect();
        let mut different = String::new();
        let equal = within(PATIENCE, || {
            different = self.first_difference(&running);
            different.is_empty()
        });
        assert!(equal, "databases differ: {different}{}", self.story());
        let first = compare::tree(running[0]);
        for node in &running[1..] {
            assert!(compare::tree(node) == first, "node {} shows another tree{}", node.number, self.story());
        }
    }

    fn first_difference(&self, nodes: &[&Node]) -> String {
        let read = |node: &Node| -> Option<BTreeMap<i64, Row>> { compare::rows(&node.database()).ok() };
        let Some(first) = read(nodes[0]) else { return "unreadable".to_owned() };
        for node in &nodes[1..] {
            let Some(other) = read(node) else { return "unreadable".to_owned() };
            let difference = compare::difference(&first, &other);
            if !difference.is_empty() {
                return format!("{} and {}: {difference}", nodes[0].number, node.number);
            }
        }
        String::new()
    }

    /// The end of every scenario: equal while they run and when they have ended.
    pub fn finish(mut self) {
        self.assert_equal();
        for node in &mut self.nodes {
            if !node.is_stock() {
                assert_eq!(node.logged("panicked"), 0, "node {}: {}", node.number, node.log());
            }
            node.stop();
        }
        let nodes: Vec<&Node> = self.nodes.iter().collect();
        assert_eq!(self.first_difference(&nodes), "", "after the end{}", self.story());
    }

    /// What the daemons said last, for a failed test.
    pub fn story(&self) -> String {
        let last = |log: String, count: usize| {
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(count)..].join("\n")
        };
        let told = self.nodes.iter().map(|node| {
            let (daemon, corosync) = (last(node.log(), 40), last(node.corosync_log(), 5));
            format!("\n--- n{}\n{daemon}\n--- corosync\n{corosync}", node.number)
        });
        told.collect()
    }
}

impl Index<usize> for Cluster {
    type Output = Node;

    fn index(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number - 1]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.story());
        }
    }
}
