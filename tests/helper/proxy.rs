//! The recording proxy: it changes nothing, and misses nothing.

use std::path::Path;

use bollard::query_parameters::*;
use dockmaster::runtime::docker::connect::connect;
use dockmaster::runtime::docker::lock::{Holder, Lock};

use crate::recorder::{Recorder, pattern};
use crate::support::client as engine;
use crate::{helper, unique};

#[test]
fn targets_become_endpoints() {
    for (target, endpoint) in [
        ("/_ping", "/_ping"),
        ("/v1.41/containers/json?all=1", "/containers/json"),
        ("/containers/create?name=x", "/containers/create"),
        ("/v1.51/containers/3f0c/attach?stream=1", "/containers/{id}/attach"),
        ("/containers/3f0c", "/containers/{id}"),
        ("/networks", "/networks"),
        ("/networks/create", "/networks/create"),
        ("/networks/abc/connect", "/networks/{id}/connect"),
        ("/volumes/dm-vol-a.b.c", "/volumes/{name}"),
        ("/exec/77/start", "/exec/{id}/start"),
        ("/images/json", "/images/json"),
        ("/images/ghcr.io/a/b:1/json", "/images/{name}/json"),
        ("/images/a/b:1", "/images/{name}"),
        ("/distribution/a/b/json", "/distribution/{name}/json"),
    ] {
        assert_eq!(pattern(target), endpoint, "{target}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_bodies_and_hijacked_streams_pass_and_are_written_down() {
    let direct = engine().await;
    let proxy = Recorder::start(Path::new(direct.host.trim_start_matches("unix://"))).unwrap();
    let through = connect(Some(&proxy.host())).await.unwrap();
    assert_eq!(through.engine(), direct.engine());
    let holder = Holder { host: "box".to_owned(), pid: 1, started: String::new(), state_dir: String::new() };
    Lock::acquire(&through, &unique(), &helper(), &holder, |_| {}).await.unwrap().release().await;
    through.docker.list_volumes(None::<ListVolumesOptions>).await.unwrap();
    let calls = proxy.calls();
    for expected in [
        "GET /version",
        "GET /info",
        "GET /images/json",
        "GET /containers/{id}/json",
        "POST /containers/create",
        "POST /containers/{id}/attach",
        "POST /containers/{id}/start",
        "POST /containers/{id}/wait",
        "GET /volumes",
    ] {
        assert!(calls.contains(expected), "{expected} is not in {calls:?}");
    }
    assert!(!calls.iter().any(|call| call.contains("networks")), "{calls:?}");
}
