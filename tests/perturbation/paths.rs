//! The end depends on what is declared alone: not on what was declared before (R2), nor on the order in which documents came (R5).

use std::collections::{BTreeMap, BTreeSet};

use super::engine::Mode;
use super::lab::{self, Outcome};
use super::scenario::{Scenario, Step, pass};
use super::scenarios;

/// Documents one after the other take long where there are very many.
const MOST: usize = 25;
/// So many swarms are declared in two orders.
const SWARMS: u64 = 16;

/// Ways to a declared state, each on each engine: what it is, its steps.
pub struct Way {
    what: String,
    steps: Vec<Step>,
    mode: Mode,
}

/// All of them: the way of each scenario in which nothing but files changes, the same way and back again where it is one change, and its documents
/// one by one from the last to the first.
pub fn ways(all: &[Scenario]) -> Vec<Way> {
    let mut ways = Vec::new();
    let mut push = |what: String, steps: Vec<Step>| ways.extend([Mode::V20, Mode::V28].map(|mode| Way { what: what.clone(), steps: steps.clone(), mode }));
    for scenario in all.iter().filter(|scenario| scenario.operators == 1 && scenario.steps.iter().all(Step::is_of_files)) {
        push(format!("R2: {}", scenario.name), scenario.steps.clone());
        if let [first @ Step::Write(..), change] = scenario.steps.as_slice() {
            push(format!("R2: {} and back", scenario.name), vec![first.clone(), change.clone(), files_at_once(std::slice::from_ref(first))]);
        }
        push(format!("R5: {}", scenario.name), one_by_one(&scenario.steps));
    }
    for number in 0..SWARMS {
        push(format!("R5: swarm-{number}"), one_by_one(&scenarios::swarm(number).steps[..1]));
    }
    ways.retain(|way| way.steps.len() <= MOST);
    ways
}

/// What is declared when these steps are done.
fn files(steps: &[Step]) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    steps.iter().for_each(|step| step.change(&mut files));
    files
}

fn files_at_once(steps: &[Step]) -> Step {
    Step::Checkout(files(steps).into_iter().map(|(path, text)| (&*path.leak(), text)).collect())
}

fn one_by_one(steps: &[Step]) -> Vec<Step> {
    files(steps).into_iter().rev().map(|(path, text)| Step::Write(path.leak(), text)).collect()
}

impl Way {
    /// Goes it, and declares the same at once on another engine; in what they differ.
    pub fn wrong(&self, seed: u64) -> Vec<String> {
        // What ends with a tombstone is over by then.
        let late = [self.steps.clone(), vec![pass(900)]].concat();
        let run = |steps: Vec<Step>| lab::run_alone(&Scenario::new("way", steps), self.mode, seed, &[], None);
        let fresh = run(vec![files_at_once(&self.steps)]);
        let gone = run(late);
        let mut wrong: Vec<String> = fresh.violations.iter().chain(&gone.violations).cloned().collect();
        wrong.extend(differences(&fresh, &gone));
        wrong.into_iter().map(|line| format!("{} on {}: {line}", self.what, self.mode)).collect()
    }
}

/// What is said of the containers and objects that are there when all is declared at once. What was taken away may leave its data and its history.
fn differences(fresh: &Outcome, gone: &Outcome) -> Vec<String> {
    let names: BTreeSet<&str> = fresh.lines.iter().filter_map(|line| line.strip_prefix("container ")?.split(' ').next()).collect();
    // What is refused or held makes nothing, and takes away nothing.
    let is_held = |line: &str| line.strip_suffix(" phase Pending").is_some();
    let is_of = |line: &str| {
        line.strip_prefix("container ").and_then(|rest| rest.split(' ').next()).is_some_and(|name| names.contains(name))
            || [" of ", " by "].iter().any(|word| line.rsplit_once(word).is_some_and(|(_, name)| names.contains(name)))
            || line
                .split_once(" phase ")
                .is_some_and(|(object, _)| fresh.lines.iter().any(|known| known.split_once(" phase ").is_some_and(|(of, _)| of == object) && !is_held(known)))
    };
    let lost = fresh.lines.iter().filter(|line| (is_of(line) || line.starts_with("volume ")) && !gone.lines.contains(*line));
    let more = gone.lines.iter().filter(|line| is_of(line) && !fresh.lines.contains(*line));
    lost.map(|line| format!("- {line}")).chain(more.map(|line| format!("+ {line}"))).collect()
}
