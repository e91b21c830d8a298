//! Fuzzers on the stable toolchain: kept inputs, mutated by a seeded hand, against properties.
//!
//! Each target has a folder of inputs in `tests/corpus`. A check tells, in a number, what an input came to; an input
//! that came to something new joins those that are mutated, so that a run finds its way in without looking at the
//! compiled code. Whatever breaks a property is made as short as it can be and printed; put into the folder, it is
//! tried first from then on. Inputs are bounded ([`INPUT_BYTES_MAX`]), and so is what is kept of them.
//!
//! `OVERFALL_SEED` sets another seed. What is found again and again is found by every run: the seed is fixed.

mod headers;
mod journal;
mod multipart;
mod policy;
mod records;
mod sse;
mod usage;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const INPUT_BYTES_MAX: usize = 16 << 10;
const POOL_MAX: usize = 2000;
/// Attempts to make a failing input shorter.
const CUTS_MAX: usize = 2000;

/// What is fuzzed.
struct Target {
    /// Its folder.
    name: &'static str,
    /// Mutations in `make test`; `make prove` goes on for as long as it may.
    rounds: usize,
    /// Words of its grammar.
    words: &'static [&'static str],
    /// Tells what an input came to; panics where a property does not hold.
    check: fn(&[u8]) -> u64,
}

impl Target {
    fn run(&self) {
        let (mut pool, mut seen) = (Vec::new(), HashSet::new());
        for (path, input) in corpus(self.name) {
            let came_to =
                self.attempt(&input).unwrap_or_else(|| self.fail(&input, &path.display().to_string()));
            seen.insert(came_to);
            pool.push(input);
        }
        assert!(!pool.is_empty(), "no inputs are kept of {}", self.name);
        let kept = pool.len();
        let seed = std::env::var("OVERFALL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
        let mut random = StdRng::seed_from_u64(seed);
        let (began, longest) = (super::now(), super::longest().unwrap_or_default());
        let mut round = 0;
        while round < self.rounds || began.elapsed() < longest {
            let input = self.mutated(&pool, &mut random);
            let Some(came_to) = self.attempt(&input) else {
                self.fail(&input, &format!("seed {seed}, round {round}"))
            };
            if seen.insert(came_to) && pool.len() < POOL_MAX {
                pool.push(input);
            }
            round += 1;
        }
        println!("fuzz: {}: {kept} kept inputs, {round} mutations, {} outcomes", self.name, seen.len());
        super::tell(kept + round, "fuzzed inputs");
    }

    /// What an input comes to; nothing where it breaks a property.
    fn attempt(&self, input: &[u8]) -> Option<u64> {
        catch_unwind(AssertUnwindSafe(|| (self.check)(input))).ok()
    }

    fn fail(&self, input: &[u8], whence: &str) -> ! {
        let mut short = input.to_vec();
        let (mut part, mut cuts) = (short.len().div_ceil(2), 0);
        while part > 0 && cuts < CUTS_MAX {
            let mut at = 0;
            while at < short.len() && cuts < CUTS_MAX {
                let mut shorter = short.clone();
                shorter.drain(at..(at + part).min(short.len()));
                cuts += 1;
                if self.attempt(&shorter).is_none() {
                    short = shorter;
                } else {
                    at += part;
                }
            }
            part /= 2;
        }
        panic!(
            "fuzz {} ({whence}): keep this in tests/corpus/{}:\n{}",
            self.name,
            self.name,
            short.escape_ascii()
        );
    }

    fn mutated(&self, pool: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
        let mut input = pool.choose(random).cloned().unwrap_or_default();
        for _ in 0..random.random_range(1..=6) {
            let at = random.random_range(0..=input.len());
            let end = random.random_range(at..=input.len().min(at + 64));
            match random.random_range(0..9) {
                0 => drop(input.drain(at..end)),
                1 => {
                    let again = input[at..end].to_vec();
                    input.splice(at..at, again);
                }
                2 => {
                    let word = self.words.choose(random).copied().unwrap_or_default();
                    input.splice(at..at, word.bytes());
                }
                3 => {
                    let word = self.words.choose(random).copied().unwrap_or_default();
                    input.splice(at..end, word.bytes());
                }
                4 => {
                    let other = pool.choose(random).map_or(&[][..], Vec::as_slice);
                    let from = random.random_range(0..=other.len());
                    input.splice(at.., other[from..].iter().copied());
                }
                5 => {
                    let bytes: [u8; 4] = random.random();
                    input.splice(at..at, bytes);
                }
                6 => {
                    let digits = random.random_range(0..u64::MAX) >> random.random_range(0..64);
                    input.splice(at..end, digits.to_string().bytes());
                }
                7 => input.truncate(at),
                _ => {
                    if let Some(byte) = input.get_mut(at) {
                        *byte ^= 1 << random.random_range(0..8);
                    }
                }
            }
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }
}

/// The kept inputs of a target, in the order of their names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Pieces of an input, the same for the same input.
fn pieces(input: &[u8]) -> Vec<&[u8]> {
    let mut random = StdRng::seed_from_u64(came_to(&input));
    let (mut rest, mut pieces) = (input, Vec::new());
    while !rest.is_empty() {
        let most = if random.random_ratio(1, 3) { 1 } else { rest.len().min(40) };
        let (piece, after) = rest.split_at(random.random_range(1..=most));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// A number for an outcome.
fn came_to(outcome: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    outcome.hash(&mut hasher);
    hasher.finish()
}
