//! How a Docker engine behaves where dockmaster relies on it: each fact by name, on the real engine and on the simulated one in both its modes.
//!
//! Where engines differ, the expectation says so by version. A run says how many facts held on each engine, and names all that did not.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "in a test a surprise is to be loud")]

mod support;

/// A part of the suite, by the name of its function.
macro_rules! group {
    ($name:ident) => {
        (stringify!($name), |case| Box::pin($name(case)))
    };
}

#[path = "conformance/create.rs"]
mod create;
#[path = "conformance/engine.rs"]
mod engine;
#[path = "conformance/events.rs"]
mod events;
#[path = "conformance/exec.rs"]
mod exec;
#[path = "conformance/health.rs"]
mod health;
#[path = "conformance/images.rs"]
mod images;
#[path = "conformance/lifecycle.rs"]
mod lifecycle;
#[path = "conformance/limits.rs"]
mod limits;
#[path = "conformance/lists.rs"]
mod lists;
#[path = "conformance/networks.rs"]
mod networks;
#[path = "conformance/ports.rs"]
mod ports;
#[path = "conformance/processes.rs"]
mod processes;
#[path = "conformance/restart.rs"]
mod restart;
#[path = "conformance/streams.rs"]
mod streams;
#[path = "conformance/target.rs"]
mod target;
#[path = "conformance/volumes.rs"]
mod volumes;

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::BoxFuture;

use target::{Case, Fact, Target, Version};

/// A part of the suite.
type Group = (&'static str, fn(Case) -> BoxFuture<'static, ()>);
/// How many parts run side by side.
const SIDE_BY_SIDE: usize = 10;
/// No target may be asked less.
const AT_LEAST: usize = 600;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_engine() {
    let target = Arc::new(Target::real().await);
    let broken = run(&target, groups(), SIDE_BY_SIDE).await;
    report(&target, broken, AT_LEAST);
}

/// An engine of its own, since all that is on it ends with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_engine_that_restarts() {
    let target = Arc::new(Target::private().await);
    let broken = run(&target, restart::groups(), 1).await;
    report(&target, broken, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_simulated_20_10() {
    simulated(Version::Old).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_simulated_28_5() {
    simulated(Version::New).await;
}

async fn simulated(version: Version) {
    let target = Arc::new(Target::simulated(version).await);
    let mut broken = run(&target, groups(), SIDE_BY_SIDE).await;
    broken.extend(run(&target, restart::groups(), 1).await);
    report(&target, broken, AT_LEAST);
}

/// Which parts alone are to run, by their names with commas between; all of them when it is not set.
fn only() -> Option<String> {
    std::env::var("DOCKMASTER_TEST_CONFORMANCE").ok()
}

/// Runs parts of the suite; names those that did not come to their end.
async fn run(target: &Arc<Target>, groups: Vec<Group>, side_by_side: usize) -> Vec<String> {
    let only = only();
    let groups = groups.into_iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only.split(',').any(|only| only == *name)));
    futures::stream::iter(groups.collect::<Vec<_>>())
        .map(|(name, group)| {
            let case = Case::new(target.clone(), name);
            async move {
                let ended = tokio::spawn(group(case)).await;
                ended.err().map(|error| match error.try_into_panic() {
                    Ok(panic) => format!("{name} did not finish: {}", words(&*panic)),
                    Err(error) => format!("{name} did not finish: {error}"),
                })
            }
        })
        .buffer_unordered(side_by_side)
        .filter_map(std::future::ready)
        .collect()
        .await
}

/// Says how many facts held; fails with every one that did not.
fn report(target: &Target, broken: Vec<String>, at_least: usize) {
    let facts = target.take_facts();
    let held = facts.iter().filter(|fact| fact.wrong.is_none()).count();
    // Not by a macro: those are shown only of tests that fail.
    let report = format!("conformance: {held} of {} facts held on {}\n", facts.len(), target.label);
    std::io::stderr().write_all(report.as_bytes()).unwrap();
    let mut wrong: Vec<String> = facts.iter().filter_map(|fact| Some(format!("{}: {}", fact.name, fact.wrong.as_ref()?))).collect();
    wrong.extend(broken);
    wrong.extend(twice(&facts));
    assert!(wrong.is_empty(), "{} do not hold on {}:\n{}", wrong.len(), target.label, wrong.join("\n"));
    assert!(only().is_some() || facts.len() >= at_least, "only {} facts", facts.len());
}

/// Facts with one name.
fn twice(facts: &[Fact]) -> Vec<String> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for fact in facts {
        *count.entry(&fact.name).or_default() += 1;
    }
    count.into_iter().filter(|(_, count)| *count > 1).map(|(name, count)| format!("{count} facts are called `{name}`")).collect()
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn groups() -> Vec<Group> {
    [
        health::groups(),
        lifecycle::groups(),
        events::groups(),
        networks::groups(),
        ports::groups(),
        limits::groups(),
        streams::groups(),
        exec::groups(),
        images::groups(),
        create::groups(),
        volumes::groups(),
        lists::groups(),
        engine::groups(),
        processes::groups(),
    ]
    .concat()
}
