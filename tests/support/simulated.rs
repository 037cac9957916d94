//! The engine in memory that a process of tests runs on where it is told to: behind a socket, in a thread of its own.

use std::sync::OnceLock;

use dockmaster::runtime::simulated::{Options, SimulatedEngine, Version};
use tokio_util::sync::CancellationToken;

/// The engine and where it answers; none where the tests run on a real one.
pub fn engine() -> Option<(&'static SimulatedEngine, &'static str)> {
    static ENGINE: OnceLock<Option<(SimulatedEngine, String)>> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        let named = std::env::var("DOCKMASTER_TEST_DOCKER_HOST").unwrap_or_default();
        let version = match named.strip_prefix("simulated:")? {
            "20.10" => Version::V20_10,
            "28.5" => Version::V28_5,
            other => panic!("there is no simulated engine {other}"),
        };
        Some(serve(version))
    });
    engine.as_ref().map(|(engine, host)| (engine, host.as_str()))
}

fn serve(version: Version) -> (SimulatedEngine, String) {
    let socket = tempfile::tempdir().expect("a folder for the socket").keep().join("docker.sock");
    let host = format!("unix://{}", socket.display());
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let engine = SimulatedEngine::new(Options::new(version));
            let listener = tokio::net::UnixListener::bind(socket).unwrap();
            tell.send(engine.clone()).unwrap();
            engine.serve(listener, CancellationToken::new()).await;
        });
    });
    (told.recv().expect("the engine"), host)
}
