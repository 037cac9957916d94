//! What reads what people, engines and other versions wrote, fed with arbitrary inputs.
//!
//! Each target is a function of bytes that asserts what holds for every input; its corpus lies in `corpus/`, one input a file. A plain run
//! takes the corpus and a fixed number of inputs made of it; `DOCKMASTER_FUZZ_CASES` and `DOCKMASTER_FUZZ_SEED` ask for more and for others.

#![expect(clippy::unwrap_used, clippy::print_stdout, clippy::wildcard_enum_match_arm, reason = "in a test a surprise is to be loud")]

mod labels;
mod parse;
mod plan;
mod planner;
mod quantities;
mod run;
mod splice;

// For `planner::model`, which is of the crate.
use dockmaster::{desired, observed, resource, state};
use run::{Target, run};

/// What specs are made of.
#[rustfmt::skip]
const YAML: &[&str] = &[
    "---\n", "...\n", "---", "%YAML 1.2\n---\n", "%TAG ! tag:yaml.org,2002:\n", "\u{feff}", "\r\n", "\n", "  ", "- ", ": ", "? ", "# note\n", "&a ",
    "*a", "<<: *a\n", "!!str ", "!!binary ", "! ", "|\n", "|+\n", ">-\n", "|2\n", "{", "}", "[", "]", "{}", "[]", "''", "\"\"", "'", "\"", "\\", "~",
    "null", "true", "no", "017", "0x1f", ".inf", "-1", "1e400", "99999999999999999999", "é", "🦊", "\u{2028}", "\u{85}", "status:\n", "status: {}\n",
    "status: *a\n", "\"status\": ", "status: # mine\n", "spec:\n", "spec: {}\n", "apiVersion: dockmaster/v1\n", "kind: Workspace\n",
    "kind: Preview\n", "kind: Tenant\n", "metadata: {name: a}\n", "metadata:\n  name: a\n", "  image: x\n", "  state: Stopped\n", "512m", "0.5",
    "30m", "1h30m", "a: &a {b: *a}\n", "phase: Running\n", "  conditions: []\n",
];

/// What labels are made of.
#[rustfmt::skip]
const LABELS: &[&str] = &[
    "dockmaster.installation=dm\n", "dockmaster.kind=workspace\n", "dockmaster.kind=preview\n", "dockmaster.kind=namespace\n",
    "dockmaster.namespace=alice\n", "dockmaster.name=shop\n", "dockmaster.uid=01936f2e-7b7c-7000-8000-000000000001\n",
    "dockmaster.created=2026-01-02T03:04:05Z\n", "dockmaster.generation=3\n", "dockmaster.role=main\n", "dockmaster.role=service\n",
    "dockmaster.role=helper\n", "dockmaster.service=db\n", "dockmaster.volume=cache\n", "dockmaster.expired=2026-01-02T03:04:05Z\n",
    "dockmaster.ports={\"http\":10007}\n", "dockmaster.spec-hash=v1:00\n", "dockmaster.colour=blue\n", "dm-ws-alice.shop", "dm-pv-alice.shop",
    "dm-vol-alice.shop.cache", "dm-nsvol-alice.cache", "dm-svc-alice.shop.db", "dm-ns-alice", "_next", "_copy", "_delta", ".expired", ".db", ".", "-",
    "=", "\n", "+", "0", "18446744073709551616", "65536",
];

/// What quantities are made of.
#[rustfmt::skip]
const QUANTITIES: &[&str] = &[
    "0", "1", "9", ".", "-", "+", " ", "e", "m", "M", "k", "K", "g", "G", "t", "T", "p", "P", "i", "b", "B", "Ki", "MiB", "s", "h", "d", "w", "y",
    "ms", "us", "µs", "ns", "min", "hours", "month", "9223372036854775807", "9223372036854775808", "18446744073709551616", "0.000000001",
    "8191.99999999", "8192p", "3155760000", "36525d", "0x1", "٣", "\u{a0}", "\n", "Mon", "-Fri", ",Sun", "08:00", "24:00", "Europe/Berlin", "UTC",
];

#[test]
fn specs() {
    run(&Target { name: "parse", check: parse::check, words: YAML, cases: 300 });
}

#[test]
fn statuses_and_edits() {
    run(&Target { name: "splice", check: splice::check, words: YAML, cases: 150 });
}

#[test]
fn labels_of_engines() {
    run(&Target { name: "labels", check: labels::check, words: LABELS, cases: 20_000 });
}

#[test]
fn sizes_durations_and_hours() {
    run(&Target { name: "quantities", check: quantities::check, words: QUANTITIES, cases: 20_000 });
}

#[test]
fn plans_from_arbitrary_states() {
    run(&Target { name: "plan", check: plan::check, words: plan::WORDS, cases: 1_500 });
}
