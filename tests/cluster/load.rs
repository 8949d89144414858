//! Clients that write all the time, on nodes that come and go or not.

use crate::cluster::Cluster;
use crate::wait::soon;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Files that a client writes to in turns.
const FILES: usize = 7;

/// The clients. What a client was told to be written must be there in the end.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Vec<(String, String)>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    count: AtomicUsize,
}

impl Load {
    /// A client on each of the nodes.
    pub fn start(cluster: &Cluster, on: &[usize]) -> Self {
        let shared = Arc::<Shared>::default();
        let client = |number: &usize| {
            let (tree, shared, number) = (cluster[*number].tree(""), Arc::clone(&shared), *number);
            thread::spawn(move || client(&tree, number, &shared))
        };
        let clients = on.iter().map(client).collect();
        Self { shared, clients }
    }

    /// Writes that succeeded.
    pub fn count(&self) -> usize {
        self.shared.count.load(Ordering::SeqCst)
    }

    /// Ends the clients; what they wrote last must be on all nodes.
    pub fn stop(self, cluster: &Cluster) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            for (name, text) in client.join().expect("a client") {
                for node in &cluster.nodes {
                    soon(&format!("{name} is '{text}' on node {}", node.number), || node.has(&name, &text));
                }
            }
        }
    }
}

/// Writes until it is to stop; what of its files was written last, if nothing failed since.
fn client(tree: &std::path::Path, number: usize, shared: &Shared) -> Vec<(String, String)> {
    let mut written = vec![None; FILES];
    let mut round = 0;
    while !shared.stop.load(Ordering::SeqCst) {
        let (file, text) = (round % FILES, format!("round {round} of {number}"));
        let name = format!("load-{number}-{file}");
        let temporary: PathBuf = tree.join(format!("load-{number}.tmp"));
        let result = fs::write(&temporary, &text).and_then(|()| fs::rename(&temporary, tree.join(&name)));
        written[file] = match result {
            Ok(()) => {
                shared.count.fetch_add(1, Ordering::SeqCst);
                Some((name, text))
            }
            Err(_) => {
                // It may have been done or not; and a group that is being joined refuses for a while.
                thread::sleep(Duration::from_millis(20));
                None
            }
        };
        round += 1;
    }
    written.into_iter().flatten().collect()
}
