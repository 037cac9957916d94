//! `docs/cli.md`: the reference of the command line, made from the help of every verb, and the test that it is fresh.

use std::fmt::Write;
use std::path::Path;

use clap::{Command, CommandFactory};

use super::Cli;

/// The whole reference.
fn reference() -> String {
    let mut root = Cli::command().term_width(100);
    root.build();
    let mut text = String::from(
        "# The command line\n\n\
         What `--help` says of each verb. This file is generated; `UPDATE=1 cargo test --lib cli::reference` makes it anew.\n\n\
         Exit codes: 0 done; 1 an error, wrong usage, not found or out of time; 2 only of `plan`: there are changes; 3 the operator or the\n\
         engine does not answer; `exec`: the command's own; 130 interrupted.\n",
    );
    section(&mut text, &mut root);
    text
}

fn section(text: &mut String, command: &mut Command) {
    let name = command.get_bin_name().unwrap_or("dockmaster").to_owned();
    let help: Vec<String> = command.render_help().to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    write!(text, "\n## {name}\n\n```text\n{}\n```\n", help.join("\n").trim_end()).unwrap();
    for verb in command.get_subcommands_mut() {
        section(text, verb);
    }
}

#[test]
fn the_reference_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let wanted = reference();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/cli.md is stale; make it anew with `UPDATE=1 cargo test --lib cli::reference`");
}

#[test]
fn every_verb_says_what_it_does_and_shows_how() {
    let mut root = Cli::command();
    root.build();
    for verb in root.get_subcommands() {
        assert!(verb.get_about().is_some(), "{}", verb.get_name());
        let plain = ["version", "state"].contains(&verb.get_name());
        assert!(plain || verb.get_after_help().is_some(), "{} has no example", verb.get_name());
    }
}

#[test]
fn the_arguments_are_sound_and_the_defaults_parse() {
    Cli::command().debug_assert();
    assert!(super::args::default_run().settings(&super::args::Global::default()).is_ok());
}
