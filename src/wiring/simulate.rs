//! An engine in memory: behind a socket for `simulate`, and in place of a real one for `run --once --simulate`.

use std::sync::Arc;

use dockmaster::cli::args::{EngineVersion, SimulateArgs};
use dockmaster::cli::{Context, Failure, out};
use dockmaster::runtime::Error;
use dockmaster::runtime::docker::connect::{self, Client};
use dockmaster::runtime::simulated::state::{Container, Remote};
use dockmaster::runtime::simulated::{Latency, Options, SimulatedEngine, Version};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

/// The image that stands for the helper's on a simulated engine.
pub const HELPER: &str = "dockmaster/helper:simulated";

/// The way to the engine of an operator.
#[derive(Clone)]
pub enum Way {
    /// A host, or the usual one.
    Host(Option<String>),
    /// An engine of this process.
    Simulated(SimulatedEngine),
}

impl Way {
    /// Connects.
    pub async fn connect(&self) -> Result<Client, Error> {
        match self {
            Self::Host(host) => connect::connect(host.as_deref()).await,
            Self::Simulated(engine) => {
                let engine = engine.clone();
                connect::connect_over("simulated", move || engine.connect()).await
            }
        }
    }

    /// The engine of this process.
    pub fn simulated(&self) -> Option<&SimulatedEngine> {
        match self {
            Self::Host(_) => None,
            Self::Simulated(engine) => Some(engine),
        }
    }
}

/// An engine on which every image can be pulled, and the helper's is there.
pub fn engine(version: EngineVersion, latency: Latency, pace: u32) -> SimulatedEngine {
    let version = match version {
        EngineVersion::Old => Version::V20_10,
        EngineVersion::New => Version::V28_5,
    };
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let options = Options { latency, pace, cpus: u32::try_from(cpus).unwrap_or(1), ..Options::new(version) };
    let engine = SimulatedEngine::new(options);
    let entrypoint = serde_json::json!({"Entrypoint": ["/dockmaster", "helper"]});
    let helper = Remote { config: entrypoint.as_object().cloned().unwrap_or_default(), ..Remote::default() };
    engine.human().add_image(HELPER, &helper);
    engine.state().any_image = Some(Remote { size: 10 << 20, ..Remote::default() });
    engine
}

/// `simulate`: serves a socket until it is told to stop.
pub async fn run(context: &mut Context<'_>, arguments: &SimulateArgs) -> Result<u8, Failure> {
    let path = &arguments.socket;
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(Failure::new(format!("somebody answers at {} already: choose another --socket", path.display())));
    }
    match std::fs::symlink_metadata(path) {
        // What a killed one left.
        Ok(left) if std::os::unix::fs::FileTypeExt::is_socket(&left.file_type()) => std::fs::remove_file(path)?,
        Ok(_) => return Err(Failure::new(format!("{} exists and is no socket: choose another --socket", path.display()))),
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(|error| Failure::new(format!("cannot make {}: {error}", path.display())))?;
    let engine = engine(arguments.engine, if arguments.latency { Latency::Typical } else { Latency::None }, 1);
    let stop = CancellationToken::new();
    super::operate::on_signals(&stop)?;
    context.out.note(format_args!("a simulated engine answers at unix://{}", path.display()))?;
    engine.serve(listener, stop).await;
    std::fs::remove_file(path)?;
    Ok(out::DONE)
}

/// What a simulated engine has, one line each.
pub fn summary(engine: &SimulatedEngine) -> Vec<String> {
    let engine: Arc<_> = engine.snapshot();
    let image = |container: &Container| {
        let tags = engine.images.get(&container.image_id).map(|image| image.tags.iter());
        tags.into_iter().flatten().next().unwrap_or(&container.image).clone()
    };
    let containers = engine.containers.values().map(|container| format!("container {} {} ({})", container.name, container.status.word(), image(container)));
    let own = ["bridge", "host", "none"];
    let networks = engine.networks.values().filter(|network| !own.contains(&network.name.as_str())).map(|network| format!("network {}", network.name));
    let mut lines: Vec<String> = containers.chain(networks).chain(engine.volumes.keys().map(|name| format!("volume {name}"))).collect();
    lines.sort_unstable();
    lines
}
