//! The writer of round-robin files: a thread of its own that takes updates from a bounded queue and
//! writes them by `rrdcached` when that answers, else with librrd. Who sends an update never waits
//! for it: when the disk is slow, the oldest updates are dropped.
//!
//! What is written where is decided by [`crate::status::map_rrd`].

mod librrd;
mod queue;
mod rrdcached;
mod schema;
mod writer;

use crate::clock::Clock;
use crate::status::RrdUpdate;
use queue::Queue;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Updates that may wait; a cluster of 10,000 guests sends about a thousand in a second.
const QUEUE_MAX: usize = 16384;

/// Where files and the daemon are.
#[derive(Debug, Clone)]
pub struct Options {
    /// Files lie below, one directory per schema.
    pub base_dir: PathBuf,
    /// rrdcached's socket; it need not be there.
    pub rrdcached_socket: PathBuf,
}

/// Takes updates for the writer. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sink(Arc<Queue>);

/// The running writer.
#[derive(Debug)]
pub struct Writer {
    queue: Arc<Queue>,
    thread: thread::JoinHandle<()>,
}

impl Sink {
    /// Queues an update. Never waits for a disk, a socket or the log.
    pub fn send(&self, update: RrdUpdate) {
        self.0.push(update);
    }

    /// A sink that writes nothing, for tests and tools.
    pub fn discarding() -> Sink {
        Sink(Arc::new(Queue::new(0)))
    }
}

impl Writer {
    /// Starts the writer.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(options: Options, clock: Clock) -> io::Result<(Sink, Writer)> {
        let queue = Arc::new(Queue::new(QUEUE_MAX));
        let taken = Arc::clone(&queue);
        let thread = thread::Builder::new()
            .name("rrd".to_owned())
            .spawn(move || writer::run(&taken, options, clock))?;
        Ok((Sink(Arc::clone(&queue)), Writer { queue, thread }))
    }

    /// Writes what is queued and ends; false when that takes longer than `patience`. Then the
    /// thread is left behind, and ends after the update that it is busy with.
    pub fn stop(self, patience: Duration) -> bool {
        let finished = self.queue.close(patience);
        if finished && self.thread.join().is_err() {
            log::error!("the RRD writer had panicked");
        }
        finished
    }
}
