//! `doctor`: looks at everything that the operator depends on, and sends a canary. It works beside a running operator and without one.

mod engine;
mod host;
mod state;

use std::path::Path;

use dockmaster::cli::args::{DoctorArgs, Global, default_run};
use dockmaster::cli::doctor::Report;
use dockmaster::cli::{Context, Failure, out};
use dockmaster::config::{RUN_SETTING, RunSettings};
use dockmaster::observed::World;
use dockmaster::runtime::ContainerRuntime;
use dockmaster::runtime::docker::{DockerRuntime, connect};
use dockmaster::state::Ledger;
use dockmaster::state::sqlite::SqliteLedger;

/// Checks, prints, and gives the exit code: 1 where a check failed, 3 where the engine does not answer.
pub async fn run(context: &mut Context<'_>, arguments: &DoctorArgs) -> Result<u8, Failure> {
    let mut report = Report::default();
    let (state_dir, global) = (context.state_dir.clone(), context.global.clone());
    let canary = tokio::select! { biased;
        canary = examine(&state_dir, &global, arguments, &mut report) => canary?,
        Ok(()) = tokio::signal::ctrl_c() => return Ok(out::INTERRUPTED),
    };
    let answered = canary.is_some();
    if let Some(canary) = canary {
        // It hears an interrupt itself, and cleans up behind it.
        engine::canary(&mut report, canary).await;
    }
    let code = report.print(context.out, arguments.output)?;
    Ok(if answered { code } else { out::UNREACHABLE })
}

/// Everything but the canary, which is made ready; `None`: the engine does not answer.
async fn examine(state_dir: &Path, global: &Global, arguments: &DoctorArgs, report: &mut Report) -> Result<Option<engine::Canary>, Failure> {
    let ledger = SqliteLedger::open_read_only(state_dir).await.ok();
    let mut settings = settings(global, ledger.as_ref()).await?;
    if arguments.docker_host.is_some() {
        settings.docker_host.clone_from(&arguments.docker_host);
    }
    let canary = match connect::connect(settings.docker_host.as_deref()).await {
        Ok(client) => {
            engine::facts(report, &client).await;
            engine::rights(report, &client).await;
            let world = match DockerRuntime::new(client.clone(), &settings.installation, super::helper_image(&settings, None)).observe().await {
                Ok(world) => world,
                Err(error) => {
                    report.fail("engine", format!("its objects cannot be listed: {error}"), "see to it that the engine answers, then run this again");
                    World::default()
                }
            };
            let subnet = host::addresses(report, &settings, &world, client.local);
            host::ports(report, &settings, &world, ledger.as_ref(), client.local).await?;
            state::lock(report, state_dir, &settings, &client).await;
            Some(engine::Canary { client, settings: settings.clone(), subnet })
        }
        Err(error) => {
            report.fail("engine", error.to_string(), "start it (`systemctl start docker`), or name it with --docker-host");
            None
        }
    };
    state::directory(report, state_dir).await;
    state::sources(report, &settings, ledger.as_ref()).await?;
    state::holds(report, ledger.as_ref()).await?;
    Ok(canary)
}

/// What `run` was told, else its defaults; of the installation that was asked for.
async fn settings(global: &Global, ledger: Option<&SqliteLedger>) -> Result<RunSettings, Failure> {
    let told = match ledger {
        Some(ledger) => ledger.setting(RUN_SETTING).await?,
        None => None,
    };
    let mut settings: RunSettings = match told {
        Some(text) => serde_json::from_str(&text)?,
        None => default_run().settings(global)?,
    };
    if let Some(installation) = &global.installation {
        settings.installation.clone_from(installation);
    }
    Ok(settings)
}
