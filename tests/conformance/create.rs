//! Creation: what is taken over, what is refused and in which words, and that a name is given once.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::Group;
use crate::target::{Case, LABEL, at};

pub fn groups() -> Vec<Group> {
    vec![group!(created), group!(names), group!(refused), group!(hostile), group!(carried)]
}

async fn created(t: Case) {
    let reply = t.try_create("fresh", json!({"Cmd": ["true"]})).await;
    t.eq("create: 201", reply.status, 201);
    let id = reply.text("/Id");
    t.holds("create: an id of 64 hexadecimal digits", id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), &id);
    let inspect = t.inspect(&id).await;
    t.field("created: the status", &inspect, "/State/Status", "created");
    t.field("created: does not run", &inspect, "/State/Running", false);
    t.field("created: no process", &inspect, "/State/Pid", 0);
    t.field("created: exit code 0", &inspect, "/State/ExitCode", 0);
    t.field("created: never started", &inspect, "/State/StartedAt", "0001-01-01T00:00:00Z");
    t.field("created: never finished", &inspect, "/State/FinishedAt", "0001-01-01T00:00:00Z");
    t.field("inspect: the name has a slash", &inspect, "/Name", format!("/{}", t.name("fresh")));
    t.field("inspect: no restarts yet", &inspect, "/RestartCount", 0);
    t.holds(
        "inspect: when it was made",
        at(&inspect, "/Created").as_str().is_some_and(|text| text.parse::<jiff::Timestamp>().is_ok()),
        at(&inspect, "/Created"),
    );
    t.eq("inspect: also by name", at(&t.inspect(&t.name("fresh")).await, "/Id"), json!(id));
    t.eq("inspect: also by the beginning of the id", at(&t.inspect(&id[..12]).await, "/Id"), json!(id));
    t.field("inspect: the image by its id", &inspect, "/Image", t.image.clone());
    t.field("inspect: the image as it was asked for", &inspect, "/Config/Image", t.image.clone());
    let listed = t.listed(&id).await;
    t.field("list: the name has a slash", &listed, "/Names", json!([format!("/{}", t.name("fresh"))]));
    t.field("list: created", &listed, "/State", "created");
    t.field("list: the text of created", &listed, "/Status", "Created");
    t.field("list: the image's id", &listed, "/ImageID", t.image.clone());
    t.field("list: an image given by id is named by id", &listed, "/Image", t.image.clone());
    t.field("list: the network mode", &listed, "/HostConfig/NetworkMode", "none");
    t.eq("remove: 204", t.delete(&format!("/containers/{id}")).await.status, 204);
    let again = t.try_create("fresh", json!({"Cmd": ["true"]})).await;
    t.eq("a name is free again after a removal", again.status, 201);
    t.holds("an id is never given twice", again.text("/Id") != id, &again.body);
}

async fn names(t: Case) {
    let id = t.create("taken", json!({"Cmd": ["true"]})).await;
    let conflict = t.try_create("taken", json!({"Cmd": ["true"]})).await;
    t.reply("a taken name: 409", &conflict, 409, &format!("Conflict. The container name \"/{}\" is already in use by container \"{id}\"", t.name("taken")));
    let races = futures::future::join_all((0..50).map(|_| t.try_create("race", json!({"Cmd": ["true"]})))).await;
    let mut statuses: BTreeMap<u16, usize> = BTreeMap::new();
    for reply in &races {
        *statuses.entry(reply.status).or_default() += 1;
    }
    t.eq("M1: of 50 creations of one name one succeeds", statuses, BTreeMap::from([(201, 1), (409, 49)]));
    let create = async |name: &str| t.post(&format!("/containers/create?name={name}"), t.body(json!({"Cmd": ["true"]}))).await;
    t.reply("M1: a name of one character is refused", &create("x").await, 400, "Invalid container name (x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    t.reply("a name with a blank is refused", &create(&format!("{}%20x", t.name("blank"))).await, 400, "Invalid container name");
    t.eq("a name may have dots and underscores", create(&t.name("shop.alice_next")).await.status, 201);
    t.eq("a name may be 200 characters long", create(&format!("{}{}", t.name("long"), "x".repeat(150))).await.status, 201);
    let nameless = t.post("/containers/create", t.body(json!({"Cmd": ["true"]}))).await;
    t.eq("without a name one is invented", nameless.status, 201);
    let invented = at(&t.inspect(&nameless.text("/Id")).await, "/Name");
    t.holds("an invented name", invented.as_str().is_some_and(|name| name.len() > 3), invented);
}

async fn refused(t: Case) {
    // Real engines leave the first volume of a creation that they refuse for its second: it must have a name to be found again.
    let twice = t.name("twice");
    let refusals: Vec<(&str, Value, u16, &str)> = vec![
        ("an image that is not there", json!({"Image": "dockmaster-test/nothing:1"}), 404, "No such image: dockmaster-test/nothing:1"),
        ("an image id that is not there", json!({"Image": format!("sha256:{}", "0".repeat(64))}), 404, "No such image: sha256:0000"),
        ("no command", json!({"Cmd": null}), 400, t.by("No command specified", "no command specified")),
        (
            "too little memory",
            json!({"HostConfig": {"Memory": 1 << 20}}),
            400,
            t.by("Minimum memory limit allowed is 6MB", "inimum memory limit allowed is 6MB"),
        ),
        (
            "more CPUs than there are",
            json!({"HostConfig": {"NanoCpus": 4_000_000_000_000_i64}}),
            400,
            t.by("Range of CPUs is from 0.01 to", "ange of CPUs is from 0.01 to"),
        ),
        (
            "CPUs said twice",
            json!({"HostConfig": {"NanoCpus": 500_000_000, "CpuQuota": 50_000}}),
            400,
            t.by("Conflicting options: Nano CPUs and CPU Quota cannot both be set", "onflicting options: Nano CPUs and CPU Quota cannot both be set"),
        ),
        (
            "an unknown restart policy",
            json!({"HostConfig": {"RestartPolicy": {"Name": "sometimes"}}}),
            400,
            t.by("invalid restart policy 'sometimes'", "invalid restart policy"),
        ),
        ("a retry count without on-failure", json!({"HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}}), 400, "maximum retry count"),
        (
            "removal by itself and a restart policy",
            json!({"HostConfig": {"AutoRemove": true, "RestartPolicy": {"Name": "always"}}}),
            400,
            "can't create 'AutoRemove' container with restart policy",
        ),
        (
            "a mount on a relative path",
            json!({"HostConfig": {"Mounts": [{"Type": "volume", "Target": "data"}]}}),
            400,
            "invalid mount path: 'data' mount path must be absolute",
        ),
        (
            "two mounts on one path",
            json!({"HostConfig": {"Mounts": [{"Type": "volume", "Source": twice, "Target": "/data"}, {"Type": "volume", "Source": twice, "Target": "/data"}]}}),
            400,
            t.by("Duplicate mount point: /data", "uplicate mount point: /data"),
        ),
        (
            "a host path that is not there",
            json!({"HostConfig": {"Mounts": [{"Type": "bind", "Source": "/nonexistent/folder", "Target": "/data"}]}}),
            400,
            "bind source path does not exist: /nonexistent/folder",
        ),
        ("an unknown kind of mount", json!({"HostConfig": {"Mounts": [{"Type": "wish", "Target": "/data"}]}}), 400, "mount type unknown"),
        (
            "a health test shorter than a millisecond",
            json!({"Healthcheck": {"Test": ["CMD", "true"], "Interval": 1}}),
            400,
            "Interval in Healthcheck cannot be less than 1ms",
        ),
        ("an unknown log driver", json!({"HostConfig": {"LogConfig": {"Type": "nowhere"}}}), 400, "nowhere"),
    ];
    for (index, (what, given, status, says)) in refusals.into_iter().enumerate() {
        let mut body = json!({"Cmd": ["true"]});
        for (key, value) in given.as_object().unwrap() {
            body[key] = value.clone();
        }
        let name = format!("refused{index}");
        let reply = t.try_create(&name, body).await;
        t.reply(&format!("create refuses {what}"), &reply, status, says);
    }
    let left = t.list(json!({"name": [t.name("refused")]})).await;
    t.eq("a refused creation leaves nothing under its name", left, Vec::<Value>::new());
}

async fn hostile(t: Case) {
    let volume = t.name("hostile-disk");
    let accepted: Vec<(&str, Value)> = vec![
        ("Privileged", json!({"Privileged": true})),
        ("the host's process namespace", json!({"PidMode": "host"})),
        ("the host's IPC", json!({"IpcMode": "host"})),
        ("the host's UTS namespace", json!({"UTSMode": "host"})),
        ("the host's network", json!({"NetworkMode": "host"})),
        ("the host's root directory", json!({"Binds": ["/:/host"]})),
        (
            "a volume that is a bind of the root directory",
            json!({"Mounts": [{"Type": "volume", "Source": volume, "Target": "/host", "VolumeOptions": {"DriverConfig": {"Name": "local", "Options": {"type": "none", "o": "bind", "device": "/"}}}}]}),
        ),
        ("another cgroup", json!({"CgroupParent": "/"})),
        ("all capabilities", json!({"CapAdd": ["ALL"]})),
        ("all devices", json!({"DeviceCgroupRules": ["b *:* rwm"]})),
        ("an OOM score of -1000", json!({"OomScoreAdj": -1000})),
        ("extra hosts", json!({"ExtraHosts": ["metadata:169.254.169.254"]})),
    ];
    for (index, (what, host)) in accepted.into_iter().enumerate() {
        let reply = t.try_create(&format!("hostile{index}"), json!({"Cmd": ["true"], "HostConfig": host})).await;
        t.reply(&format!("M7: create takes {what}"), &reply, 201, "");
    }
}

async fn carried(t: Case) {
    let given = json!({
        "Cmd": ["sleep", "600"], "Hostname": "shop", "User": "65534:65534", "WorkingDir": "/tmp", "Env": ["A=b=c"], "StopSignal": "SIGINT", "StopTimeout": 7,
        "Labels": {"a": "b"}, "ExposedPorts": {"8080/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 60_000_000_000_i64, "Timeout": 1_000_000_000, "Retries": 2, "StartPeriod": 1_000_000_000, "StartInterval": 2_000_000_000_i64},
        "HostConfig": {
            "Memory": 67_108_864, "MemorySwap": 67_108_864, "NanoCpus": 500_000_000, "PidsLimit": 64, "Init": true, "ReadonlyRootfs": true, "CapDrop": ["NET_RAW"],
            "SecurityOpt": ["no-new-privileges"], "RestartPolicy": {"Name": "unless-stopped"}, "Tmpfs": {"/run": "size=1m"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
        },
    });
    let id = t.create("whole", given.clone()).await;
    let inspect = t.inspect(&id).await;
    for field in ["Cmd", "Hostname", "User", "WorkingDir", "StopSignal", "StopTimeout", "ExposedPorts"] {
        let expected = if field == "ExposedPorts" { json!(["8080/tcp"]) } else { given[field].clone() };
        let pointer = format!("/Config/{field}");
        t.holds(&format!("create carries {field}"), at(&inspect, &pointer) == expected || at(&inspect, &pointer) == given[field], at(&inspect, &pointer));
    }
    t.holds("create carries Env", at(&inspect, "/Config/Env").as_array().is_some_and(|env| env.contains(&json!("A=b=c"))), at(&inspect, "/Config/Env"));
    t.field("create carries Labels", &inspect, "/Config/Labels", json!({"a": "b", LABEL: t.installation}));
    for field in ["Test", "Interval", "Timeout", "Retries", "StartPeriod"] {
        t.field(&format!("create carries the health test's {field}"), &inspect, &format!("/Config/Healthcheck/{field}"), given["Healthcheck"][field].clone());
    }
    t.field(
        "the interval during the start is known since API 1.44",
        &inspect,
        "/Config/Healthcheck/StartInterval",
        t.by(Value::Null, json!(2_000_000_000_i64)),
    );
    for field in ["Memory", "NanoCpus", "PidsLimit", "Init", "ReadonlyRootfs", "CapDrop", "SecurityOpt", "Tmpfs", "LogConfig"] {
        t.field(&format!("create carries {field}"), &inspect, &format!("/HostConfig/{field}"), given["HostConfig"][field].clone());
    }
    t.field("create carries the restart policy", &inspect, "/HostConfig/RestartPolicy/Name", "unless-stopped");
    t.field("not privileged unless asked", &inspect, "/HostConfig/Privileged", false);
    let swap = at(&inspect, "/HostConfig/MemorySwap");
    t.holds("memory and swap, or -1 where the kernel does not count swap", swap == 67_108_864 || swap == -1, swap);
    let plain = t.inspect(&t.create("plain", json!({"Cmd": ["true"]})).await).await;
    t.field("without a restart policy it is `no`, on 20.10 empty", &plain, "/HostConfig/RestartPolicy/Name", t.by("", "no"));
    t.field("without a name for the host it is the short id", &plain, "/Config/Hostname", at(&plain, "/Id").as_str().unwrap()[..12].to_owned());
    t.field("without limits memory is 0", &plain, "/HostConfig/Memory", 0);
    t.field("without limits CPUs are 0", &plain, "/HostConfig/NanoCpus", 0);
    t.field("without a limit of processes there is none", &plain, "/HostConfig/PidsLimit", Value::Null);
    t.field("without a log driver it is the engine's", &plain, "/HostConfig/LogConfig/Type", "json-file");
}
