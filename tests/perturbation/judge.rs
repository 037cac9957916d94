//! What a run should have come to.

use std::collections::BTreeSet;
use std::time::Duration;

use dockmaster::desired::naming;

use super::fault::{Delivery, Fault};
use super::lab::Outcome;
use super::scenario::{Scenario, Step};
use super::view::INSTALLATION;

/// The longest from the last fault to the last change: two full passes and the longest backoff of a few failures.
const BOUND: Duration = Duration::from_secs(240);

/// What of it may wait for workspaces to be idle.
const ESTRANGED: Duration = Duration::from_secs(900);

/// The same where an event was lost, as is one that comes after the next and has none: what only an inspect says is read again in each tenth pass.
const UNHEARD: Duration = Duration::from_secs(600);

/// What is wrong with an undisturbed run.
pub fn alone(scenario: &Scenario, outcome: &Outcome) -> Vec<String> {
    let mut wrong = outcome.violations.clone();
    wrong.extend(wanted(scenario, &outcome.lines));
    // What is kept for a reason is named by the scenario.
    let is_named = |what: &&String| scenario.must.iter().any(|line| line.starts_with(what.as_str()));
    wrong.extend(outcome.leftovers.iter().filter(|what| !is_named(what)).map(|what| format!("L5: {what} is there, and is of nothing that is declared")));
    wrong
}

fn wanted(scenario: &Scenario, lines: &BTreeSet<String>) -> Vec<String> {
    let has = |part: &str| lines.iter().any(|line| line.contains(part));
    let missing = scenario.must.iter().filter(|part| !has(part)).map(|part| format!("at the end there is no `{part}`"));
    let there = scenario.must_not.iter().filter(|part| has(part)).map(|part| format!("at the end there is `{part}`"));
    missing.chain(there).collect()
}

/// The lines in which two ends differ.
pub fn same_end(scenario: &Scenario, one: &Outcome, other: &Outcome) -> Vec<String> {
    let counts = |line: &&String| !scenario.may_differ.iter().any(|part| line.contains(part));
    let gone = one.lines.difference(&other.lines).filter(counts).map(|line| format!("- {line}"));
    let new = other.lines.difference(&one.lines).filter(counts).map(|line| format!("+ {line}"));
    gone.chain(new).collect()
}

/// What is wrong with a disturbed run.
pub fn disturbed(scenario: &Scenario, reference: &Outcome, outcome: &Outcome, faults: &[Fault]) -> Vec<String> {
    let mut wrong = outcome.violations.clone();
    let restless = scenario.restless_when_set_back && faults.iter().any(|fault| matches!(fault, Fault::Jump { seconds, .. } if *seconds < 0));
    if restless {
        wrong.retain(|line| !["L1: ", "L2: ", "L3: "].iter().any(|rest| line.starts_with(rest)));
    }
    if scenario.reports_late {
        wrong.retain(|line| !line.starts_with("L3: 0 changes and 1 status writes"));
    }
    // Where history is lost, what a listing shows of before is taken for it: what ran then is to run.
    let misled = scenario.steps.iter().any(|step| matches!(step, Step::LoseState)) && faults.iter().any(|fault| matches!(fault, Fault::Stale { .. }));
    let lost = misled || faults.iter().any(|fault| matches!(fault, Fault::LoseState { .. }));
    // What is due by the wall clock then comes at another time, and once more or never.
    let jumped = faults.iter().any(|fault| matches!(fault, Fault::Jump { seconds, .. } if seconds.abs() > 60));
    // What history knew is gone, or is another operator's, and which of them comes to act is a matter of chance: stops stay stops, deletions are not
    // believed, and to whose history does not know it, a change is one of others, and waits for the workspace to be idle. Nothing is harmed.
    let estranged = lost || scenario.operators > 1;
    if scenario.operators > 1 {
        wrong.retain(|line| !line.starts_with("L3: "));
    }
    if estranged && !jumped {
        wrong.extend(kept(scenario, reference, outcome));
    }
    let over = scenario.ends_with_the_engine && faults.iter().any(|fault| matches!(fault, Fault::EngineRestart { .. }));
    let differs = same_end(scenario, reference, outcome);
    if !differs.is_empty() && !jumped && !over && !estranged {
        wrong.push("R1: the end differs".to_owned());
        wrong.extend(differs.into_iter().take(12));
    }
    // Of many that wait for their turns another may come first, and a change of its own that follows is one more.
    let at_least = u64::from(scenario.name == "swarm");
    let excused: u64 = faults.iter().map(|fault| fault.excuses().max(at_least)).sum();
    for (what, of, by) in [("created", &outcome.creates, &reference.creates), ("removed", &outcome.removes, &reference.removes)] {
        for (name, count) in of {
            let usual = by.get(name).copied().unwrap_or_default();
            // The lock is made anew whenever its engine is there again, by whoever comes first.
            let is_lock = scenario.operators > 1 && *name == naming::lock_container(INSTALLATION);
            if *count > usual + excused && !jumped && !is_lock {
                wrong.push(format!("R3: {name} was {what} {count} times instead of {usual}"));
            }
        }
    }
    // What puts right by itself what it did wrong comes to the same end: a defect that is seeded shows in what it costs.
    if faults.is_empty() && outcome.mutations != reference.mutations {
        wrong.push(format!("R3: {} changing calls instead of {}, and nothing was disturbed", outcome.mutations, reference.mutations));
    }
    if outcome.mutations > 2 * reference.mutations + 60 {
        wrong.push(format!("I20: {} changing calls where the undisturbed run has {}", outcome.mutations, reference.mutations));
    }
    if outcome.calls > 3 * reference.calls + 400 {
        wrong.push(format!("I20: {} calls where the undisturbed run has {}", outcome.calls, reference.calls));
    }
    let unheard = faults.iter().any(|fault| matches!(fault, Fault::Event { how: Delivery::Lost | Delivery::Late, .. }));
    let bound = BOUND + if estranged { ESTRANGED } else { Duration::ZERO } + if unheard { UNHEARD } else { Duration::ZERO };
    if outcome.converged > reference.converged + bound && !restless {
        wrong.push(format!("L2: the last change came {} s after the last fault or deed", outcome.converged.as_secs()));
    }
    wrong
}

/// Volumes with data that the undisturbed run keeps, and that are gone. That of an expired preview only marks that it did expire.
/// Of two clones, which of them acts when is a matter of chance: what had data in this run is kept.
fn kept(scenario: &Scenario, reference: &Outcome, outcome: &Outcome) -> Vec<String> {
    if scenario.clones {
        let lost = outcome.seeded.iter().filter(|name| !outcome.lines.contains(&format!("volume {name} seeded")));
        return lost.map(|name| format!("I30: volume {name} had data, and is gone")).collect();
    }
    let is_data = |line: &&String| line.starts_with("volume ") && line.ends_with(" seeded") && !line.contains(".expired ");
    let volumes = reference.lines.iter().filter(is_data);
    volumes.filter(|line| !outcome.lines.contains(*line)).map(|line| format!("I30: after the state was lost there is no `{line}`")).collect()
}
