//! What an engine fills in where a request says nothing, in the order in which it tells it.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::Version;
use super::state::{Engine, Object};

fn object(value: Value) -> Object {
    match value {
        Value::Object(object) => object,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Object::new(),
    }
}

/// Keys that are told only where they were given.
const OPTIONAL: [&str; 12] =
    ["Tmpfs", "Mounts", "Init", "StorageOpt", "Sysctls", "Annotations", "ExposedPorts", "Healthcheck", "StopSignal", "StopTimeout", "NetworkDisabled", "Shell"];

/// Puts what was given over what is filled in. What an engine does not know it forgets; null is nothing.
fn over(mut base: Object, given: Option<&Object>) -> Object {
    for (key, value) in given.into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        // Keys are read whatever their case.
        let known = base.keys().find(|known| known.eq_ignore_ascii_case(key)).cloned();
        if let Some(known) = known {
            base.insert(known, value.clone());
        }
    }
    base.into_iter().filter(|(key, value)| !(value.is_null() && OPTIONAL.contains(&key.as_str()))).collect()
}

/// `HostConfig` of 20.10 where nothing is given.
const HOST_OLD: &str = r#"{
    "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "json-file", "Config": {}}, "NetworkMode": "default", "PortBindings": {},
    "RestartPolicy": {"Name": "", "MaximumRetryCount": 0}, "AutoRemove": false, "VolumeDriver": "", "VolumesFrom": null, "CapAdd": null,
    "CapDrop": null, "CgroupnsMode": "host", "Dns": null, "DnsOptions": null, "DnsSearch": null, "ExtraHosts": null, "GroupAdd": null,
    "IpcMode": "private", "Cgroup": "", "Links": null, "OomScoreAdj": 0, "PidMode": "", "Privileged": false, "PublishAllPorts": false,
    "ReadonlyRootfs": false, "SecurityOpt": null, "StorageOpt": null, "Tmpfs": null, "UTSMode": "", "UsernsMode": "", "ShmSize": 67108864,
    "Sysctls": null, "Runtime": "runc", "ConsoleSize": [0, 0], "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "",
    "BlkioWeight": 0, "BlkioWeightDevice": null, "BlkioDeviceReadBps": null, "BlkioDeviceWriteBps": null, "BlkioDeviceReadIOps": null,
    "BlkioDeviceWriteIOps": null, "CpuPeriod": 0, "CpuQuota": 0, "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "",
    "CpusetMems": "", "Devices": null, "DeviceCgroupRules": null, "DeviceRequests": null, "KernelMemory": 0, "KernelMemoryTCP": 0,
    "MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": null, "OomKillDisable": false, "PidsLimit": null, "Ulimits": null,
    "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0, "Mounts": null,
    "MaskedPaths": ["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
    "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
    "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"], "Init": null
}"#;

/// `HostConfig` of 28.5 where nothing is given.
const HOST_NEW: &str = r#"{
    "Binds": null, "ContainerIDFile": "", "LogConfig": {"Type": "json-file", "Config": {}}, "NetworkMode": "bridge", "PortBindings": {},
    "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}, "AutoRemove": false, "VolumeDriver": "", "VolumesFrom": null,
    "ConsoleSize": [0, 0], "Annotations": null, "CapAdd": null, "CapDrop": null, "CgroupnsMode": "host", "Dns": null, "DnsOptions": null,
    "DnsSearch": null, "ExtraHosts": null, "GroupAdd": null, "IpcMode": "private", "Cgroup": "", "Links": null, "OomScoreAdj": 0,
    "PidMode": "", "Privileged": false, "PublishAllPorts": false, "ReadonlyRootfs": false, "SecurityOpt": null, "StorageOpt": null,
    "Tmpfs": null, "UTSMode": "", "UsernsMode": "", "ShmSize": 67108864, "Sysctls": null, "Runtime": "runc", "Isolation": "",
    "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "", "BlkioWeight": 0, "BlkioWeightDevice": null, "BlkioDeviceReadBps": null,
    "BlkioDeviceWriteBps": null, "BlkioDeviceReadIOps": null, "BlkioDeviceWriteIOps": null, "CpuPeriod": 0, "CpuQuota": 0,
    "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": null, "DeviceCgroupRules": null,
    "DeviceRequests": null, "MemoryReservation": 0, "MemorySwap": 0, "MemorySwappiness": null, "OomKillDisable": false, "PidsLimit": null,
    "Ulimits": null, "CpuCount": 0, "CpuPercent": 0, "IOMaximumIOps": 0, "IOMaximumBandwidth": 0, "Mounts": null,
    "MaskedPaths": ["/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
    "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"],
    "ReadonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"], "Init": null
}"#;

static OLD: LazyLock<Object> = LazyLock::new(|| serde_json::from_str(HOST_OLD).unwrap_or_default());
static NEW: LazyLock<Object> = LazyLock::new(|| serde_json::from_str(HOST_NEW).unwrap_or_default());

/// `HostConfig`.
pub fn host(engine: &Engine, given: Option<&Object>) -> Object {
    let base = match engine.version {
        Version::V20_10 => &*OLD,
        Version::V28_5 => &*NEW,
    };
    let mut host = over(base.clone(), given);
    // An empty word is no word.
    for key in ["NetworkMode", "IpcMode", "CgroupnsMode", "Runtime"] {
        if host.get(key).and_then(Value::as_str) == Some("") {
            host.insert(key.to_owned(), base[key].clone());
        }
    }
    if host.get("ShmSize").and_then(Value::as_i64) == Some(0) {
        host.insert("ShmSize".to_owned(), base["ShmSize"].clone());
    }
    let log = host.get("LogConfig").and_then(|log| log.get("Type")).and_then(Value::as_str).unwrap_or_default();
    if log.is_empty() {
        host.insert("LogConfig".to_owned(), base["LogConfig"].clone());
    }
    let policy = host.get("RestartPolicy").cloned().unwrap_or_default();
    let name = policy.get("Name").and_then(Value::as_str).unwrap_or_default();
    let name = if name.is_empty() { base["RestartPolicy"]["Name"].as_str().unwrap_or_default() } else { name };
    let count = policy.get("MaximumRetryCount").and_then(Value::as_i64).unwrap_or_default();
    host.insert("RestartPolicy".to_owned(), json!({"Name": name, "MaximumRetryCount": count}));
    host
}

/// `Config`.
pub fn config(given: &Object) -> Object {
    let base = json!({
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false, "AttachStderr": false, "ExposedPorts": null,
        "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": null, "Healthcheck": null, "Image": "", "Volumes": null,
        "WorkingDir": "", "Entrypoint": null, "NetworkDisabled": null, "OnBuild": null, "Labels": {}, "StopSignal": null, "StopTimeout": null,
        "Shell": null,
    });
    over(object(base), Some(given))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_read() {
        assert_eq!((OLD.len(), NEW.len()), (OLD.len().max(60), NEW.len().max(60)));
        assert_eq!((&OLD["NetworkMode"], &NEW["NetworkMode"]), (&json!("default"), &json!("bridge")));
    }
}
