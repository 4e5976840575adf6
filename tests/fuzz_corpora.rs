//! The fuzzers' rules, held over their kept corpora and over seeded mutations of these: a short and repeatable run of
//! what `make fuzz` does for as long as it is told to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[expect(unreachable_pub, reason = "the fuzzers' crate exports them")]
#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Mutations per target. Handshakes cost a millisecond each in an unoptimised build.
const MUTATIONS: usize = 3000;
/// The longest input.
const MAX_LEN: usize = 4096;

#[test]
fn no_kept_input_and_no_mutation_of_one_breaks_a_rule() {
    for (name, target) in targets::TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let mut files: Vec<_> = fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        let corpus: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
        for (file, input) in files.iter().zip(&corpus) {
            run(*target, input, &file.display().to_string());
        }
        let mut random = StdRng::seed_from_u64(1);
        for round in 0..MUTATIONS {
            let input = mutate(&corpus, &mut random);
            run(*target, &input, &format!("mutation {round} of {name}: {input:02x?}"));
        }
    }
}

fn run(target: targets::Target, input: &[u8], what: &str) {
    let outcome = std::panic::catch_unwind(|| target(input));
    assert!(outcome.is_ok(), "{what}");
}

/// Two inputs spliced, with some bytes changed, taken out or put in.
fn mutate(corpus: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let pick = |random: &mut StdRng| corpus[random.random_range(0..corpus.len())].clone();
    let mut input = pick(random);
    if random.random_bool(0.3) {
        let other = pick(random);
        input.truncate(random.random_range(0..=input.len()));
        input.extend_from_slice(&other[random.random_range(0..=other.len())..]);
    }
    for _ in 0..random.random_range(1..8) {
        let at = random.random_range(0..=input.len());
        match random.random_range(0..4) {
            0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
            1 if at < input.len() => input[at] = random.random(),
            2 if at < input.len() => {
                input.remove(at);
            }
            _ => input.insert(at, random.random()),
        }
    }
    input.truncate(MAX_LEN);
    input
}
