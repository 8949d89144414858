//! Runs every fuzz target on its seed inputs and on mutations of them, without coverage guidance:
//! enough to keep the targets whole and to catch a parser that panics on small damage. The seed of the
//! random numbers is printed; set FUZZ_SEED to run the same again, FUZZ_ROUNDS for a longer run.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::panic::catch_unwind;

/// Mutations per target.
const ROUNDS: u64 = 2_000;

/// xorshift64*: repeatable and good enough to damage inputs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap_or(0) % end.max(1)
    }
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Damages an input the way broken peers do: bits, interesting integers, cuts, repeats.
fn mutate(input: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(6) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if bytes.len() >= 4 => {
                let interesting = [0u32, 1, 7, 0x7fff_ffff, 0x8000_0000, 0xffff_fff0, u32::MAX];
                let at = random.below(bytes.len() - 3);
                let value = interesting[random.below(interesting.len())];
                bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
            }
            2 => bytes.truncate(at),
            3 => {
                let tail = bytes[at..].to_vec();
                bytes.extend(tail);
            }
            4 => bytes.extend((0..random.below(32)).map(|_| 0)),
            _ => {
                let byte = random.next().to_le_bytes()[0];
                bytes.insert(at, byte);
            }
        }
    }
    bytes.truncate(1 << 18);
    bytes
}

#[test]
fn no_target_panics() {
    let seed = number_from("FUZZ_SEED").unwrap_or_else(|| (u64::from(std::process::id()) << 20) | 1);
    let rounds = number_from("FUZZ_ROUNDS").unwrap_or(ROUNDS);
    println!("FUZZ_SEED={seed}");
    for target in targets::TARGETS {
        let mut random = Random(seed | 1);
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seed input", target.name);
        for input in &seeds {
            targets::run(target.name, input);
        }
        for round in 0..rounds {
            let input = mutate(&seeds[random.below(seeds.len())], &mut random);
            let ran = catch_unwind(|| targets::run(target.name, &input));
            assert!(ran.is_ok(), "{} panics, FUZZ_SEED={seed} round {round}: {input:02x?}", target.name);
        }
    }
}

#[test]
fn each_target_has_a_program() {
    let manifest = include_str!("../fuzz/Cargo.toml");
    let bins = manifest.split("[[bin]]").skip(1);
    let programs: Vec<&str> =
        bins.filter_map(|bin| bin.trim().strip_prefix("name = \"")?.split('"').next()).collect();
    let targets: Vec<&str> = targets::TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(programs, targets);
}
