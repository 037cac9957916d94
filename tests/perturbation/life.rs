//! The life of one operator: it waits for the engine, takes the lock where there are several, and runs until it is killed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use dockmaster::config::{RunSettings, StatusMode};
use dockmaster::controller::{Clock, Controller, Host, Parts, Permission};
use dockmaster::resource::quantity;
use dockmaster::runtime::docker::DockerRuntime;
use dockmaster::runtime::docker::helper_image::HelperImage;
use dockmaster::runtime::docker::lock::{Holder, Lock};
use dockmaster::source::directory::Root;
use dockmaster::state::memory::MemoryLedger;
use dockmaster::status::reporter::Reporter;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::bugs::{self, Bug};
use super::engine::{Engine, HELPER};
use super::folder::{Folder, FolderSink, FolderSource, SOURCE};
use super::gate::{Gate, GatedLedger};
use super::lab::{LabClock, Seeded};
use super::view::{self, INSTALLATION};
use super::watcher::{Strike, Watcher};

/// How long what did not work is left alone before it is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// A host on which nothing else runs but what a scenario put there.
#[derive(Default)]
pub struct LabHost {
    pub routes: Mutex<Vec<String>>,
}

impl Host for LabHost {
    fn is_port_free(&self, _: IpAddr, _: u16) -> bool {
        true
    }
    fn routes(&self) -> Vec<String> {
        self.routes.lock().unwrap().clone()
    }
    fn real_path(&self, path: &str) -> String {
        path.to_owned()
    }
}

/// What outlives operators.
#[derive(Clone)]
pub struct Site {
    pub engine: Engine,
    /// What the steps are about.
    pub folder: Arc<Folder>,
    /// What each operator reads.
    pub folders: BTreeMap<u64, Arc<Folder>>,
    pub clock: Arc<LabClock>,
    pub randomness: Arc<Seeded>,
    pub host: Arc<LabHost>,
    pub watcher: Arc<Watcher>,
    pub strikes: mpsc::UnboundedSender<Strike>,
    pub bug: Option<Bug>,
    /// Whether operators take the lock.
    pub locks: bool,
}

/// An operator that runs.
pub struct Life {
    gate: Gate,
    controller: Arc<OnceLock<Arc<Controller>>>,
    running: JoinHandle<()>,
}

impl Life {
    /// Starts an operator on its ledger.
    pub fn begin(site: &Site, operator: u64, ledger: Arc<MemoryLedger>) -> Self {
        let (gate, controller) = (Gate::default(), Arc::<OnceLock<Arc<Controller>>>::default());
        site.watcher.note("operator begins");
        site.watcher.seen().next_life(operator, gate.clone());
        let running = tokio::spawn(live(site.clone(), operator, ledger, gate.clone(), controller.clone()));
        Self { gate, controller, running }
    }

    /// Kills it.
    pub fn kill(self) {
        self.gate.close();
        self.running.abort();
    }

    /// Its controller, once the engine answered and the lock was free.
    pub fn controller(&self) -> Option<&Arc<Controller>> {
        self.controller.get()
    }
}

async fn live(site: Site, operator: u64, ledger: Arc<MemoryLedger>, gate: Gate, slot: Arc<OnceLock<Arc<Controller>>>) {
    let client = loop {
        match site.engine.client(&gate, operator).await {
            Ok(client) => break client,
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    };
    let (permission, helper) = (Permission::default(), HelperImage::given(HELPER.to_owned()));
    let mut lock = None;
    while site.locks && lock.is_none() {
        let holder = Holder { host: "host".to_owned(), pid: u32::try_from(operator).unwrap(), started: "then".to_owned(), state_dir: "/state".to_owned() };
        match Lock::acquire(&client, INSTALLATION, &helper, &holder, |_| {}).await {
            Ok(taken) => lock = Some(taken),
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
    let (now, watcher) = (site.clock.clone(), site.watcher.clone());
    let history = Arc::as_ptr(&ledger) as usize;
    let folder = &site.folders[&operator];
    let sink = Arc::new(FolderSink::new(folder.clone(), gate.clone(), site.bug, site.watcher.clone(), site.clock.clone(), history));
    let has_read = Arc::new(move || watcher.has_read(operator));
    let runtime = DockerRuntime::at(client, INSTALLATION, helper, Arc::new(move || now.now()));
    let controller = Controller::new(Parts {
        settings: settings(),
        runtime: bugs::runtime(runtime, site.bug),
        ledger: Arc::new(GatedLedger::new(ledger, gate.clone(), site.bug, site.watcher.clone())),
        sources: vec![Arc::new(FolderSource::new(folder.clone(), gate.clone(), site.bug, has_read))],
        reporter: Arc::new(Reporter::new(sink)),
        clock: site.clock.clone(),
        randomness: site.randomness.clone(),
        host: site.host.clone(),
        concurrency: 4,
        accept_engine: false,
        permission: permission.clone(),
    });
    slot.set(controller.clone()).unwrap_or_else(|_| panic!("one controller in a life"));
    let losing = lock.as_ref().map(Lock::lost);
    let lost = async {
        match losing.filter(|_| site.bug != Some(Bug::KeepActing)) {
            Some(losing) => losing.await,
            None => std::future::pending().await,
        }
    };
    tokio::select! { biased;
        () = lost => {
            // As the product does: nothing is changed any more, and the process ends; whoever keeps it running starts another.
            permission.revoke();
            gate.close();
            let _over = site.strikes.send(Strike::Crash { operator, lose_state: false });
        }
        ended = controller.run(CancellationToken::new()) => drop(ended),
    }
}

fn settings() -> RunSettings {
    RunSettings {
        installation: INSTALLATION.to_owned(),
        docker_host: None,
        roots: vec![Root { name: SOURCE.to_owned(), path: PathBuf::from("/specs"), namespace: None }],
        publish_address: "127.0.0.1".parse().unwrap(),
        port_range: format!("{}-{}", view::POOL.start(), view::POOL.end()).parse().unwrap(),
        network_pool: "10.213.0.0/16".to_owned(),
        host_paths: Vec::new(),
        resync: quantity::Duration::from_secs(60),
        settle: quantity::Duration::from_secs(2),
        tombstone: quantity::Duration::from_secs(600),
        status: StatusMode::Inline,
        helper_image: Some(HELPER.to_owned()),
    }
}
