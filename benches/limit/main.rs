//! How near the operator is to what an engine can do, and how it grows: `cargo bench --bench limit`.
//!
//! On a real engine it races against a client that only makes the calls, and against `docker compose`; on an engine in memory it is
//! measured with up to a hundred thousand objects. It prints tables; with `--write` they go into docs/performance.md.

#![allow(clippy::unwrap_used, reason = "in a benchmark a surprise is to be loud")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]

mod compose;
mod crowd;
mod engine;
mod floor;
mod process;
#[path = "../../tests/support/recorder.rs"]
mod recorder;
#[path = "../../tests/support/mod.rs"]
mod support;
mod table;

use std::path::Path;

use clap::{Parser, ValueEnum};

/// The races on a real engine, and the crowds on a simulated one.
#[derive(Parser)]
struct Options {
    /// Only one of them
    #[arg(long)]
    only: Option<Part>,
    /// Containers on the real engine
    #[arg(long, default_value_t = 50)]
    objects: usize,
    /// Rounds on the real engine
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Objects on the simulated engine
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1_000, 10_000, 100_000])]
    sizes: Vec<usize>,
    /// Write the tables into docs/performance.md
    #[arg(long)]
    write: bool,
    /// What cargo tells every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Engine,
    Crowd,
}

fn main() {
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if options.only != Some(Part::Crowd) {
        let (version, part) = runtime.block_on(engine::measure(options.objects, options.rounds));
        tell(&options, &format!("Docker {version}"), &part);
    }
    if options.only != Some(Part::Engine) {
        let heading = "## With many objects\n\nOn the simulated engine, which answers at once; the operator is a process of its own.";
        let mut crowds = Vec::new();
        for size in &options.sizes {
            crowds.push(crowd::measure(*size));
            // After each size: the next may take ten times as long.
            tell(&options, "crowds", &table::of_crowds(heading, &crowds));
        }
    }
}

fn tell(options: &Options, name: &str, part: &str) {
    println!("\n{part}");
    if options.write {
        table::write(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/performance.md"), name, part).unwrap();
    }
}
