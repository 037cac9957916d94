//! What the engine is: ping, version, info, disk use.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::Version;
use super::containers::Shown;
use super::http::{Reply, Request, Served};
use super::state::{Engine, Object, Status};
use super::text;

/// `GET /_ping`.
pub fn ping(_: &mut Engine, _: &Request) -> Served {
    Ok(Reply::Done { status: 200, content: "text/plain; charset=utf-8", body: b"OK".to_vec() })
}

/// `GET /version`.
pub fn version(engine: &mut Engine, _: &Request) -> Served {
    let (number, api, oldest) = (engine.version.number(), engine.version.api(), engine.version.oldest_api());
    let (api, oldest) = (format!("{}.{}", api.0, api.1), format!("{}.{}", oldest.0, oldest.1));
    let built = "2026-01-01T00:00:00.000000000+00:00";
    let details = json!({
        "ApiVersion": api, "Arch": "amd64", "BuildTime": built, "Experimental": "false", "GitCommit": "simulated", "GoVersion": "none",
        "KernelVersion": engine.host.kernel, "MinAPIVersion": oldest, "Os": "linux",
    });
    Ok(Reply::json(
        200,
        &json!({
            "Platform": {"Name": "dockmaster, simulated"}, "Components": [{"Name": "Engine", "Version": number, "Details": details}], "Version": number,
            "ApiVersion": api, "MinAPIVersion": oldest, "GitCommit": "simulated", "GoVersion": "none", "Os": "linux", "Arch": "amd64",
            "KernelVersion": engine.host.kernel, "BuildTime": built,
        }),
    ))
}

/// What `GET /info` says of every simulated engine.
static INFO: LazyLock<Object> = LazyLock::new(|| {
    let text = r#"{
        "ID": "", "Containers": 0, "ContainersRunning": 0, "ContainersPaused": 0, "ContainersStopped": 0, "Images": 0, "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"], ["Native Overlay Diff", "true"], ["userxattr", "false"]],
        "Plugins": {"Volume": ["local"], "Network": ["bridge", "host", "ipvlan", "macvlan", "null", "overlay"], "Authorization": null,
            "Log": ["json-file", "local"]},
        "MemoryLimit": true, "SwapLimit": true, "CpuCfsPeriod": true, "CpuCfsQuota": true, "CPUShares": true, "CPUSet": true, "PidsLimit": true,
        "IPv4Forwarding": true, "Debug": false, "NFd": 0, "OomKillDisable": true, "NGoroutines": 0, "SystemTime": "", "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs", "CgroupVersion": "1", "NEventsListener": 0, "KernelVersion": "", "OperatingSystem": "simulated", "OSVersion": "",
        "OSType": "linux", "Architecture": "x86_64", "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {"InsecureRegistryCIDRs": ["127.0.0.0/8"],
            "IndexConfigs": {"docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": true, "Official": true}}, "Mirrors": []},
        "NCPU": 0, "MemTotal": 0, "GenericResources": null, "DockerRootDir": "", "HttpProxy": "", "HttpsProxy": "", "NoProxy": "", "Name": "",
        "Labels": [], "ExperimentalBuild": false, "ServerVersion": "", "Runtimes": {"runc": {"path": "runc"}}, "DefaultRuntime": "runc",
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": false, "Error": "", "RemoteManagers": null},
        "LiveRestoreEnabled": false, "Isolation": "", "InitBinary": "docker-init", "ContainerdCommit": {"ID": "", "Expected": ""},
        "RuncCommit": {"ID": "", "Expected": ""}, "InitCommit": {"ID": "", "Expected": ""}, "SecurityOptions": ["name=seccomp,profile=default"],
        "Warnings": null
    }"#;
    serde_json::from_str(text).unwrap_or_default()
});

/// `GET /info`.
pub fn info(engine: &mut Engine, _: &Request) -> Served {
    let count = |statuses: &[Status]| engine.containers.values().filter(|container| statuses.contains(&container.status)).count();
    let running = count(&[Status::Running, Status::Restarting]);
    let paused = count(&[Status::Paused]);
    let host = &engine.host;
    let mut shown = INFO.clone();
    for (key, value) in [
        ("ID", json!(host.id)),
        ("Containers", json!(engine.containers.len())),
        ("ContainersRunning", json!(running)),
        ("ContainersPaused", json!(paused)),
        ("ContainersStopped", json!(engine.containers.len() - running - paused)),
        ("Images", json!(engine.images.len())),
        ("SystemTime", json!(text::instant(Some(engine.now)))),
        ("KernelVersion", json!(host.kernel)),
        ("NCPU", json!(host.cpus)),
        ("MemTotal", json!(host.memory)),
        ("DockerRootDir", json!(host.root)),
        ("Name", json!(host.name)),
        ("ServerVersion", json!(engine.version.number())),
    ] {
        shown.insert(key.to_owned(), value);
    }
    Ok(Reply::json(200, &shown))
}

/// `GET /system/df`.
pub fn disk(engine: &mut Engine, _: &Request) -> Served {
    let images: Vec<Value> = engine.images.values().map(|image| engine.show_image(image, true)).collect();
    let containers: Vec<Shown<'_>> = engine.containers.values().map(|container| Shown { engine, container, size: true }).collect();
    let volumes = engine.volumes.values().map(|volume| {
        let mut shown = engine.show_volume(volume);
        let size: usize = volume.files.values().map(bytes::Bytes::len).sum();
        shown["UsageData"] = json!({"RefCount": engine.volume_users(&volume.name).len(), "Size": size});
        shown
    });
    let volumes: Vec<Value> = volumes.collect();
    let layers: u64 = engine.images.values().map(|image| image.size).sum();
    let containers = serde_json::to_value(&containers).unwrap_or_default();
    let mut shown = json!({"LayersSize": layers, "Images": images, "Containers": containers, "Volumes": volumes, "BuildCache": []});
    if engine.version == Version::V20_10 {
        shown["BuildCache"] = Value::Null;
        shown["BuilderSize"] = json!(0);
    }
    Ok(Reply::json(200, &shown))
}

/// `POST /build/prune`: nothing is built here.
pub fn prune_builds(_: &mut Engine, _: &Request) -> Served {
    Ok(Reply::json(200, &json!({"CachesDeleted": null, "SpaceReclaimed": 0})))
}
