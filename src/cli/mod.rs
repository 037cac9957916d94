//! The command line: one file per verb, or per few that are alike. `parse` reads the arguments, `run` does what they say.
//!
//! Verbs read the ledger and write specs through their source, facts and settings into the ledger; then they nudge the operator, if one runs.
//! They know ports only: the program's `main` names the adapters, in its [`Adapters`].
//!
//! **Invariant:** results go to standard output, words about them to standard error; exit codes are those in [`out`].

pub mod apply;
pub mod args;
pub mod completion;
pub mod delete;
pub mod describe;
pub mod doctor;
pub mod edit;
pub mod events;
pub mod exec;
pub mod get;
pub mod lifecycle;
pub mod logs;
pub mod names;
pub mod objects;
pub mod orphans;
pub mod out;
#[cfg(test)]
mod reference;
pub mod resolved;
pub mod specs;
pub mod state;
pub mod table;
pub mod terminal;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod wait;
pub mod why;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Parser;
use futures::future::BoxFuture;
use jiff::Timestamp;

pub use args::Cli;
use args::{DoctorArgs, Global, PlanArgs, RunArgs, SimulateArgs, Verb};
pub use orphans::Orphan;
pub use out::{Failure, Out};

use crate::config::{RUN_SETTING, RunSettings};
use crate::http::control::{Client, ControlError, Ping};
use crate::runtime::ContainerRuntime;
use crate::runtime::console::Console;
use crate::source::SpecSource;
use crate::source::directory::Root;
use crate::state::{Ledger, statedir};

/// How the ledger is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// By a verb that only looks.
    Read,
    /// By a verb that leaves facts or settings; beside a running operator.
    Write,
}

/// A container engine as the command line uses it.
pub trait Engine: ContainerRuntime + Console {}
impl<T: ContainerRuntime + Console> Engine for T {}

/// What the verbs need from the rest of the program, with the adapters filled in.
pub trait Adapters: Sync {
    /// The ledger of a state directory, which must exist.
    fn ledger<'a>(&'a self, state_dir: &'a Path, access: Access) -> BoxFuture<'a, Result<Arc<dyn Ledger>, Failure>>;
    /// A directory of specs, to be edited.
    fn source(&self, root: &Root) -> Result<Arc<dyn SpecSource>, Failure>;
    /// The engine of an operator with these settings; exit code 3 where it does not answer.
    fn engine<'a>(&'a self, settings: &'a RunSettings) -> BoxFuture<'a, Result<Arc<dyn Engine>, Failure>>;
    /// `run`: the exit code.
    fn run<'a>(&'a self, context: &'a mut Context<'_>, arguments: &'a RunArgs) -> BoxFuture<'a, Result<u8, Failure>>;
    /// `plan`: the exit code.
    fn plan<'a>(&'a self, context: &'a mut Context<'_>, arguments: &'a PlanArgs) -> BoxFuture<'a, Result<u8, Failure>>;
    /// What this installation has on the engine without a spec; removed first where that is asked for.
    fn orphans<'a>(&'a self, ledger: Arc<dyn Ledger>, settings: &'a RunSettings, remove: bool) -> BoxFuture<'a, Result<Vec<Orphan>, Failure>>;
    /// `doctor`: the exit code.
    fn doctor<'a>(&'a self, context: &'a mut Context<'_>, arguments: &'a DoctorArgs) -> BoxFuture<'a, Result<u8, Failure>>;
    /// `simulate`: the exit code.
    fn simulate<'a>(&'a self, context: &'a mut Context<'_>, arguments: &'a SimulateArgs) -> BoxFuture<'a, Result<u8, Failure>>;
}

/// What every verb has at hand.
pub struct Context<'a> {
    /// The rest of the program.
    pub adapters: &'a dyn Adapters,
    /// Where it prints.
    pub out: &'a mut Out,
    /// The options of every verb.
    pub global: Global,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The instant at which the verb began.
    pub now: Timestamp,
}

impl Context<'_> {
    /// The operator's control socket.
    pub fn client(&self) -> Client {
        Client::new(&self.state_dir)
    }

    /// The operator, if one answers.
    pub async fn operator(&self) -> Result<Option<Ping>, Failure> {
        match self.client().ping().await {
            Ok(ping) => Ok(Some(ping)),
            Err(ControlError::NotRunning) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// That no operator runs, and what to do.
    pub fn not_running(&self, wanted: &str) -> Failure {
        let dir = self.state_dir.display();
        Failure::unreachable(format!("{wanted} needs a running operator, and none runs on {dir}; start one with `dockmaster run`, or name its --state-dir"))
    }

    /// The ledger, which a `run` has made.
    pub async fn ledger(&self, access: Access) -> Result<Arc<dyn Ledger>, Failure> {
        let reader = self.adapters.ledger(&self.state_dir, Access::Read).await?;
        match access {
            Access::Read => Ok(reader),
            Access::Write => self.adapters.ledger(&self.state_dir, Access::Write).await,
        }
    }

    /// What the last `run` on this state directory was told.
    pub async fn settings(&self, ledger: &dyn Ledger) -> Result<RunSettings, Failure> {
        let Some(text) = ledger.setting(RUN_SETTING).await? else {
            return Err(Failure::new(format!("no operator has run on {} yet; start one with `dockmaster run --specs DIR`", self.state_dir.display())));
        };
        self.remembered(&text)
    }

    /// The settings that the ledger remembers, if they are of the installation asked for.
    pub fn remembered(&self, text: &str) -> Result<RunSettings, Failure> {
        let settings: RunSettings = serde_json::from_str(text)?;
        match &self.global.installation {
            Some(asked) if *asked != settings.installation => Err(Failure::new(format!(
                "{} belongs to installation {}, not {asked}; name the other one's --state-dir",
                self.state_dir.display(),
                settings.installation
            ))),
            Some(_) | None => Ok(settings),
        }
    }
}

/// Reads the arguments, the program's name first. `Err`: help, version or wrong usage was printed; the exit code.
pub fn parse(arguments: impl IntoIterator<Item = OsString>, out: &mut Out) -> Result<Cli, u8> {
    Cli::try_parse_from(arguments).map_err(|error| {
        let text = error.render();
        let (code, printed) = if error.use_stderr() { (out::ERROR, out.note(text.ansi())) } else { (out::DONE, out.text(text.ansi())) };
        // There is nobody left to tell.
        drop(printed);
        code
    })
}

/// Does what the arguments say and gives the exit code. Everything is printed.
pub async fn run(cli: Cli, adapters: &dyn Adapters, out: &mut Out) -> u8 {
    let code = match statedir::locate(cli.global.state_dir.as_deref()) {
        Ok(state_dir) => {
            let mut context = Context { adapters, out: &mut *out, global: cli.global, state_dir, now: Timestamp::now() };
            // The operator, a command under way and a test object see interrupts themselves.
            let attended = matches!(cli.verb, Verb::Run(_) | Verb::Exec(_) | Verb::Doctor(_) | Verb::Simulate(_));
            tokio::select! {
                code = verb(cli.verb, &mut context) => code,
                Ok(()) = tokio::signal::ctrl_c(), if !attended => Ok(out::INTERRUPTED),
            }
        }
        Err(error) => Err(error.into()),
    };
    code.unwrap_or_else(|failure| {
        use owo_colors::OwoColorize;
        if !failure.message.is_empty() {
            // There is nobody left to tell.
            drop(out.note(format_args!("{} {failure}", "error:".red().bold())));
        }
        failure.code
    })
}

async fn verb(verb: Verb, context: &mut Context<'_>) -> Result<u8, Failure> {
    let adapters = context.adapters;
    match verb {
        Verb::Run(arguments) => return adapters.run(context, &arguments).await,
        Verb::Plan(arguments) => return adapters.plan(context, &arguments).await,
        Verb::Doctor(arguments) => return adapters.doctor(context, &arguments).await,
        Verb::Simulate(arguments) => return adapters.simulate(context, &arguments).await,
        Verb::Exec(arguments) => return exec::run(context, &arguments).await,
        Verb::Validate(arguments) => return specs::validate(context, &arguments),
        Verb::Get(arguments) => get::run(context, &arguments).await,
        Verb::Describe(arguments) => describe::run(context, &arguments).await,
        Verb::Why(arguments) => why::run(context, &arguments).await,
        Verb::Events(arguments) => events::run(context, &arguments).await,
        Verb::Wait(arguments) => wait::run(context, &arguments).await,
        Verb::Start(arguments) => lifecycle::start(context, &arguments).await,
        Verb::Stop(arguments) => lifecycle::stop(context, &arguments).await,
        Verb::Restart(arguments) => lifecycle::restart(context, &arguments).await,
        Verb::Touch(arguments) => lifecycle::touch(context, &arguments).await,
        Verb::Extend(arguments) => lifecycle::extend(context, &arguments).await,
        Verb::Suspend(arguments) => lifecycle::suspend(context, &arguments).await,
        Verb::Resume(arguments) => lifecycle::resume(context, &arguments).await,
        Verb::Delete(arguments) => delete::delete(context, &arguments).await,
        Verb::Undelete(arguments) => delete::undelete(context, &arguments).await,
        Verb::Purge(arguments) => delete::purge(context, &arguments).await,
        Verb::Prune(arguments) => delete::prune(context, &arguments).await,
        Verb::Orphans(arguments) => orphans::run(context, &arguments).await,
        Verb::Logs(arguments) => logs::run(context, &arguments).await,
        Verb::State(arguments) => state::run(context, &arguments.action).await,
        Verb::Apply(arguments) => apply::run(context, &arguments).await,
        Verb::Schema(arguments) => specs::schema(context, &arguments),
        Verb::Explain(arguments) => specs::explain(context, &arguments),
        Verb::Completion(arguments) => completion::run(context, &arguments),
        Verb::Version => Ok(context.out.line(format_args!("dockmaster {}", env!("CARGO_PKG_VERSION")))?),
    }
    .map(|()| out::DONE)
}
