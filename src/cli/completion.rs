//! `completion`: scripts with which shells complete verbs, options and kinds.

use clap::{Args, CommandFactory, ValueEnum};

use super::out::Failure;
use super::{Cli, Context};

/// `completion`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster completion bash > ~/.local/share/bash-completion/completions/dockmaster
  dockmaster completion fish > ~/.config/fish/completions/dockmaster.fish")]
pub struct CompletionArgs {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// The shells that completion is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// Prints the script.
pub fn run(context: &mut Context<'_>, arguments: &CompletionArgs) -> Result<(), Failure> {
    let shell = match arguments.shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "dockmaster", &mut script);
    Ok(context.out.text(String::from_utf8_lossy(&script))?)
}
