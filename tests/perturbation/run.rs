//! The perturbation harness: every scenario is run undisturbed, and then again and again with faults at every call; each time the end
//! must be the same, no invariant may be broken on the way, and nothing may move any more when it is over.
//!
//! After Sieve (OSDI 2022), Acto (SOSP 2023), Anvil (OSDI 2024) and FoundationDB's simulation: the engine is simulated, time is virtual,
//! randomness is seeded, and one thread does a run, so that a run with the same scenario, seed and faults has the same trace.
//!
//! ```text
//! cargo run --profile harness -p perturbation                            the share of ./tests/run
//! … -- --runs 1000000 --seconds 7200 --seed 7                            more, or other ones
//! … -- --scenario change-env --faults crash-after@17,event-Lost@3        one run, with its trace
//! … -- --list                                                            the scenarios, with the calls of their undisturbed runs
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, clippy::wildcard_enum_match_arm, reason = "a test tells what it finds")]

mod bugs;
mod engine;
mod fault;
mod folder;
mod gate;
mod jobs;
mod judge;
mod lab;
mod life;
mod line;
mod paths;
mod scenario;
mod scenarios;
mod view;
mod watcher;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bugs::{BANK, Bug};
use engine::Mode;
use fault::Fault;
use jobs::{Job, Of};
use lab::Outcome;
use scenario::Scenario;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Options {
    runs: usize,
    seconds: u64,
    seed: u64,
    scenario: Option<String>,
    faults: Option<Vec<Fault>>,
    mode: Option<Mode>,
    list: bool,
    bank: bool,
    bug: Option<Bug>,
    at_least: usize,
    skip: usize,
}

fn options() -> Result<Options, String> {
    let mut options =
        Options { runs: 20_000, seconds: 900, seed: 1, scenario: None, faults: None, mode: None, list: false, bank: false, bug: None, at_least: 0, skip: 0 };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("`{text}` is not a number"));
        match argument.as_str() {
            "--runs" => options.runs = usize::try_from(number(value()?)?).unwrap(),
            "--at-least" => options.at_least = usize::try_from(number(value()?)?).unwrap(),
            "--skip" => options.skip = usize::try_from(number(value()?)?).unwrap(),
            "--seconds" => options.seconds = number(value()?)?,
            "--seed" => options.seed = number(value()?)?,
            "--scenario" => options.scenario = Some(value()?),
            "--mode" => options.mode = Some(value()?.parse()?),
            "--faults" => options.faults = Some(value()?.split(',').filter(|text| !text.is_empty()).map(str::parse).collect::<Result<_, _>>()?),
            "--bugs" => options.bank = true,
            "--bug" => options.bug = Some(value()?.parse()?),
            "--list" => options.list = true,
            other => return Err(format!("unknown option {other}")),
        }
    }
    Ok(options)
}

/// What went wrong in one.
struct Failure {
    scenario: String,
    mode: Mode,
    faults: Vec<Fault>,
    seed: u64,
    why: Vec<String>,
    trace: Vec<String>,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    lab::catch_panics();
    let all: Vec<Scenario> = match options.scenario.as_deref() {
        None => scenarios::all(),
        Some(name) => match name.strip_prefix("swarm-").and_then(|number| number.parse().ok()) {
            Some(number) => vec![scenarios::swarm(number)],
            None => scenarios::all().into_iter().filter(|scenario| scenario.name == name).collect(),
        },
    };
    if all.is_empty() {
        eprintln!("error: there is no such scenario; --list shows them");
        return ExitCode::FAILURE;
    }
    if let (Some(faults), [scenario]) = (&options.faults, all.as_slice()) {
        return replay(scenario, options.mode.unwrap_or(Mode::V28), options.seed, faults, options.bug);
    }
    let begun = Instant::now();
    let references = references(&all, options.seed);
    let mut bad = 0;
    for (scenario, [old, new]) in all.iter().zip(&references) {
        let mut why: Vec<String> = [old, new].into_iter().flat_map(|outcome| judge::alone(scenario, outcome)).collect();
        why.extend(judge::same_end(scenario, old, new).into_iter().map(|line| format!("R6: the versions of the engine end differently: {line}")));
        if options.list || !why.is_empty() {
            println!("{:32} {:4} calls, {:3} changes, {:3} events", scenario.name, new.calls, new.mutations, new.events);
        }
        bad += usize::from(!why.is_empty());
        why.iter().for_each(|line| println!("    {line}"));
    }
    println!("{} scenarios undisturbed, {bad} wrong, {:.1} s", all.len(), begun.elapsed().as_secs_f64());
    if !options.list && !options.bank && options.scenario.is_none() {
        bad += ways(&all, options.seed);
    }
    if options.list {
        return if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if options.bank {
        return bank(&all, &references, options.seed);
    }
    let (done, failures, unsteady) = disturb(&options, &all, &references, begun);
    report(&failures);
    let calls: u64 = references.iter().map(|[_, new]| new.calls).sum();
    println!(
        "{done} disturbed runs over {} scenarios with {calls} calls, seed {}, {:.0} s: {} wrong, {unsteady} not the same twice",
        all.len(),
        options.seed,
        begun.elapsed().as_secs_f64(),
        failures.len()
    );
    if done < options.at_least {
        println!("only {done} of at least {} runs were done in {} s", options.at_least, options.seconds);
        return ExitCode::FAILURE;
    }
    if bad == 0 && failures.is_empty() && unsteady == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Goes every way to a declared state; how many led elsewhere.
fn ways(all: &[Scenario], seed: u64) -> usize {
    let (begun, ways, bad) = (Instant::now(), paths::ways(all), AtomicUsize::new(0));
    in_parallel(|next| {
        while let Some(index) = next(ways.len()) {
            let wrong = ways[index].wrong(seed);
            bad.fetch_add(usize::from(!wrong.is_empty()), Ordering::SeqCst);
            wrong.iter().for_each(|line| println!("{line}"));
        }
    });
    let bad = bad.into_inner();
    println!("{} ways to a declared state, {bad} led elsewhere, {:.1} s", ways.len(), begun.elapsed().as_secs_f64());
    bad
}

/// The undisturbed runs, on both versions.
fn references(all: &[Scenario], seed: u64) -> Vec<[Outcome; 2]> {
    let slots: Vec<Mutex<Option<[Outcome; 2]>>> = all.iter().map(|_| Mutex::new(None)).collect();
    in_parallel(|next| {
        while let Some(index) = next(all.len()) {
            let outcome = [Mode::V20, Mode::V28].map(|mode| lab::run_alone(&all[index], mode, seed, &[], None));
            *slots[index].lock().unwrap() = Some(outcome);
        }
    });
    slots.into_iter().map(|slot| slot.into_inner().unwrap().unwrap()).collect()
}

/// Runs work on every core; `next(n)` gives the numbers below n, each once.
fn in_parallel(work: impl Fn(&dyn Fn(usize) -> Option<usize>) + Sync) {
    let counter = AtomicUsize::new(0);
    let next = |limit: usize| Some(counter.fetch_add(1, Ordering::SeqCst)).filter(|index| *index < limit);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| work(&next));
        }
    });
}

fn disturb(options: &Options, all: &[Scenario], references: &[[Outcome; 2]], begun: Instant) -> (usize, Vec<Failure>, usize) {
    let deadline = begun + Duration::from_secs(options.seconds);
    let queue = Mutex::new(jobs::jobs(all, references, options.seed).skip(options.skip).take(options.runs));
    let (done, unsteady, failures) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let over = AtomicBool::new(false);
    in_parallel(|_| {
        while !over.load(Ordering::SeqCst) {
            let Some(job) = queue.lock().unwrap().next() else { return };
            let Tried { name, scenario, faults, outcome, why } = attempt(all, references, options.seed, &job, None);
            if !why.is_empty() {
                let mut failures = failures.lock().unwrap();
                failures.push(Failure {
                    scenario: name.clone(),
                    mode: job.mode,
                    faults: faults.clone(),
                    seed: options.seed,
                    why,
                    trace: outcome.trace.clone(),
                });
                if failures.len() >= 400 {
                    over.store(true, Ordering::SeqCst);
                }
            }
            if job.twice && lab::run_alone(&scenario, job.mode, options.seed, &faults, None).hash != outcome.hash {
                unsteady.fetch_add(1, Ordering::SeqCst);
                println!("not the same twice: --scenario {name} --mode {} --seed {} --faults {}", job.mode, options.seed, words(&faults));
            }
            done.fetch_add(1, Ordering::SeqCst);
            if Instant::now() > deadline {
                over.store(true, Ordering::SeqCst);
            }
        }
    });
    (done.into_inner(), failures.into_inner().unwrap(), unsteady.into_inner())
}

/// One disturbed run that was made, and what is wrong with it.
struct Tried<'a> {
    name: String,
    scenario: Cow<'a, Scenario>,
    faults: Vec<Fault>,
    outcome: Outcome,
    why: Vec<String>,
}

fn attempt<'a>(all: &'a [Scenario], references: &[[Outcome; 2]], seed: u64, job: &Job, bug: Option<Bug>) -> Tried<'a> {
    match job.of {
        Of::Scenario(index) => {
            let (scenario, reference) = (&all[index], jobs::undisturbed(&references[index], job.mode));
            let (faults, outcome, why) = fewest(scenario, reference, job.mode, seed, job.faults.clone(), bug);
            Tried { name: scenario.name.to_owned(), scenario: Cow::Borrowed(scenario), faults, outcome, why }
        }
        Of::Swarm(number, faults) => {
            let swarm = undisturbed_swarm(number, job.mode, seed);
            let (scenario, reference) = swarm.get_or_init(|| {
                let scenario = scenarios::swarm(number);
                let reference = lab::run_alone(&scenario, job.mode, seed, &[], None);
                (scenario, reference)
            });
            let faults = jobs::at_random(faults, reference, 1 + faults % 3);
            let (faults, outcome, mut why) = fewest(scenario, reference, job.mode, seed, faults, bug);
            why.extend(judge::alone(scenario, reference).into_iter().map(|line| format!("undisturbed: {line}")));
            Tried { name: format!("swarm-{number}"), scenario: Cow::Owned(scenario.clone()), faults, outcome, why }
        }
    }
}

/// Runs with these faults; where that is wrong, with as few of them as are still wrong.
fn fewest(scenario: &Scenario, reference: &Outcome, mode: Mode, seed: u64, mut faults: Vec<Fault>, bug: Option<Bug>) -> (Vec<Fault>, Outcome, Vec<String>) {
    let run = |faults: &[Fault]| {
        let outcome = lab::run_alone(scenario, mode, seed, faults, bug);
        let why = judge::disturbed(scenario, reference, &outcome, faults);
        (outcome, why)
    };
    let (mut outcome, mut why) = run(&faults);
    let mut without = 0;
    while !why.is_empty() && faults.len() > 1 && without < faults.len() {
        let mut fewer = faults.clone();
        fewer.remove(without);
        let (other, wrong) = run(&fewer);
        if wrong.is_empty() { without += 1 } else { (faults, outcome, why) = (fewer, other, wrong) }
    }
    (faults, outcome, why)
}

/// A swarm with its undisturbed run, which its disturbed ones share; some are remembered, for several threads are at several.
fn undisturbed_swarm(number: u64, mode: Mode, seed: u64) -> Arc<OnceLock<(Scenario, Outcome)>> {
    type Swarm = ((u64, Mode, u64), Arc<OnceLock<(Scenario, Outcome)>>);
    static RECENT: Mutex<VecDeque<Swarm>> = Mutex::new(VecDeque::new());
    let mut recent = RECENT.lock().unwrap();
    let known = recent.iter().find(|(of, _)| *of == (number, mode, seed)).map(|(_, swarm)| swarm.clone());
    known.unwrap_or_else(|| {
        let swarm = Arc::<OnceLock<_>>::default();
        recent.push_front(((number, mode, seed), swarm.clone()));
        recent.truncate(8);
        swarm
    })
}

/// Looks for every bug of the bank: undisturbed first, then with faults, until a run is wrong.
fn bank(all: &[Scenario], references: &[[Outcome; 2]], seed: u64) -> ExitCode {
    let found: Vec<Mutex<Option<String>>> = BANK.iter().map(|_| Mutex::new(None)).collect();
    in_parallel(|next| {
        while let Some(index) = next(BANK.len()) {
            let (bug, what) = BANK[index];
            let by = find(all, references, seed, bug);
            println!("{:20} {:70} {}", format!("{bug:?}"), what.trim(), by.as_deref().unwrap_or("NOT FOUND"));
            *found[index].lock().unwrap() = by;
        }
    });
    let missed = found.into_iter().filter(|found| found.lock().unwrap().is_none()).count();
    println!("{} of {} seeded bugs found", BANK.len() - missed, BANK.len());
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The first run that shows the bug, and how.
fn find(all: &[Scenario], references: &[[Outcome; 2]], seed: u64, bug: Bug) -> Option<String> {
    let undisturbed = (0..all.len()).map(|index| Job { of: Of::Scenario(index), mode: Mode::V28, faults: Vec::new(), twice: false });
    // A part of the disturbed runs, from all scenarios.
    for (count, job) in undisturbed.chain(jobs::jobs(all, references, seed).step_by(29)).take(2000).enumerate() {
        let Tried { name, faults, why, .. } = attempt(all, references, seed, &job, Some(bug));
        if let Some(first) = why.first() {
            let checks: BTreeSet<&str> = why.iter().filter_map(|line| Some(line.split_once(": ")?.0)).filter(|check| check.len() <= 3).collect();
            let (checks, first) = (Vec::from_iter(checks).join(" "), first.chars().take(90).collect::<String>());
            return Some(format!("run {}, {name} {} [{checks}]: {first}", count + 1, words(&faults)));
        }
    }
    None
}

fn words(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// The failures by what is wrong, a few of each, and the trace of the first, as `--scenario` prints it too: `diff` shows where it leaves that of the
/// undisturbed run, which is the one with `--faults ''`.
fn report(failures: &[Failure]) {
    let mut groups: BTreeMap<String, Vec<&Failure>> = BTreeMap::new();
    for failure in failures {
        let what: String = failure.why[0].chars().filter(|c| !c.is_ascii_digit()).take(100).collect();
        groups.entry(what).or_default().push(failure);
    }
    for group in groups.values() {
        println!("\n{} runs: {}", group.len(), group[0].why[0]);
        for failure in group.iter().take(3) {
            println!("  --scenario {} --mode {} --seed {} --faults {}", failure.scenario, failure.mode, failure.seed, words(&failure.faults));
            failure.why.iter().skip(1).take(6).for_each(|line| println!("      {line}"));
        }
        group[0].trace.iter().for_each(|line| println!("{line}"));
    }
}

/// One run with its trace, beside the undisturbed one.
fn replay(scenario: &Scenario, mode: Mode, seed: u64, faults: &[Fault], bug: Option<Bug>) -> ExitCode {
    let reference = lab::run_alone(scenario, mode, seed, &[], None);
    let outcome = lab::run_alone(scenario, mode, seed, faults, bug);
    outcome.trace.iter().for_each(|line| println!("{line}"));
    println!(
        "hash {:016x}, {} calls, {} changes, converged {:?} after the last fault or deed",
        outcome.hash, outcome.calls, outcome.mutations, outcome.converged
    );
    let why = judge::disturbed(scenario, &reference, &outcome, faults);
    if why.is_empty() {
        println!("as it should be");
        return ExitCode::SUCCESS;
    }
    why.iter().for_each(|line| println!("wrong: {line}"));
    ExitCode::FAILURE
}
