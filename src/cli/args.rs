//! The command line as clap reads it: one struct per verb, with its help. What the verbs do is in the other files.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::apply::ApplyArgs;
use super::completion::CompletionArgs;
use super::delete::{PruneArgs, PurgeArgs};
use super::events::EventsArgs;
use super::exec::ExecArgs;
use super::get::GetArgs;
use super::lifecycle::ExtendArgs;
use super::logs::LogsArgs;
use super::orphans::OrphansArgs;
use super::specs::{ExplainArgs, SchemaArgs, ValidateArgs};
use super::wait::WaitArgs;
use super::why::WhyArgs;
use crate::config::{PortRange, RunSettings, StatusMode, installation, network_pool};
use crate::resource::quantity::Duration;
use crate::source::directory::Root;

/// A Kubernetes-style reconciling operator for Docker hosts.
///
/// Declare workspaces and previews as YAML in a directory; `dockmaster run` makes Docker agree with it, and keeps it so.
#[derive(Debug, Parser)]
#[command(name = "dockmaster", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// Where the help of a verb lists the options of every verb.
const GLOBAL: &str = "Options of every verb";

/// Options of every verb.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Where the operator keeps what it knows [default: the nearest .dockmaster, here or upward]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "DIR", env = "DOCKMASTER_STATE_DIR", hide_env_values = true)]
    pub state_dir: Option<PathBuf>,
    /// Whose objects on the engine to work on [default: dm, or what `run` was told]
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "ID", value_parser = |text: &str| installation(text))]
    pub installation: Option<String>,
    /// Say more; twice for everything
    #[arg(short, long, global = true, help_heading = GLOBAL, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Run the operator: make Docker agree with the specs, and keep it so
    Run(Box<RunArgs>),
    /// Show what `run --once` would do, and do nothing
    Plan(PlanArgs),
    /// Check specs and report every error in them
    Validate(ValidateArgs),
    /// List objects with what was found of them
    Get(GetArgs),
    /// Show all about objects, with their latest events
    Describe(NamesArgs),
    /// Show what was done to an object, why, and what comes next
    Why(WhyArgs),
    /// List what happened
    Events(EventsArgs),
    /// Wait until an object is in a state
    Wait(WaitArgs),
    /// Start what is stopped
    Start(NamesArgs),
    /// Stop, until started again
    Stop(NamesArgs),
    /// Restart
    Restart(NamesArgs),
    /// Count as active now
    Touch(NamesArgs),
    /// Postpone the next stop of a workspace, or the end of a preview
    Extend(ExtendArgs),
    /// Take the operator's hands off
    Suspend(NamesArgs),
    /// Give it back to the operator
    Resume(NamesArgs),
    /// Delete the spec; the data is kept for a while
    Delete(NamesArgs),
    /// Bring back what was deleted, with its data
    Undelete(NamesArgs),
    /// End the time in which deleted data is kept
    Purge(PurgeArgs),
    /// Confirm deletions that are held
    Prune(PruneArgs),
    /// List what this installation left on the engine without a spec
    Orphans(OrphansArgs),
    /// Print the log of a container
    Logs(LogsArgs),
    /// Run a command in a container
    Exec(ExecArgs),
    /// Write specs into the watched directory
    Apply(ApplyArgs),
    /// Print the JSON Schema of a kind, or of all
    Schema(SchemaArgs),
    /// Explain a kind or one of its fields
    Explain(ExplainArgs),
    /// Check the engine, rights, disk, clock, addresses, and a whole life of a test object
    Doctor(DoctorArgs),
    /// Serve an engine in memory on a socket, for the docker command line and for trials
    Simulate(SimulateArgs),
    /// Back up and restore what the operator knows
    State(StateArgs),
    /// Print a completion script
    Completion(CompletionArgs),
    /// Print the version
    Version,
}

/// `run`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster run --specs ./my-specs
  dockmaster run --specs ./team --specs ./alice=alice --publish-address 0.0.0.0
  dockmaster run --specs ./my-specs --once --timeout 5m
  dockmaster run --specs ./my-specs --once --simulate

The first Ctrl-C finishes what is under way and leaves the containers running, the second stops at once.
With --once, exit code 0 says that nothing is under way, stuck or held.")]
pub struct RunArgs {
    /// A directory of specs; DIR=NAMESPACE puts all of it into one namespace; may be repeated
    #[arg(long, value_name = "DIR", default_value = "specs")]
    pub specs: Vec<String>,
    /// The Docker engine, like unix:///var/run/docker.sock
    #[arg(long, value_name = "URL", env = "DOCKER_HOST", hide_env_values = true)]
    pub docker_host: Option<String>,
    /// The address on which ports are published; any other than loopback opens them to everyone
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    pub publish_address: IpAddr,
    /// The host ports that are leased to workspaces and previews
    #[arg(long, value_name = "A-B", default_value = "10000-10100")]
    pub port_range: PortRange,
    /// The pool from which networks get their subnets
    #[arg(long, value_name = "CIDR", default_value = "10.213.0.0/16", value_parser = |text: &str| network_pool(text))]
    pub network_pool: String,
    /// A host directory below which specs may mount; may be repeated
    #[arg(long, value_name = "DIR")]
    pub host_path: Vec<PathBuf>,
    /// Time between two full passes
    #[arg(long, value_name = "TIME", default_value = "60s")]
    pub resync: Duration,
    /// How long a document must be gone before it counts as deleted
    #[arg(long, value_name = "TIME", default_value = "2s")]
    pub settle: Duration,
    /// How long the data of deleted objects is kept
    #[arg(long, value_name = "TIME", default_value = "7d")]
    pub tombstone: Duration,
    /// Where status is written: into the spec, into FILE.status.yaml beside it, or nowhere
    #[arg(long, value_name = "WHERE", default_value = "inline")]
    pub status: StatusArg,
    /// An image that holds this version of dockmaster, for engines of another architecture
    #[arg(long, value_name = "IMAGE")]
    pub helper_image: Option<String>,
    /// Go on although another engine answers than before
    #[arg(long)]
    pub accept_engine: bool,
    /// Converge once, then end
    #[arg(long)]
    pub once: bool,
    /// How long --once may take
    #[arg(long, value_name = "TIME", default_value = "10m", requires = "once")]
    pub timeout: Duration,
    /// Converge on an engine in memory, print what it then has, and leave no trace; every image can be pulled there
    #[arg(long, value_name = "VERSION", requires = "once", num_args = 0..=1, require_equals = true, default_missing_value = "28.5")]
    pub simulate: Option<EngineVersion>,
    /// The form of log lines
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub log_format: LogFormat,
}

impl RunArgs {
    /// The settings that these arguments say.
    ///
    /// # Errors
    /// The working directory is gone.
    pub fn settings(&self, global: &Global) -> std::io::Result<RunSettings> {
        Ok(RunSettings {
            installation: global.installation.clone().unwrap_or_else(|| DEFAULT_INSTALLATION.to_owned()),
            docker_host: self.docker_host.clone(),
            roots: self.specs.iter().map(|text| Root::parse(text)).collect::<Result<_, _>>()?,
            publish_address: self.publish_address,
            port_range: self.port_range,
            network_pool: self.network_pool.clone(),
            host_paths: self.host_path.iter().map(std::path::absolute).collect::<Result<_, _>>()?,
            resync: self.resync,
            settle: self.settle,
            tombstone: self.tombstone,
            status: self.status.into(),
            helper_image: self.helper_image.clone(),
        })
    }
}

/// The installation where nothing else was said.
pub const DEFAULT_INSTALLATION: &str = "dm";

/// The settings of a `run` without arguments, for verbs that work before the first one.
///
/// # Panics
/// Never: the defaults parse, and a test shows it.
pub fn default_run() -> RunArgs {
    #[derive(Parser)]
    struct Defaults {
        #[command(flatten)]
        run: RunArgs,
    }
    Defaults::parse_from(["run"]).run
}

/// `--status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StatusArg {
    /// Into the spec's own document
    Inline,
    /// Into FILE.status.yaml beside it
    Sidecar,
    /// Nowhere
    None,
}

impl From<StatusArg> for StatusMode {
    fn from(arg: StatusArg) -> Self {
        match arg {
            StatusArg::Inline => StatusMode::Inline,
            StatusArg::Sidecar => StatusMode::Sidecar,
            StatusArg::None => StatusMode::None,
        }
    }
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// `-o text|json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TextOrJson {
    /// For people
    Text,
    /// For programs
    Json,
}

/// `plan`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster plan
  dockmaster plan my-specs/alice/shop.yaml
  dockmaster plan --at 12h

Exit code 0: nothing to do; 2: changes; 1: an error. Deletions are planned only for whole directories of specs.")]
pub struct PlanArgs {
    /// Specs: files, directories, or a whole root [default: all that `run` watches]
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Plan for then: 2h from now, or an instant like 2030-01-31T18:00:00Z
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// The form of the output
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub output: TextOrJson,
}

/// Which objects: used by every verb that takes names.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Names are written KIND/NAME…, KIND NAME…, or NAME alone for a workspace:
  shop    workspace/shop    ws shop blog    preview/demo")]
pub struct NamesArgs {
    /// KIND/NAME…, KIND NAME…, or NAME of a workspace
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
    /// The namespace
    #[arg(short, long, value_name = "NS", default_value = "default")]
    pub namespace: String,
}

/// `doctor`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:
  dockmaster doctor

Exit code 1 when something is wrong, 3 when the engine does not answer.")]
pub struct DoctorArgs {
    /// The Docker engine [default: what `run` was told]
    #[arg(long, value_name = "URL", env = "DOCKER_HOST", hide_env_values = true)]
    pub docker_host: Option<String>,
    /// The form of the output
    #[arg(short, long, value_name = "FORM", default_value = "text")]
    pub output: TextOrJson,
}

/// The engine that is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineVersion {
    /// Docker 20.10
    #[value(name = "20.10")]
    Old,
    /// Docker 28.5
    #[value(name = "28.5")]
    New,
}

/// `simulate`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:
  dockmaster simulate --socket /tmp/simulated.sock &
  DOCKER_HOST=unix:///tmp/simulated.sock docker run -d --name box busybox sleep 600
  DOCKER_HOST=unix:///tmp/simulated.sock dockmaster run --specs ./my-specs

It keeps everything in memory, and what runs in its containers is simulated: `sleep`, a small shell and a few programs behave as they are
called, any other program runs until it is stopped. It ends with SIGTERM or Ctrl-C.")]
pub struct SimulateArgs {
    /// The socket to make
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// Which engine
    #[arg(long, value_name = "VERSION", default_value = "28.5")]
    pub engine: EngineVersion,
    /// Take about as long for each call as an engine on a small machine
    #[arg(long)]
    pub latency: bool,
}

/// `state`.
#[derive(Clone, Debug, Args)]
pub struct StateArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub action: StateAction,
}

/// The verbs of `state`.
#[derive(Clone, Debug, Subcommand)]
pub enum StateAction {
    /// Write a consistent copy of the state into a file; the operator may run meanwhile
    #[command(after_help = "Example:\n  dockmaster state backup ./dockmaster-state.db")]
    Backup {
        /// The file to make
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Replace the file if it exists
        #[arg(long)]
        overwrite: bool,
    },
    /// Put a copy back; the operator must not run
    #[command(after_help = "Example:\n  dockmaster state restore ./dockmaster-state.db --yes")]
    Restore {
        /// The file that `backup` made
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
}
