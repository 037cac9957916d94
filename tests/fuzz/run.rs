//! Runs one target: its corpus, then inputs made of the corpus by chance, and makes what fails as small as it can be.
//!
//! The same seed gives the same inputs. An input that came to something new is one of those that others are made of.

use std::any::Any;
use std::cell::Cell;
use std::collections::HashSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// What is fed with arbitrary bytes.
pub struct Target {
    /// Its name, and that of the folder of its corpus.
    pub name: &'static str,
    /// Asserts what always holds, and says what the input came to.
    pub check: fn(&[u8]) -> Outcome,
    /// What its inputs are made of.
    pub words: &'static [&'static str],
    /// How many inputs are tried where nothing else is asked for: a few seconds.
    pub cases: u64,
}

/// What an input came to: two that came to the same are of one kind.
pub type Outcome = u64;

/// An outcome from anything that tells kinds apart.
pub fn outcome(kind: impl Hash) -> Outcome {
    let mut hasher = DefaultHasher::new();
    kind.hash(&mut hasher);
    hasher.finish()
}

/// The longest input that is made.
const LONGEST: usize = 6_000;
/// No input may take longer, in a build without optimisation on a busy host.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a failing input is made smaller at the most.
const SHRINKS: usize = 3_000;

/// Runs the corpus of a target, and as many inputs as `DOCKMASTER_FUZZ_CASES` says, from the seed `DOCKMASTER_FUZZ_SEED`.
pub fn run(target: &Target) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")));
    let cases = number("DOCKMASTER_FUZZ_CASES").unwrap_or(target.cases);
    let seed = number("DOCKMASTER_FUZZ_SEED").unwrap_or(1);
    let corpus = corpus(target.name);
    assert!(!corpus.is_empty(), "tests/fuzz/corpus/{} is empty", target.name);
    let mut seen = HashSet::new();
    let mut pool = Vec::new();
    for (path, input) in corpus {
        match attempt(target, &input) {
            Ok(outcome) => _ = seen.insert(outcome),
            Err(why) => panic!("{}: {why}", path.display()),
        }
        pool.push(input);
    }
    let mut random = StdRng::seed_from_u64(seed);
    for case in 0..cases {
        let input = make(&pool, target.words, &mut random);
        match attempt(target, &input) {
            Ok(outcome) if seen.insert(outcome) => pool.push(input),
            Ok(_) => {}
            Err(_) => {
                let input = shrink(target, input);
                let why = attempt(target, &input).expect_err("it failed before");
                let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}-{seed}-{case}", target.name));
                fs::write(&kept, &input).unwrap();
                panic!(
                    "{}: case {case} of seed {seed}: {why}\nthe input, made small, is {}; it belongs into tests/fuzz/corpus/{}:\n{}",
                    target.name,
                    kept.display(),
                    target.name,
                    input.escape_ascii()
                );
            }
        }
    }
    println!("{}: {cases} inputs from seed {seed}, {} kinds of outcome", target.name, seen.len());
}

/// The files of a corpus, in the order of their names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// What one input comes to, or why it fails.
fn attempt(target: &Target, input: &[u8]) -> Result<Outcome, String> {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let others = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                others(info);
            }
        }));
    });
    QUIET.set(true);
    let begun = Instant::now();
    let result = panic::catch_unwind(|| (target.check)(input));
    QUIET.set(false);
    let outcome = result.map_err(|panic| words(panic.as_ref()))?;
    if begun.elapsed() > PATIENCE { Err(format!("it took {:?}", begun.elapsed())) } else { Ok(outcome) }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_else(|| "it panicked".to_owned())
}

/// An input made of those in the pool by one to five changes.
fn make(pool: &[Vec<u8>], words: &[&str], random: &mut StdRng) -> Vec<u8> {
    let mut input = pick(pool, random).clone();
    for _ in 0..random.random_range(1..=5) {
        change(&mut input, pool, words, random);
    }
    input.truncate(LONGEST);
    input
}

fn change(input: &mut Vec<u8>, pool: &[Vec<u8>], words: &[&str], random: &mut StdRng) {
    let at = random.random_range(0..=input.len());
    let end = (at + random.random_range(0..=16)).min(input.len());
    match random.random_range(0..11) {
        0 if at < input.len() => input[at] ^= 1 << random.random_range(0..8),
        1 => input.insert(at, *pick(b"\n\r\t :-{}[]#&*!|>'\"%@,?~\0\xff09azAZ", random)),
        2 => drop(input.drain(at..end)),
        3 => {
            let part = input[at..end].to_vec();
            let to = random.random_range(0..=input.len());
            input.splice(to..to, part);
        }
        4 | 5 => drop(input.splice(at..at, pick(words, random).bytes())),
        6 => drop(input.splice(at..end, pick(words, random).bytes())),
        7 => {
            let other = pick(pool, random);
            let from = random.random_range(0..=other.len());
            input.splice(at.., other[from..].iter().copied());
        }
        // Whole lines: inserted from another input, removed, or moved.
        8 => {
            let others = lines(pick::<Vec<u8>>(pool, random));
            let line = pick(&others, random).clone();
            let to = line_start(input, at);
            input.splice(to..to, line);
        }
        9 => {
            let mut all = lines(input);
            all.remove(random.random_range(0..all.len()));
            *input = all.concat();
        }
        _ => {
            let mut all = lines(input);
            let line = all.remove(random.random_range(0..all.len()));
            all.insert(random.random_range(0..=all.len()), line);
            *input = all.concat();
        }
    }
}

fn pick<'a, T>(all: &'a [T], random: &mut StdRng) -> &'a T {
    &all[random.random_range(0..all.len())]
}

/// The lines with their ends; one that is empty where there are none.
fn lines(input: &[u8]) -> Vec<Vec<u8>> {
    let lines: Vec<Vec<u8>> = input.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if lines.is_empty() { vec![Vec::new()] } else { lines }
}

fn line_start(input: &[u8], at: usize) -> usize {
    input[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
}

/// The smallest input that was found to fail: parts are left out, from halves down to bytes.
fn shrink(target: &Target, mut input: Vec<u8>) -> Vec<u8> {
    let mut left = SHRINKS;
    let mut size = input.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < input.len() && left > 0 {
            left -= 1;
            let mut smaller = input.clone();
            smaller.drain(at..(at + size).min(input.len()));
            if attempt(target, &smaller).is_err() {
                input = smaller;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    input
}

#[test]
fn the_same_seed_gives_the_same_inputs_and_a_failure_is_made_small() {
    let pool = [b"a: 1\nb: 2\n".to_vec(), b"c: 3\n".to_vec()];
    let made = |seed| {
        let mut random = StdRng::seed_from_u64(seed);
        (0..50).map(|_| make(&pool, &["x", "---\n"], &mut random)).collect::<Vec<_>>()
    };
    assert_eq!(made(7), made(7));
    assert_ne!(made(7), made(8));
    let check = |input: &[u8]| {
        assert!(!input.windows(2).any(|two| two == b"3\n"), "three");
        0
    };
    let target = Target { name: "none", check, words: &["x"], cases: 0 };
    assert_eq!(shrink(&target, b"a: 1\nc: 3\nd: 4\n".to_vec()), b"3\n");
    assert_eq!(attempt(&target, b"3\n"), Err("three".to_owned()));
}
