//! Many objects on an engine in memory that answers at once: what is measured of the operator is its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dockmaster::runtime::simulated::fault::{Call, Interceptor, Verdict};
use dockmaster::runtime::simulated::state::Remote;
use dockmaster::runtime::simulated::{Options, SimulatedEngine, Version};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::floor;
use crate::process::{Home, Once, REST, Running};
use crate::table::{Crowd, median, ms};

const HELPER: &str = "dockmaster/helper:simulated";
const INSTALLATION: &str = "crowd";
/// Objects in a namespace: its network has addresses for one more.
const NAMESPACE: usize = 60;
/// Passes after a start that are not measured: it is not over yet.
const WARM: usize = 4;
/// Passes that are measured: one of so many plans everything.
const PASSES: usize = 10;
/// Events that are measured.
const EVENTS: usize = 20;

/// Writes down the calls, while it is told to.
#[derive(Default)]
struct Calls {
    on: AtomicBool,
    log: Mutex<Vec<(Instant, String, String)>>,
}

impl Interceptor for Calls {
    fn before(&self, call: &Call) -> Verdict {
        if self.on.load(Ordering::Relaxed) {
            self.log.lock().unwrap().push((Instant::now(), call.endpoint.clone(), call.path.clone()));
        }
        Verdict::Pass
    }
}

impl Calls {
    fn record(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
        self.log.lock().unwrap().clear();
    }

    /// Waits for what this finds in the log.
    fn until<T>(&self, what: &str, look: impl Fn(&[(Instant, String, String)]) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = look(&self.log.lock().unwrap()) {
                return found;
            }
            assert!(begun.elapsed() < Duration::from_secs(600), "waited in vain for {what}");
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Waits until nothing was called for a while.
    fn until_quiet(&self) {
        let mut known = usize::MAX;
        loop {
            let now = self.log.lock().unwrap().len();
            if now == known {
                return;
            }
            known = now;
            std::thread::park_timeout(Duration::from_millis(100));
        }
    }
}

/// Measures with that many objects.
pub fn measure(size: usize) -> Crowd {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let stop = CancellationToken::new();
    let engine = serve(&socket, &stop);
    let calls = Arc::new(Calls::default());
    engine.intercept(Some(calls.clone()));
    let host = format!("unix://{}", socket.display());
    let home = Home::new(INSTALLATION, &host, &["--helper-image", HELPER, "--network-pool", "10.0.0.0/8", "--settle", "1s"]);
    for number in 0..size {
        let path = home.path(&format!("specs/{}.yaml", object(number).replace('.', "/")));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let spec = "image: app:1, command: [sleep, \"1000000\"], resources: {cpu: \"0.5\", memory: 64m}";
        let metadata = format!("name: w{number}, labels: {{a: \"1\", b: \"2\", c: \"3\", d: \"4\"}}");
        std::fs::write(path, format!("apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{{metadata}}}\nspec: {{{spec}}}\n")).unwrap();
    }
    eprintln!("{size} objects: converge");
    let converge = home.once();
    let said = |once: &Once| format!("{:.1} s, {:.1} s of a core, {:.0} MB", once.took.as_secs_f64(), once.cpu.as_secs_f64(), once.peak as f64 / 1e6);
    eprintln!("  {}\n{size} objects: cold start", said(&converge));
    let cold = home.once();
    eprintln!("  {}", said(&cold));
    let mut crowd = Crowd { size, converge: converge.cpu, cold: cold.took, cold_cpu: cold.cpu, peak: converge.peak.max(cold.peak), ..Crowd::default() };
    eprintln!("{size} objects: events and resyncs");
    crowd.page = floor::rested_page();
    least(&engine, &socket, &calls, &mut crowd);
    events(&home, &engine, &calls, &mut crowd);
    resyncs(&home, &socket, &calls, &mut crowd);
    stop.cancel();
    crowd
}

/// `NAMESPACE.NAME` of an object.
fn object(number: usize) -> String {
    format!("n{}.w{number}", number / NAMESPACE)
}

/// An engine behind a socket, in a thread of its own.
fn serve(socket: &Path, stop: &CancellationToken) -> SimulatedEngine {
    let engine = SimulatedEngine::new(Options::new(Version::V28_5));
    let entrypoint = serde_json::json!({"Entrypoint": ["/dockmaster", "helper"]});
    engine.human().add_image(HELPER, &Remote { config: entrypoint.as_object().unwrap().clone(), ..Remote::default() });
    engine.human().add_image("app:1", &Remote::default());
    let (serving, stop, socket) = (engine.clone(), stop.clone(), socket.to_owned());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = UnixListener::bind(socket).unwrap();
            tell.send(()).unwrap();
            serving.serve(listener, stop).await;
        });
    });
    told.recv().unwrap();
    engine
}

/// From the end of a container to the first call of a client that does nothing else.
fn least(engine: &SimulatedEngine, socket: &Path, calls: &Calls, crowd: &mut Crowd) {
    let listener = floor::Listener::new(socket);
    for event in 0..EVENTS {
        // One end is told in more than one event.
        calls.until_quiet();
        calls.record(true);
        let begun = Instant::now();
        engine.human().kill(&event_of(event, crowd.size));
        let first = calls.until("a call of the floor", |log| log.first().map(|(at, ..)| *at));
        crowd.event_floor.push(first.duration_since(begun));
    }
    drop(listener);
    calls.record(false);
}

/// The container of an event.
fn event_of(event: usize, size: usize) -> String {
    format!("{INSTALLATION}-ws-{}", object(event * size / EVENTS))
}

/// Who does nothing for so long after a start is through with it, and does not only wait for the lists of so many.
fn started(size: usize) -> Duration {
    REST + Duration::from_micros(100) * u32::try_from(size).unwrap()
}

/// From the end of a container to the first call because of it.
fn events(home: &Home, engine: &SimulatedEngine, calls: &Calls, crowd: &mut Crowd) {
    let operator = home.start(&["--resync", "10h"]);
    operator.until_idle(started(crowd.size));
    crowd.memory = operator.memory();
    for rests in [true, false] {
        for event in 0..EVENTS {
            calls.record(true);
            let begun = Instant::now();
            engine.human().kill(&event_of(event, crowd.size));
            let first = calls.until("a call after an event", |log| log.first().map(|(at, ..)| *at));
            let times = if rests { &mut crowd.event } else { &mut crowd.event_in_a_row };
            times.push(first.duration_since(begun));
            calls.until("a start", |log| log.iter().any(|(_, endpoint, _)| endpoint == "POST /containers/{id}/start").then_some(()));
            if rests {
                operator.until_idle(REST);
            } else {
                calls.until_quiet();
            }
        }
    }
    calls.record(false);
    operator.stop();
    let middle = |times: &[Duration]| median(&times.iter().map(|time| ms(*time)).collect::<Vec<_>>());
    eprintln!("  {:.0} MB at rest, an event {:.1} ms, in a row {:.1} ms", crowd.memory as f64 / 1e6, middle(&crowd.event), middle(&crowd.event_in_a_row));
}

/// Passes over objects that are as declared.
fn resyncs(home: &Home, socket: &Path, calls: &Calls, crowd: &mut Crowd) {
    // Where one takes longer, the next comes that time after it.
    let every = match crowd.size {
        0..=2_000 => 2,
        2_001..=20_000 => 5,
        // Longer than what tells that the start is through.
        _ => 30,
    };
    let operator = home.start(&["--resync", &format!("{every}s")]);
    // What a start plans is of no quiet pass.
    operator.until_idle(started(crowd.size));
    calls.record(true);
    let is_list = |path: &str| path.starts_with("/containers/json") && !path.contains("filters");
    let pass = |number: usize, operator: &Running| {
        calls.until("a resync", |log| (log.iter().filter(|(_, _, path)| is_list(path)).count() > number).then_some(()));
        operator.cpu()
    };
    let before = pass(WARM, &operator);
    let after = pass(WARM + PASSES, &operator);
    let log = calls.log.lock().unwrap().clone();
    calls.record(false);
    crowd.resync = (after - before) / u32::try_from(PASSES).unwrap();
    // What was called from one listing up to the next.
    let begins = |number: usize| log.iter().enumerate().filter(|(_, (.., path))| is_list(path)).nth(number).unwrap().0;
    let called = &log[begins(WARM)..begins(WARM + PASSES)];
    crowd.calls = called.len() as f64 / PASSES as f64;
    crowd.inspects = called.iter().filter(|(_, endpoint, _)| endpoint == "GET /containers/{id}/json").count() as f64 / PASSES as f64;
    operator.stop();
    let mut reads: BTreeMap<&str, f64> = BTreeMap::new();
    for (.., path) in called.iter().filter(|(_, endpoint, _)| endpoint.starts_with("GET ")) {
        *reads.entry(path).or_default() += 1.0 / PASSES as f64;
    }
    let samples: Vec<f64> = (0..5).map(|_| reads.iter().map(|(path, times)| floor::bytes_only(socket, path).as_secs_f64() * times).sum()).collect();
    crowd.floor = Duration::from_secs_f64(median(&samples));
}
