//! The whole program as its user meets it: the built binary, files, a real engine.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "in a test a surprise is to be loud")]

#[path = "../support/recorder.rs"]
mod recorder;
#[path = "../support/mod.rs"]
mod support;

mod change;
mod clean;
mod cli;
mod converge;
mod crash;
mod demo;
mod deploy;
mod doctor;
mod engine;
mod heal;
mod hold;
mod hooks;
mod images;
mod lost;
mod machine;
mod operator;
mod plan;
mod ports;
mod preview;
mod report;
mod services;
mod simulate;
mod stop;
mod tenant;
mod watch;
mod writer;
