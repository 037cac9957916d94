//! The operator as a state machine on a real engine: specs are edited, people interfere, operator and engine are killed, all at random.
//! Within a minute after the last of it everything is as declared, and no data is lost.
//!
//! `DOCKMASTER_TEST_SEEDS=7,8` takes other sequences than the usual one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::engine::Engine;
use crate::operator::Operator;

/// From the last act until all is as declared.
const CONVERGED: Duration = Duration::from_secs(60);
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// One thing that happens; numbers choose the workspace.
#[derive(Clone, Debug)]
enum Act {
    Change(usize),
    StopOrStart(usize),
    RemoveOrReturn(usize),
    Remove(usize),
    Stop(usize),
    Kill(usize),
    Disconnect(usize),
    Rename(usize),
    KillOperator,
    KillEngine,
}

fn act() -> impl Strategy<Value = Act> {
    let which = 0..NAMES.len();
    prop_oneof![
        3 => which.clone().prop_map(Act::Change),
        2 => which.clone().prop_map(Act::StopOrStart),
        2 => which.clone().prop_map(Act::RemoveOrReturn),
        2 => which.clone().prop_map(Act::Remove),
        1 => which.clone().prop_map(Act::Stop),
        1 => which.clone().prop_map(Act::Kill),
        1 => which.clone().prop_map(Act::Disconnect),
        1 => which.prop_map(Act::Rename),
        2 => Just(Act::KillOperator),
        1 => Just(Act::KillEngine),
    ]
}

/// Each of them at least once, and others, in any order.
fn acts() -> impl Strategy<Value = Vec<Act>> {
    let kinds: [fn(usize) -> Act; 10] = [
        Act::Change,
        Act::StopOrStart,
        Act::RemoveOrReturn,
        Act::Remove,
        Act::Stop,
        Act::Kill,
        Act::Disconnect,
        Act::Rename,
        |_| Act::KillOperator,
        |_| Act::KillEngine,
    ];
    let each = prop::collection::vec(0..NAMES.len(), kinds.len()).prop_map(move |which| kinds.iter().zip(which).map(|(kind, which)| kind(which)).collect());
    (each, prop::collection::vec(act(), 14)).prop_map(|(each, others): (Vec<Act>, _)| [each, others].concat()).prop_shuffle()
}

/// What is declared of a workspace.
#[derive(Clone, Debug)]
struct Declared {
    version: u32,
    stopped: bool,
    there: bool,
}

impl Declared {
    /// The first container of all leaves a mark in the volume, which no later one may miss.
    fn text(&self, name: &str) -> String {
        format!(
            "# kept\napiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: {name}}}\nspec:\n  image: IMAGE\n  state: {}\n  \
             command: [sh, -c, 'test -e /data/mark || echo {name}.{version} > /data/mark; exec sleep 10000{version}']\n  \
             mounts: [{{volume: data, path: /data}}]\n  stopGracePeriod: 1s\n",
            if self.stopped { "Stopped" } else { "Running" },
            version = self.version,
        )
    }
}

struct Machine {
    engine: Engine,
    operator: Operator,
    declared: BTreeMap<&'static str, Declared>,
    renamed: u32,
}

impl Machine {
    async fn new() -> Self {
        let engine = Engine::new().await;
        let mut operator = Operator::on(&engine.host()).await;
        let declared: BTreeMap<_, _> = NAMES.into_iter().map(|name| (name, Declared { version: 0, stopped: false, there: true })).collect();
        declared.iter().for_each(|(name, declared)| operator.write(&path(name), &declared.text(name)));
        operator.start();
        NAMES.iter().for_each(|name| drop(operator.until_ready("alice", name)));
        Self { engine, operator, declared, renamed: 0 }
    }

    fn act(&mut self, act: &Act) {
        let all_there = self.declared.values().all(|declared| declared.there);
        let container = |which: &usize| self.operator.container("alice", NAMES[*which], None);
        let docker = |arguments: &[&str]| drop(self.operator.docker(arguments));
        match act {
            Act::Change(which) | Act::StopOrStart(which) | Act::RemoveOrReturn(which) => {
                let declared = self.declared.get_mut(NAMES[*which]).unwrap();
                let was_there = declared.there;
                if let Act::Change(_) = act {
                    declared.version += 1;
                } else if let Act::StopOrStart(_) = act {
                    declared.stopped = !declared.stopped;
                } else {
                    // One at a time: many deletions at once are held.
                    declared.there = !declared.there || !all_there;
                }
                let text = declared.text(NAMES[*which]);
                if declared.there {
                    self.operator.write(&path(NAMES[*which]), &text);
                } else if was_there {
                    self.operator.remove(&path(NAMES[*which]));
                }
            }
            Act::Remove(which) => docker(&["rm", "-f", &container(which)]),
            Act::Stop(which) => docker(&["stop", "-t", "1", &container(which)]),
            Act::Kill(which) => docker(&["kill", &container(which)]),
            Act::Disconnect(which) => docker(&["network", "disconnect", &format!("{}-ns-alice", self.operator.installation()), &container(which)]),
            Act::Rename(which) => {
                self.renamed += 1;
                docker(&["rename", &container(which), &format!("renamed-{}", self.renamed)]);
            }
            Act::KillOperator => {
                self.operator.kill();
                self.operator.start();
            }
            Act::KillEngine => {
                self.engine.script(&["kill"]);
                self.engine.script(&["start"]);
            }
        }
    }

    /// What is not as declared.
    fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, declared) in &self.declared {
            let container = self.operator.container("alice", name, None);
            let seen = self.operator.inspect(&container, "{{.State.Running}} {{.Config.Cmd}}");
            let (running, command) = seen.split_once(' ').unwrap_or_default();
            let right = match declared {
                Declared { there: false, .. } => seen.contains("No such container"),
                Declared { stopped: true, .. } => running != "true",
                Declared { version, .. } => {
                    running == "true" && command.ends_with(&format!("sleep 10000{version}]")) && {
                        self.operator.docker(&["exec", &container, "cat", "/data/mark"]) == format!("{name}.0")
                    }
                }
            };
            // Of what does not run, too, whatever is left of its container.
            let volume = format!("{}-vol-alice.{name}.data", self.operator.installation());
            let kept = self.operator.docker(&["volume", "ls", "-q", "--filter", &format!("name={volume}")]) == volume
                && (seen.contains("No such container")
                    || self.operator.docker(&["cp", &format!("{container}:/data/mark"), "-"]).contains(&format!("{name}.0")));
            if !right || !kept {
                wrong.push(format!("{declared:?} {name}: {seen}"));
            }
        }
        let installation = format!("label=dockmaster.installation={}", self.operator.installation());
        let format = "{{.Names}} {{.Label \"dockmaster.name\"}} {{.State}}";
        for line in self.operator.docker(&["ps", "-a", "--filter", &installation, "--format", format]).lines() {
            let [container, name, state] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
            let Some(declared) = self.declared.get(name) else { continue };
            // What is stopped gets its name back when it starts.
            let rests = declared.stopped && state != "running";
            let named = container == self.operator.container("alice", name, None);
            if !declared.there || !(rests || named) {
                wrong.push(format!("{container} of {name} is left over, {state}"));
            }
        }
        wrong
    }
}

fn path(name: &str) -> String {
    format!("alice/{name}.yaml")
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_happens_it_converges_within_a_minute_and_loses_nothing() {
    let seeds = std::env::var("DOCKMASTER_TEST_SEEDS").unwrap_or_else(|_| "2".to_owned());
    for seed in seeds.split(',').map(|seed| seed.parse::<u64>().unwrap()) {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let acts = acts().new_tree(&mut runner).unwrap().current();
        let mut machine = Machine::new().await;
        acts.iter().for_each(|act| machine.act(act));
        let last = Instant::now();
        let mut wrong = machine.wrong();
        while !wrong.is_empty() && last.elapsed() < CONVERGED {
            std::thread::park_timeout(Duration::from_millis(500));
            wrong = machine.wrong();
        }
        let told = if wrong.is_empty() { String::new() } else { machine.operator.ok(&["get", "all", "-A", "-o", "yaml"]) };
        assert!(wrong.is_empty(), "seed {seed}, {acts:?}: {wrong:#?}\n{told}{}", machine.operator.log());
        println!("seed {seed}: converged {:.1} s after the last of {} acts", last.elapsed().as_secs_f64(), acts.len());
        assert_eq!(machine.operator.stop(), 0, "{}", machine.operator.log());
    }
}
