//! Appends from several programs on several nodes: no record is torn, lost, zeroed, or hidden from its
//! writer.
//!
//! Each record has a random length and a checksum, and many cross a page boundary. `LONG_ROUNDS` is the number of
//! rounds; each round fills a file nearly to its limit.

use crate::cluster::Mix;
use crate::node::Node;
use crate::random::Random;
use crate::wait::soon;
use crate::{TOKEN, long_rounds, run_with};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Appenders on each node.
const APPENDERS: usize = 2;
/// Longest record.
const RECORD_MAX: usize = 9000;
/// Together the records of a round stay below the size limit of a file.
const BYTES_MAX: usize = 900_000;

/// Bytes before the payload: marker, writer, sequence number, length of the payload, checksum.
const HEAD: usize = 20;
const MARKER: [u8; 4] = *b"REC:";

/// Identity of a record: writer and sequence number.
type Id = (u32, u32);

fn record((writer, sequence): Id, random: &mut Random) -> Vec<u8> {
    let length = random.below(RECORD_MAX - HEAD) + 1;
    // No zero bytes: the kernel puts those into pages that it clears.
    let payload: Vec<u8> = (0..length).map(|_| (random.below(255) + 1) as u8).collect();
    let mut bytes = MARKER.to_vec();
    for number in [writer, sequence, length as u32, sum(&payload)] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    bytes.extend_from_slice(&payload);
    bytes
}

fn sum(payload: &[u8]) -> u32 {
    // FNV-1a.
    payload.iter().fold(0x811c_9dc5, |sum: u32, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The complete records of a file. The last one may be incomplete while the file is appended to.
fn records(bytes: &[u8]) -> Result<(Vec<Id>, usize), String> {
    let mut ids = Vec::new();
    let mut at = 0;
    while at + HEAD <= bytes.len() {
        let number = |index: usize| {
            let from = at + 4 + 4 * index;
            u32::from_le_bytes(bytes[from..from + 4].try_into().expect("four bytes"))
        };
        if bytes[at..at + 4] != MARKER {
            let zeros = bytes[at..].iter().take_while(|byte| **byte == 0).count();
            return Err(format!("no record at {at} of {}; {zeros} zero bytes there", bytes.len()));
        }
        let id = (number(0), number(1));
        let end = at + HEAD + number(2) as usize;
        let Some(payload) = bytes.get(at + HEAD..end) else { break };
        if sum(payload) != number(3) {
            let zeros = payload.iter().filter(|byte| **byte == 0).count();
            return Err(format!("record {id:?} at {at} has another sum, and {zeros} zero bytes"));
        }
        ids.push(id);
        at = end;
    }
    Ok((ids, at))
}

fn read_records(path: &Path) -> Result<(Vec<Id>, usize, usize), String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    read.map_err(|error| error.to_string())?;
    let (ids, whole) = records(&bytes)?;
    Ok((ids, whole, bytes.len()))
}

/// Appends records, and checks each of them immediately after `write` returned. Returns their number.
fn append(node: &Node, name: &str, writer: u32, seed: u64, budget: usize) -> u32 {
    let mut random = Random::new(seed);
    let path = node.tree(name);
    let mut file = File::options().append(true).open(&path).expect("opened for appending");
    let (mut taken, mut sequence) = (0, 0);
    while taken + RECORD_MAX < budget {
        let bytes = record((writer, sequence), &mut random);
        file.write_all(&bytes).expect("appended");
        let (seen, ..) = read_records(&path).unwrap_or_else(|error| panic!("node {}: {error}", node.number));
        assert!(seen.contains(&(writer, sequence)), "node {} misses its record {sequence}", node.number);
        taken += bytes.len();
        sequence += 1;
    }
    sequence
}

fn round(nodes: &[Node], name: &str, seed: u64) {
    nodes[0].write(name, "").expect("made");
    soon("the file", || nodes.iter().all(|node| node.has(name, "")));
    let budget = BYTES_MAX / (nodes.len() * APPENDERS);
    let done = AtomicBool::new(false);
    let written: usize = thread::scope(|scope| {
        let mut appenders = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            for own in 0..APPENDERS {
                let writer = (index * APPENDERS + own) as u32;
                let seed = seed + u64::from(writer);
                appenders.push(scope.spawn(move || append(node, name, writer, seed, budget)));
            }
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    let read = read_records(&node.tree(name));
                    assert!(read.is_ok(), "reader on node {}: {read:?}", node.number);
                }
            });
        }
        let results: Vec<_> = appenders.into_iter().map(thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        results.into_iter().map(|written| written.expect("an appender ends well") as usize).sum()
    });
    for node in nodes {
        let path = node.tree(name);
        soon("all records", || read_records(&path).is_ok_and(|(ids, ..)| ids.len() == written));
        let (ids, whole, length) = read_records(&path).expect("readable");
        assert_eq!(whole, length, "node {}: bytes behind the last record", node.number);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), written, "node {}", node.number);
        // The records of each writer are in the order of their sequence numbers.
        for writer in 0..(nodes.len() * APPENDERS) as u32 {
            let own: Vec<u32> = ids.iter().filter(|id| id.0 == writer).map(|id| id.1).collect();
            assert!(own.is_sorted(), "node {}: writer {writer}: {own:?}", node.number);
        }
    }
    fs::remove_file(nodes[0].tree(name)).expect("removed");
}

/// Concurrent appends of several nodes land whole at the end, and their writers see them.
#[test]
fn appends_of_all_nodes_land_whole() {
    let seed = Random::fresh_seed();
    eprintln!("seed {seed}");
    let mixes = vec![Mix::ours(2), Mix::ours(3)];
    run_with(mixes, "appends_of_all_nodes_land_whole", TOKEN, |cluster| {
        for number in 0..long_rounds(1) {
            round(&cluster.nodes, &format!("journal{number}"), seed + 1000 * number as u64);
        }
    });
}
