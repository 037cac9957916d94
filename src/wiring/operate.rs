//! `run`: the operator itself, from its locks to its drain.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dockmaster::cli::args::{LogFormat, RunArgs};
use dockmaster::cli::{Context, Failure, out};
use dockmaster::config::{HELPER_SETTING, RUN_SETTING, RunSettings, StatusMode};
use dockmaster::controller::run::{ENGINE_SETTING, OnceOutcome};
use dockmaster::controller::{Controller, Parts, Permission};
use dockmaster::http::control;
use dockmaster::http::handle::Handle;
use dockmaster::runtime::docker::DockerRuntime;
use dockmaster::runtime::docker::connect::Client;
use dockmaster::runtime::docker::helper_image::HelperImage;
use dockmaster::runtime::docker::lock::{Holder, Lock};
use dockmaster::runtime::simulated::Latency;
use dockmaster::source::SpecSource;
use dockmaster::source::directory::{DirectorySource, Options};
use dockmaster::source::sink::{Inline, Nowhere, Sidecar};
use dockmaster::state::directory_lock::StateDirLock;
use dockmaster::state::sqlite::SqliteLedger;
use dockmaster::state::{Ledger, statedir};
use dockmaster::status::StatusSink;
use dockmaster::status::reporter::Reporter;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::host::{SystemClock, SystemHost, SystemRandomness};
use super::simulate::{self, Way};

/// The most objects worked on at once: beyond eight an engine only gets slower.
const MOST_AT_ONCE: usize = 8;

/// How many times faster time passes on a simulated engine: a pipeline does not wait for health tests.
const PACE: u32 = 30;

/// How often the state directory is looked for.
const WATCH: Duration = Duration::from_secs(5);

/// How often an engine that is away is tried.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs the operator until it is told to stop, or once.
pub async fn run(context: &mut Context<'_>, arguments: &RunArgs) -> Result<u8, Failure> {
    telemetry(arguments.log_format);
    let begun = Instant::now();
    let limit = arguments.once.then(|| Duration::try_from(arguments.timeout.0).unwrap_or(Duration::from_secs(600)));
    let mut settings = arguments.settings(&context.global)?;
    let way = match arguments.simulate {
        Some(version) => Way::Simulated(simulate::engine(version, Latency::None, PACE)),
        None => Way::Host(settings.docker_host.clone()),
    };
    // What is only simulated leaves no trace: neither in the state nor in the specs.
    let passing = if way.simulated().is_some() { Some(tempfile::tempdir()?) } else { None };
    if passing.is_some() {
        settings.helper_image = Some(simulate::HELPER.to_owned());
        settings.status = StatusMode::None;
    }
    let state_dir = passing.as_ref().map_or_else(|| context.state_dir.clone(), |passing| passing.path().to_owned());
    statedir::prepare(&state_dir)?;
    let directory = Arc::new(StateDirLock::acquire(&state_dir)?);
    let ledger = Arc::new(SqliteLedger::open(&state_dir).await?);
    if let Some(text) = ledger.setting(RUN_SETTING).await? {
        // What a state directory knows is of one installation; another one would make all of it a second time.
        settings.installation = context.remembered(&text)?.installation;
    }
    let stop = CancellationToken::new();
    on_signals(&stop)?;
    let Some(client) = engine(&way, arguments.once, &stop).await? else { return Ok(out::DONE) };
    let image = super::helper_image(&settings, ledger.setting(HELPER_SETTING).await?.as_deref());
    let claim = Claim {
        installation: settings.installation.clone(),
        way: way.clone(),
        engine: ledger.setting(ENGINE_SETTING).await?.unwrap_or_else(|| client.engine().to_owned()),
        accept_engine: arguments.accept_engine,
        image: image.clone(),
        holder: holder(&state_dir),
    };
    let permission = Permission::default();
    let lock = if claim.is_the_engine(&client) {
        tokio::select! { biased; () = stop.cancelled() => return Ok(out::DONE), lock = claim.acquire(&client, limit) => Some(lock?) }
    } else if arguments.once {
        return Err(Failure::new("another engine answers than before; `run --accept-engine` takes it"));
    } else {
        permission.revoke();
        None
    };
    let sources = sources(&settings, ledger.as_ref()).await?;
    warn_of(&settings, &sources);
    ledger.set_setting(RUN_SETTING, Some(&serde_json::to_string(&settings)?)).await?;
    // What it was last is no use any more where it cannot be told what it is.
    ledger.set_setting(HELPER_SETTING, image.known().await.ok().flatten().as_deref()).await?;
    let controller = Controller::new(Parts {
        runtime: Arc::new(DockerRuntime::new(client, &settings.installation, image)),
        ledger: ledger.clone(),
        sources: sources.iter().map(|source| source.clone() as Arc<dyn SpecSource>).collect(),
        reporter: Arc::new(Reporter::new(sink(&settings))),
        clock: Arc::new(SystemClock),
        randomness: Arc::new(SystemRandomness),
        host: Arc::new(SystemHost),
        concurrency: (2 * std::thread::available_parallelism().map_or(2, usize::from)).min(MOST_AT_ONCE),
        accept_engine: arguments.accept_engine,
        permission: permission.clone(),
        settings,
    });
    let done = CancellationToken::new();
    let held = tokio::spawn({
        let (controller, permission, stop, done, once) = (controller.clone(), permission.clone(), stop.clone(), done.clone(), arguments.once);
        async move {
            let held = claim.hold(lock, &permission, &controller, once, &done).await;
            stop.cancel();
            held
        }
    });
    let listener = control::bind(&state_dir)?;
    let served = tokio::spawn(control::serve(listener, Arc::new(Handle::new(controller.clone(), Timestamp::now())), stop.clone()));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), state = %state_dir.display(), "the operator runs");
    let watched = tokio::spawn({
        let (stop, directory) = (stop.clone(), directory.clone());
        async move { gone(&directory, &permission, &stop).await }
    });
    let code = operate(context, limit.map(|limit| limit.saturating_sub(begun.elapsed())), &controller, &stop).await;
    stop.cancel();
    drop(served.await);
    done.cancel();
    let held = held.await?;
    let gone = watched.await?;
    ledger.close().await;
    let code = match held {
        Held::Still(lock) => {
            lock.release().await;
            code
        }
        Held::Away => code,
        Held::Lost => Err(Failure::new("the lock on the engine was lost: another operator may have it now, so nothing is changed any more; start again")),
    };
    if gone {
        return Err(Failure::new(format!(
            "the state directory {} was removed or replaced while the operator ran, so nothing is changed any more; start again: what it knew is found again as far as labels tell it",
            state_dir.display()
        )));
    }
    for line in way.simulated().map(simulate::summary).unwrap_or_default() {
        context.out.line(format_args!("{line}"))?;
    }
    code
}

/// Waits until the state directory is not this operator's any more, and lets nothing be changed from then on: verbs and the next operator would see
/// another state than this one. False: the operator was told to stop before.
async fn gone(directory: &StateDirLock, permission: &Permission, stop: &CancellationToken) -> bool {
    loop {
        if !directory.is_in_place() {
            permission.revoke();
            stop.cancel();
            return true;
        }
        tokio::select! { biased; () = stop.cancelled() => return false, () = tokio::time::sleep(WATCH) => {} }
    }
}

/// Runs the controller; with a limit only until it has converged.
async fn operate(context: &mut Context<'_>, limit: Option<Duration>, controller: &Arc<Controller>, stop: &CancellationToken) -> Result<u8, Failure> {
    let running = tokio::spawn({
        let (controller, stop) = (controller.clone(), stop.clone());
        async move { controller.run(stop).await }
    });
    let Some(limit) = limit else {
        running.await??;
        return Ok(out::DONE);
    };
    let outcome = tokio::select! { biased;
        outcome = controller.settled(limit) => outcome,
        () = stop.cancelled() => return Ok(out::INTERRUPTED),
    };
    stop.cancel();
    running.await??;
    match outcome {
        OnceOutcome::Settled => Ok(out::DONE),
        OnceOutcome::Unsettled { objects, sources } => {
            for (object, why) in &objects {
                context.out.note(format_args!("{object}: {why}"))?;
            }
            for (source, why) in &sources {
                context.out.note(format_args!("{source}: {why}"))?;
            }
            Err(Failure::new(match objects.len() {
                0 => "not all specs could be read".to_owned(),
                1 => "one object is not as declared; `dockmaster why` tells more".to_owned(),
                more => format!("{more} objects are not as declared; `dockmaster why` tells more"),
            }))
        }
    }
}

/// The engine; a resident operator waits for one that is not up yet. `None`: it was told to stop meanwhile.
async fn engine(way: &Way, once: bool, stop: &CancellationToken) -> Result<Option<Client>, Failure> {
    let mut told = false;
    loop {
        match way.connect().await {
            Ok(client) => return Ok(Some(client)),
            Err(error) if once => return Err(Failure::unreachable(error)),
            Err(error @ dockmaster::runtime::Error::Rejected { .. }) => return Err(Failure::unreachable(error)),
            Err(error) if !told => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the engine does not answer; waiting for it");
                told = true;
            }
            Err(_) => {}
        }
        tokio::select! { biased; () = stop.cancelled() => return Ok(None), () = tokio::time::sleep(Duration::from_secs(2)) => {} }
    }
}

/// What this operator lays claim to.
struct Claim {
    installation: String,
    way: Way,
    engine: String,
    accept_engine: bool,
    image: HelperImage,
    holder: Holder,
}

/// How the lock ended up.
enum Held {
    /// It is held.
    Still(Box<Lock>),
    /// The engine is away, and the lock with it.
    Away,
    /// It was taken away.
    Lost,
}

impl Claim {
    /// Takes the lock, waiting for as long as another holds it, or until the limit.
    async fn acquire(&self, client: &Client, limit: Option<Duration>) -> Result<Lock, Failure> {
        let lock = Lock::acquire(client, &self.installation, &self.image, &self.holder, |other| {
            tracing::warn!(holder = %other, installation = self.installation, "another operator has this engine; waiting for it to end");
        });
        let late = |_| Failure::new("another operator still has this engine, and the time is over; end it, or give a longer --timeout");
        match limit {
            Some(limit) => Ok(tokio::time::timeout(limit, lock).await.map_err(late)??),
            None => Ok(lock.await?),
        }
    }

    /// Holds the lock until it is `done`. An engine that goes away takes the lock with it: nothing is changed before it is held again.
    /// A lock that goes while the engine is there was taken away by somebody.
    async fn hold(&self, mut lock: Option<Lock>, permission: &Permission, controller: &Controller, once: bool, done: &CancellationToken) -> Held {
        loop {
            if let Some(lock) = lock {
                tokio::select! { biased; () = done.cancelled() => return Held::Still(Box::new(lock)), () = lock.lost() => {} }
                permission.revoke();
                if once || self.client().await.is_some() {
                    return Held::Lost;
                }
                tracing::warn!("the engine went away, and the lock with it; nothing is changed until both are back");
            }
            lock = tokio::select! { biased; () = done.cancelled() => return Held::Away, lock = self.again() => Some(lock) };
            permission.restore();
            tracing::info!("the engine is back, and the lock is held again");
            if let Err(error) = controller.resume().await {
                tracing::error!(error = &error as &dyn std::error::Error, "the ledger failed");
            }
        }
    }

    /// The engine, when it answers. Another one in its place is not the engine, and gets no lock.
    async fn client(&self) -> Option<Client> {
        self.way.connect().await.ok().filter(|client| self.is_the_engine(client))
    }

    fn is_the_engine(&self, client: &Client) -> bool {
        self.accept_engine || client.engine() == self.engine
    }

    /// Takes the lock of an engine that is away, when it is back.
    async fn again(&self) -> Lock {
        loop {
            if let Some(client) = self.client().await {
                match self.acquire(&client, None).await {
                    Ok(lock) => return lock,
                    Err(failure) => tracing::warn!(error = failure.message, "the lock cannot be taken yet"),
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

fn holder(state_dir: &Path) -> Holder {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Holder { host, pid: std::process::id(), started: Timestamp::now().to_string(), state_dir: state_dir.display().to_string() }
}

/// The directories, each with what was remembered of it.
async fn sources(settings: &RunSettings, ledger: &dyn Ledger) -> Result<Vec<Arc<DirectorySource>>, Failure> {
    let mut sources = Vec::new();
    for root in &settings.roots {
        let remembered = ledger.setting(&dockmaster::controller::intake::root_setting(&root.name)).await?;
        let options = Options { is_writer: true, ..super::options(Some(settings), remembered) };
        sources.push(Arc::new(DirectorySource::new(root.clone(), options)));
    }
    Ok(sources)
}

fn sink(settings: &RunSettings) -> Arc<dyn StatusSink> {
    match settings.status {
        StatusMode::Inline => Arc::new(Inline::new(settings.roots.clone())),
        StatusMode::Sidecar => Arc::new(Sidecar::new(settings.roots.clone())),
        StatusMode::None => Arc::new(Nowhere),
    }
}

/// What is better said at the start than found out later.
fn warn_of(settings: &RunSettings, sources: &[Arc<DirectorySource>]) {
    if !settings.publish_address.is_loopback() {
        tracing::warn!(address = %settings.publish_address, "published ports are open to everyone who reaches this address, other namespaces included");
    }
    if settings.status == StatusMode::Inline {
        for source in sources.iter().filter(|source| source.is_tracked_by_git()) {
            tracing::warn!(
                source = source.name(),
                "git tracks these specs, and status is written into them: `git pull` refuses files that change on both sides; run with `--status sidecar`, or commit the status"
            );
        }
    }
}

/// The first signal drains, the second ends at once.
pub fn on_signals(stop: &CancellationToken) -> Result<(), Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        tracing::info!("draining: what is under way is finished, containers stay; once more ends at once");
        stop.cancel();
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
        std::process::exit(i32::from(out::INTERRUPTED));
    });
    Ok(())
}

/// Logs go to standard error. The engine client logs whole requests when asked for more than warnings, environment included: it is not asked.
fn telemetry(format: LogFormat) {
    use std::io::IsTerminal;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let quiet = ["bollard=warn", "hyper=warn", "sqlx=warn"].into_iter().filter_map(|directive| directive.parse().ok());
    let filter = quiet.fold(filter, tracing_subscriber::EnvFilter::add_directive);
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second operator in one process (tests) keeps the first one's subscriber.
    drop(match format {
        LogFormat::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().try_init(),
    });
}
