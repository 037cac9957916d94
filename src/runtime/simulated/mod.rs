//! A Docker engine in memory that speaks the Engine API: for checks that want thousands of runs, for pipelines without an engine, and for
//! people who want to see what would happen.
//!
//! It behaves as Docker 20.10 or 28.5 does, the differences included; the suites that run on real engines run on it too. One seed and the
//! same requests give the same replies, byte for byte: ids come from the seed, time from a clock that is given, and nothing here is random,
//! reads a clock of its own or starts a thread. Waiting is done by tokio's timers, so that paused time passes at once.
//!
//! It knows Docker and nothing of dockmaster.

pub mod clockwork;
pub mod containers;
pub mod create;
pub mod defaults;
pub mod endpoints;
pub mod events;
pub mod exec;
pub mod fault;
pub mod files;
pub mod filters;
pub mod health;
pub mod http;
pub mod human;
pub mod images;
pub mod inspect;
pub mod lifecycle;
pub mod networks;
pub mod process;
pub mod programs;
pub mod pull;
pub mod routes;
pub mod script;
pub mod shell;
pub mod signal;
pub mod state;
pub mod streams;
pub mod system;
#[cfg(test)]
mod tests;
pub mod text;
pub mod volumes;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;
use signal::{Signal, Waiter};
use tokio::io::DuplexStream;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use fault::{EventTap, Interceptor};
use human::Human;
use state::Engine;

/// Bytes on their way in a connection.
const PIPE: usize = 16 << 10;

/// Which engine is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// Docker 20.10.24, API 1.41.
    V20_10,
    /// Docker 28.5.2, API 1.51.
    V28_5,
}

impl Version {
    /// The newest API.
    pub fn api(self) -> (u16, u16) {
        match self {
            Self::V20_10 => (1, 41),
            Self::V28_5 => (1, 51),
        }
    }

    /// The oldest API.
    pub fn oldest_api(self) -> (u16, u16) {
        match self {
            Self::V20_10 => (1, 12),
            Self::V28_5 => (1, 24),
        }
    }

    /// Docker's number.
    pub fn number(self) -> &'static str {
        match self {
            Self::V20_10 => "20.10.24",
            Self::V28_5 => "28.5.2",
        }
    }
}

/// How long calls take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Latency {
    /// No time.
    None,
    /// About as long as on a small machine.
    Typical,
}

/// What a simulated engine is made of.
#[derive(Clone)]
pub struct Options {
    /// Which engine it is.
    pub version: Version,
    /// Where ids come from.
    pub seed: u64,
    /// The wall clock.
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    /// How long calls take.
    pub latency: Latency,
    /// How many times faster than outside time passes for what runs in containers, health tests and restarts.
    pub pace: u32,
    /// The host's name.
    pub host_name: String,
    /// The host's kernel.
    pub kernel: String,
    /// The host's CPUs.
    pub cpus: u32,
    /// The host's memory in bytes.
    pub memory: u64,
}

impl Options {
    /// An engine of that version on a host of its own, with the machine's clock.
    pub fn new(version: Version) -> Self {
        Self {
            version,
            seed: 0,
            clock: Arc::new(Timestamp::now),
            latency: Latency::None,
            pace: 1,
            host_name: "simulated".to_owned(),
            kernel: "6.1.0-simulated".to_owned(),
            cpus: 8,
            memory: 16 << 30,
        }
    }
}

/// What connections share.
pub struct Shared {
    version: Version,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    latency: Latency,
    pace: u32,
    begun: Instant,
    engine: Mutex<Engine>,
    /// Changes with every change of the state.
    changed: Signal,
    /// Changes when all connections are to break.
    cut: Signal,
    calls: AtomicU64,
    interceptor: Mutex<Option<Arc<dyn Interceptor>>>,
    answers: Mutex<bool>,
    /// Whether it stands still; changes are told.
    suspended: AtomicBool,
    resumed: Signal,
    timer: Mutex<Option<JoinHandle<()>>>,
}

/// An engine in memory. Cheap to clone; it lives as long as a clone or a connection.
#[derive(Clone)]
pub struct SimulatedEngine(Arc<Shared>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SimulatedEngine {
    /// An engine without containers, volumes and images.
    pub fn new(options: Options) -> Self {
        let now = (options.clock)();
        Self(Arc::new(Shared {
            version: options.version,
            engine: Mutex::new(Engine::new(&options, now)),
            clock: options.clock,
            latency: options.latency,
            pace: options.pace.max(1),
            begun: Instant::now(),
            changed: Signal::default(),
            cut: Signal::default(),
            calls: AtomicU64::new(0),
            interceptor: Mutex::new(None),
            answers: Mutex::new(true),
            suspended: AtomicBool::new(false),
            resumed: Signal::default(),
            timer: Mutex::new(None),
        }))
    }

    /// The client's end of a new connection, served by a task of the current runtime.
    ///
    /// # Errors
    /// The engine is down.
    pub fn connect(&self) -> std::io::Result<DuplexStream> {
        self.connect_as(0)
    }

    /// The same for one of several clients, by whose number calls are told apart.
    ///
    /// # Errors
    /// The engine is down.
    pub fn connect_as(&self, caller: u64) -> std::io::Result<DuplexStream> {
        if !*lock(&self.0.answers) {
            return Err(std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "the engine is down"));
        }
        Shared::keep_time(&self.0);
        let (near, far) = tokio::io::duplex(PIPE);
        tokio::spawn(http::serve(self.0.clone(), far, caller));
        Ok(near)
    }

    /// Serves a socket until it is told to stop.
    pub async fn serve(&self, listener: UnixListener, stop: CancellationToken) {
        Shared::keep_time(&self.0);
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let accepted = tokio::select! { biased; () = stop.cancelled() => return, accepted = listener.accept() => accepted };
            while connections.try_join_next().is_some() {}
            if let Ok((stream, _)) = accepted
                && *lock(&self.0.answers)
            {
                connections.spawn(http::serve(self.0.clone(), stream, 0));
            }
        }
    }

    /// The whole state. While it is held no call is served; a change made here is told to nobody.
    pub fn state(&self) -> MutexGuard<'_, Engine> {
        self.0.now()
    }

    /// A copy of the whole state.
    pub fn snapshot(&self) -> Arc<Engine> {
        Arc::new(self.state().clone())
    }

    /// What people and the host do to it.
    pub fn human(&self) -> Human<'_> {
        Human::new(&self.0)
    }

    /// Whether it stands still.
    pub fn is_suspended(&self) -> bool {
        self.0.is_suspended()
    }

    /// Lets that decide about each call from now on.
    pub fn intercept(&self, interceptor: Option<Arc<dyn Interceptor>>) {
        *lock(&self.0.interceptor) = interceptor;
    }

    /// Lets that decide about each event from now on.
    pub fn tap_events(&self, tap: Option<Arc<dyn EventTap>>) {
        self.state().tap = tap;
    }

    /// How many calls have arrived.
    pub fn calls(&self) -> u64 {
        self.0.calls.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn now(&self) -> MutexGuard<'_, Engine> {
        let mut engine = lock(&self.engine);
        engine.now = (self.clock)();
        engine.elapsed = self.begun.elapsed() * self.pace;
        engine
    }

    /// Works on the state as it is now.
    fn look<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> T {
        let mut engine = self.now();
        let before = engine.changes;
        engine.catch_up();
        let result = work(&mut engine);
        let after = engine.changes;
        drop(engine);
        if before != after {
            self.changed.send();
        }
        result
    }

    /// Changes the state and tells those who wait for a change.
    fn change<T>(&self, work: impl FnOnce(&mut Engine) -> T) -> T {
        self.look(|engine| {
            let result = work(engine);
            engine.changes += 1;
            engine.catch_up();
            result
        })
    }

    fn suspend(&self) {
        self.suspended.store(true, Ordering::SeqCst);
    }

    fn resume(&self) {
        self.suspended.store(false, Ordering::SeqCst);
        self.resumed.send();
    }

    fn is_suspended(&self) -> bool {
        self.suspended.load(Ordering::SeqCst)
    }

    /// Waits while the engine stands still.
    async fn awake(&self) {
        let mut resumed = self.resumed.subscribe();
        while self.is_suspended() && resumed.changed().await {}
    }

    fn interceptor(&self) -> Option<Arc<dyn Interceptor>> {
        lock(&self.interceptor).clone()
    }

    /// What an engine tells of a change comes before its reply.
    async fn tell_first(&self) {
        match self.latency {
            Latency::None => {}
            Latency::Typical => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }

    async fn latency(&self, endpoint: &str) {
        let micros = match (self.latency, endpoint) {
            (Latency::None, _) => return,
            (Latency::Typical, "POST /containers/create") => 19_000,
            (Latency::Typical, "POST /containers/{id}/start") => 217_000,
            (Latency::Typical, "POST /containers/{id}/stop" | "POST /containers/{id}/restart") => 167_000,
            (Latency::Typical, "DELETE /containers/{id}") => 29_000,
            (Latency::Typical, "POST /networks/create" | "DELETE /networks/{id}") => 60_000,
            (Latency::Typical, _) => 800,
        };
        tokio::time::sleep(Duration::from_micros(micros)).await;
    }

    /// Sees to it that what is due happens although nobody asks.
    fn keep_time(shared: &Arc<Self>) {
        let mut timer = lock(&shared.timer);
        if timer.as_ref().is_none_or(JoinHandle::is_finished) {
            *timer = Some(tokio::spawn(tick(Arc::downgrade(shared), shared.changed.subscribe())));
        }
    }
}

/// Wakes up when something is due, as long as the engine lives.
async fn tick(shared: Weak<Shared>, mut changed: Waiter) {
    loop {
        let due = {
            let Some(shared) = shared.upgrade() else { return };
            let next = shared.look(|engine| engine.next_due());
            // Rounded up, so that it is due when it wakes.
            next.map(|due| shared.begun + (due / shared.pace + Duration::from_nanos(u64::from(shared.pace > 1))))
        };
        let due = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! { biased; goes_on = changed.changed() => if !goes_on { return }, () = due => {} }
    }
}

impl Engine {
    /// The words of the older or of the newer engine.
    pub(super) fn word<'a>(&self, old: &'a str, new: &'a str) -> &'a str {
        match self.version {
            Version::V20_10 => old,
            Version::V28_5 => new,
        }
    }
}
