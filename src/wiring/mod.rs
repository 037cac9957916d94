//! The program put together: which adapter stands behind which port.

pub mod doctor;
pub mod dry;
pub mod host;
pub mod operate;
pub mod orphans;
pub mod simulate;

use std::path::Path;
use std::sync::Arc;

use dockmaster::cli::args::{DoctorArgs, PlanArgs, RunArgs, SimulateArgs};
use dockmaster::cli::{Access, Adapters, Context, Engine, Failure, Orphan};
use dockmaster::config::RunSettings;
use dockmaster::runtime::docker::DockerRuntime;
use dockmaster::runtime::docker::connect;
use dockmaster::runtime::docker::helper_image::HelperImage;
use dockmaster::source::SpecSource;
use dockmaster::source::directory::{DirectorySource, Options, Root};
use dockmaster::state::Ledger;
use dockmaster::state::sqlite::SqliteLedger;
use futures::future::BoxFuture;

/// The program.
pub struct Program;

impl Adapters for Program {
    fn ledger<'a>(&'a self, state_dir: &'a Path, access: Access) -> BoxFuture<'a, Result<Arc<dyn Ledger>, Failure>> {
        Box::pin(async move {
            let ledger: Arc<dyn Ledger> = match access {
                Access::Read => Arc::new(SqliteLedger::open_read_only(state_dir).await?),
                Access::Write => Arc::new(SqliteLedger::open(state_dir).await?),
            };
            Ok(ledger)
        })
    }

    fn source(&self, root: &Root) -> Result<Arc<dyn SpecSource>, Failure> {
        Ok(Arc::new(DirectorySource::new(root.clone(), options(None, None))))
    }

    fn engine<'a>(&'a self, settings: &'a RunSettings) -> BoxFuture<'a, Result<Arc<dyn Engine>, Failure>> {
        Box::pin(async move {
            let engine: Arc<dyn Engine> = Arc::new(runtime(settings, None, &[]).await?);
            Ok(engine)
        })
    }

    fn run<'a>(&'a self, context: &'a mut Context<'_>, arguments: &'a RunArgs) -> BoxFuture<'a, Result<u8, Failure>> {
        Box::pin(operate::run(context, arguments))
    }

    fn plan<'a>(&'a self, context: &'a mut Context<'_>, arguments: &'a PlanArgs) -> BoxFuture<'a, Result<u8, Failure>> {
        Box::pin(dry::plan(context, arguments))
    }

    fn orphans<'a>(&'a self, ledger: Arc<dyn Ledger>, settings: &'a RunSettings, remove: bool) -> BoxFuture<'a, Result<Vec<Orphan>, Failure>> {
        Box::pin(orphans::list(ledger, settings, remove))
    }

    fn doctor<'a>(&'a self, context: &'a mut Context<'_>, arguments: &'a DoctorArgs) -> BoxFuture<'a, Result<u8, Failure>> {
        Box::pin(doctor::run(context, arguments))
    }

    fn simulate<'a>(&'a self, context: &'a mut Context<'_>, arguments: &'a SimulateArgs) -> BoxFuture<'a, Result<u8, Failure>> {
        Box::pin(simulate::run(context, arguments))
    }
}

/// How a directory is looked at, with what `run` was told and what is remembered of it.
pub fn options(settings: Option<&RunSettings>, remembered: Option<String>) -> Options {
    let of = |duration: dockmaster::resource::Duration| std::time::Duration::try_from(duration.0).unwrap_or(std::time::Duration::from_secs(2));
    let second = dockmaster::resource::Duration::from_secs;
    Options { settle: of(settings.map_or(second(2), |s| s.settle)), resync: of(settings.map_or(second(60), |s| s.resync)), remembered, is_writer: false }
}

/// The helper image of an installation, with what an operator remembered of it.
pub fn helper_image(settings: &RunSettings, remembered: Option<&str>) -> HelperImage {
    let image = settings.helper_image.clone().map_or_else(HelperImage::own, HelperImage::given);
    match remembered {
        Some(known) => image.recall(known),
        None => image,
    }
}

/// The engine of an installation, with what an operator remembered of the helper image, and what a running one knows of the engine.
pub async fn runtime(settings: &RunSettings, remembered: Option<&str>, known: &[u8]) -> Result<DockerRuntime, Failure> {
    let (host, image) = (settings.docker_host.as_deref(), helper_image(settings, remembered));
    let known = DockerRuntime::of(known, host, &settings.installation, image.clone());
    if let Some(runtime) = known.map_err(|error| Failure::unreachable(&error))? {
        return Ok(runtime);
    }
    let client = connect::connect(host).await.map_err(|error| Failure::unreachable(&error))?;
    Ok(DockerRuntime::new(client, &settings.installation, image))
}
