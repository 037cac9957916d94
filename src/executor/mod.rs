//! Walks a plan: every node after those it depends on, as many at once as the engine bears. It makes no choice.
//!
//! **Invariant:** a node whose dependency is not `Done` is never run.

use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};

use crate::observed::ContainerId;
use crate::planner::{Operation, Plan, Target};
use crate::runtime::{Error, Outcome};

/// What runs one operation: the runtime for what is in Docker, the ledger for facts.
pub trait Effects: Send + Sync {
    /// Runs it; `target` is the container that `Target::Made` names.
    fn apply<'a>(&'a self, operation: &'a Operation, target: Option<&'a ContainerId>) -> BoxFuture<'a, Result<Outcome, Error>>;
}

/// How one node ended.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeResult {
    /// Done.
    Done(Outcome),
    /// It failed.
    Failed(Error),
    /// Something that it depends on did not get done.
    NotRun,
}

/// How a plan ended: one entry per node, in the plan's order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Result and time taken.
    pub nodes: Vec<(NodeResult, Duration)>,
}

impl Report {
    /// Whether every node was done.
    pub fn is_success(&self) -> bool {
        self.nodes.iter().all(|(result, _)| matches!(result, NodeResult::Done(_)))
    }

    /// The first failure.
    pub fn first_error(&self) -> Option<&Error> {
        self.nodes.iter().find_map(|(result, _)| match result {
            NodeResult::Failed(error) => Some(error),
            NodeResult::Done(_) | NodeResult::NotRun => None,
        })
    }
}

/// Runs a plan to its end. Independent nodes of one object run side by side; the bound over all objects is the caller's.
pub async fn run(effects: &dyn Effects, plan: &Plan) -> Report {
    let mut results: Vec<Option<(NodeResult, Duration)>> = vec![None; plan.nodes.len()];
    let mut running = FuturesUnordered::new();
    let mut started = vec![false; plan.nodes.len()];
    loop {
        // A pass may settle nodes as NotRun, which settles others: go on until nothing moves.
        let mut moved = true;
        while moved {
            moved = false;
            for (index, node) in plan.nodes.iter().enumerate() {
                if started[index] || !node.depends_on.iter().all(|d| results[*d].is_some()) {
                    continue;
                }
                started[index] = true;
                moved = true;
                let ready = node.depends_on.iter().all(|d| matches!(results[*d], Some((NodeResult::Done(_), _))));
                let target = made(&node.operation).map(|from| container(results.get(from)));
                match (ready, target) {
                    (false, _) | (true, Some(None)) => results[index] = Some((NodeResult::NotRun, Duration::ZERO)),
                    (true, target) => running.push(timed(effects, index, &node.operation, target.flatten())),
                }
            }
        }
        let Some((index, result, took)) = running.next().await else { break };
        results[index] = Some((result, took));
    }
    Report { nodes: results.into_iter().map(|result| result.unwrap_or((NodeResult::NotRun, Duration::ZERO))).collect() }
}

async fn timed(effects: &dyn Effects, index: usize, operation: &Operation, target: Option<ContainerId>) -> (usize, NodeResult, Duration) {
    let begun = Instant::now();
    let result = match effects.apply(operation, target.as_ref()).await {
        Ok(outcome) => NodeResult::Done(outcome),
        Err(error) => NodeResult::Failed(error),
    };
    (index, result, begun.elapsed())
}

/// The node that makes the operation's target.
fn made(operation: &Operation) -> Option<usize> {
    match operation.container()? {
        Target::Made { node, .. } => Some(*node),
        Target::Existing { .. } => None,
    }
}

/// The container that a node made.
fn container(result: Option<&Option<(NodeResult, Duration)>>) -> Option<ContainerId> {
    match result {
        Some(Some((NodeResult::Done(Outcome::Made(id)), _))) => Some(id.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::TaskKey;
    use crate::planner::{Action, Cause, PlanNode, Verdict};
    use crate::resource::status::Phase;
    use crate::resource::{Reason, Truth};
    use std::sync::Mutex;

    /// Fails the operations whose target is in the list, and remembers what it ran.
    struct Recorder {
        fail: &'static [&'static str],
        ran: Mutex<Vec<String>>,
    }

    impl Effects for Recorder {
        fn apply<'a>(&'a self, operation: &'a Operation, _: Option<&'a ContainerId>) -> BoxFuture<'a, Result<Outcome, Error>> {
            Box::pin(async move {
                self.ran.lock().unwrap().push(operation.target());
                if self.fail.contains(&operation.target().as_str()) { Err(Error::Transient("no".into())) } else { Ok(Outcome::Done) }
            })
        }
    }

    fn plan(edges: &[(&str, &[usize])]) -> Plan {
        let mut plan = Plan::idle(Verdict::new(Phase::Pending, Truth::False, Reason::Progressing, ""));
        plan.nodes = edges
            .iter()
            .map(|(name, after)| PlanNode {
                operation: Operation::Forget(TaskKey::Pull((*name).to_owned())),
                action: Action::None,
                cause: Cause::new("", "", ""),
                depends_on: after.to_vec(),
            })
            .collect();
        plan
    }

    #[tokio::test]
    async fn a_dependent_operation_runs_only_after_done() {
        let effects = Recorder { fail: &["b"], ran: Mutex::default() };
        let report = run(&effects, &plan(&[("a", &[]), ("b", &[0]), ("c", &[1]), ("d", &[0]), ("e", &[2, 3])])).await;
        let kinds: Vec<_> = report.nodes.iter().map(|(result, _)| std::mem::discriminant(result)).collect();
        let done = std::mem::discriminant(&NodeResult::Done(Outcome::Done));
        let failed = std::mem::discriminant(&NodeResult::Failed(Error::Transient(String::new())));
        let not_run = std::mem::discriminant(&NodeResult::NotRun);
        assert_eq!(kinds, [done, failed, not_run, done, not_run]);
        assert_eq!(*effects.ran.lock().unwrap(), ["a", "b", "d"]);
    }

    #[test]
    fn a_report_is_a_success_when_all_was_done_and_names_the_first_failure() {
        let done = || NodeResult::Done(Outcome::Done);
        let failed = |why: &str| NodeResult::Failed(Error::Transient(why.into()));
        for (results, is_success, error) in [
            (vec![], true, None),
            (vec![done()], true, None),
            (vec![done(), done()], true, None),
            (vec![done(), NodeResult::NotRun], false, None),
            (vec![NodeResult::NotRun, done()], false, None),
            (vec![done(), failed("a"), NodeResult::NotRun, failed("b")], false, Some(Error::Transient("a".into()))),
        ] {
            let report = Report { nodes: results.into_iter().map(|result| (result, Duration::ZERO)).collect() };
            assert_eq!((report.is_success(), report.first_error()), (is_success, error.as_ref()), "{report:?}");
        }
    }

    #[tokio::test]
    async fn an_empty_plan_makes_no_call() {
        let effects = Recorder { fail: &[], ran: Mutex::default() };
        assert!(run(&effects, &plan(&[])).await.nodes.is_empty());
        assert!(effects.ran.lock().unwrap().is_empty());
    }
}
