//! Which disturbed runs there are, in their order.

use super::engine::Mode;
use super::fault::Fault;
use super::lab::{Outcome, Seeded};
use super::scenario::Scenario;

/// One disturbed run.
pub struct Job {
    pub of: Of,
    pub mode: Mode,
    /// Those of a swarm are known when its calls are counted: [`at_random`].
    pub faults: Vec<Fault>,
    /// Run twice, to see that it comes to the same.
    pub twice: bool,
}

/// Of what.
#[derive(Clone, Copy)]
pub enum Of {
    /// A scenario, by its index.
    Scenario(usize),
    /// The swarm of a seed, and the seed of its faults.
    Swarm(u64, u64),
}

/// Disturbed runs of one swarm: its undisturbed one takes as long as each of them.
const OF_A_SWARM: u64 = 4;

/// Of so many runs one is of a swarm, which takes as long as some four others.
const ROUND: u64 = 32;
/// So many of a round have one fault; the others two or three. With that a million runs have every fault at every call of both engines.
const SINGLES: u64 = 21;

/// First one fault at every call of every scenario; then the other faults at each call, on each engine, and between them pairs and triples
/// of faults and swarms of specs.
pub fn jobs(all: &[Scenario], references: &[[Outcome; 2]], seed: u64) -> impl Iterator<Item = Job> {
    let kinds = Fault::at_call(0).len();
    let first = single(all, references, 0).len();
    let mut singles = (0..2 * kinds).flat_map(move |round| single(all, references, round));
    let mut pairs = pairs(all, references, seed);
    (0_u64..).map_while(move |turn| {
        let job = match turn % ROUND {
            _ if turn < first as u64 => singles.next(),
            0 => {
                let (faults, swarm) = (seed.wrapping_mul(1 << 32) + turn, turn / ROUND / OF_A_SWARM);
                let of = Of::Swarm(seed.wrapping_mul(1 << 32) + swarm, faults);
                Some(Job { of, mode: mode(swarm), faults: Vec::new(), twice: false })
            }
            1..=SINGLES => singles.next().or_else(|| pairs.next()),
            _ => pairs.next(),
        };
        job.map(|job| Job { twice: turn % 7 == 0, ..job })
    })
}

/// The undisturbed run on that engine.
pub fn undisturbed(reference: &[Outcome; 2], mode: Mode) -> &Outcome {
    &reference[usize::from(mode == Mode::V28)]
}

/// One fault for every call of every scenario. Neighbouring calls begin with different ones, so that the first round has all of them; each pair of
/// neighbours with the other engine. After half of the rounds come the same faults again, on the other engine.
fn single(all: &[Scenario], references: &[[Outcome; 2]], round: usize) -> Vec<Job> {
    let kinds = Fault::at_call(0).len();
    let mut jobs = Vec::new();
    for (index, (scenario, reference)) in all.iter().zip(references).enumerate() {
        let mut push = |at: u64, fault: Fault, fits: &dyn Fn(&Outcome) -> bool| {
            let mode = mode(at / 2 + (index + round / kinds) as u64);
            if fits(undisturbed(reference, mode)) {
                jobs.push(Job { of: Of::Scenario(index), mode, faults: vec![fault], twice: false });
            }
        };
        let most = |of: fn(&Outcome) -> u64| reference.iter().map(of).max().unwrap_or_default();
        let stride = usize::try_from(scenario.stride).unwrap();
        // What can happen to lists alone comes last in each half of the rounds.
        let (turn, any) = (round % kinds, Fault::AT_ANY);
        for at in (1 + round as u64 % scenario.stride..=most(|run| run.calls)).step_by(stride) {
            let kind = if turn < any { (turn + usize::try_from(at).unwrap() + 5 * index) % any } else { turn };
            push(at, Fault::at_call(at)[kind], &|run| at <= run.calls && (turn < any || run.lists.contains(&at)));
        }
        for event in (1..=most(|run| run.events)).step_by(stride) {
            if let Some(fault) = Fault::at_event(event).get(turn) {
                push(event, *fault, &|run| event <= run.events);
            }
        }
    }
    // Any part of a round has something of every scenario: multiples of the golden ratio are spread evenly.
    let mut jobs: Vec<(u64, Job)> = (0_u64..).map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).zip(jobs).collect();
    jobs.sort_by_key(|(place, _)| *place);
    jobs.into_iter().map(|(_, job)| job).collect()
}

/// Two or three faults at random, of each scenario in turn; of one with many calls more seldom.
fn pairs(all: &[Scenario], references: &[[Outcome; 2]], seed: u64) -> impl Iterator<Item = Job> {
    let random = Seeded::new(seed);
    let turns = (0..).flat_map(move |round: u64| (0..all.len()).filter(move |index| round.is_multiple_of(all[*index].stride.min(8))));
    turns.map(move |index| {
        let (some, engine) = (random.next(), random.next());
        let mode = mode(engine);
        Job { of: Of::Scenario(index), mode, faults: at_random(some, undisturbed(&references[index], mode), 2 + some % 2), twice: false }
    })
}

/// So many faults of a seed. What is disturbed makes more calls than that undisturbed run of it, and some strike those.
pub fn at_random(seed: u64, undisturbed: &Outcome, count: u64) -> Vec<Fault> {
    let random = Seeded::new(seed);
    let Outcome { calls, events, .. } = undisturbed;
    let fault = |_| {
        let kinds = match random.next() {
            some if some % 8 == 0 && *events > 0 => Fault::at_event(1 + random.next() % events),
            _ => {
                let at = 1 + random.next() % (calls + calls / 4);
                Fault::at_call(at).into_iter().take(if undisturbed.lists.contains(&at) { usize::MAX } else { Fault::AT_ANY }).collect()
            }
        };
        kinds[usize::try_from(random.next() % kinds.len() as u64).unwrap()]
    };
    (0..count).map(fault).collect()
}

fn mode(number: u64) -> Mode {
    if number.is_multiple_of(2) { Mode::V28 } else { Mode::V20 }
}
