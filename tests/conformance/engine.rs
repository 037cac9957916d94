//! What an engine says of itself, and how it takes requests that it does not know.

use serde_json::{Value, json};

use crate::Group;
use crate::target::{Case, at};

pub fn groups() -> Vec<Group> {
    vec![group!(itself), group!(requests), group!(bollard)]
}

async fn itself(t: Case) {
    let ping = t.get("/_ping").await;
    t.reply("ping answers OK", &ping, 200, "OK");
    t.eq("ping names the API version", ping.header("api-version"), Some(t.by("1.41", "1.51")));
    t.eq("ping names the system", ping.header("ostype"), Some("linux"));
    let version = t.get("/version").await;
    t.eq("version: the newest API", version.at("/ApiVersion"), t.by(json!("1.41"), json!("1.51")));
    t.eq("M20: version: the oldest API", version.at("/MinAPIVersion"), t.by(json!("1.12"), json!("1.24")));
    t.holds("version: Docker's own", version.text("/Version").starts_with(t.by("20.10.", "28.5.")), &version.body);
    t.eq("version: the system", version.at("/Os"), json!("linux"));
    let info = t.get("/info").await;
    t.holds("info: an id", !info.text("/ID").is_empty(), &info.body);
    t.eq("info: the id stays", t.get("/info").await.at("/ID"), info.at("/ID"));
    t.holds("info: its clock", info.text("/SystemTime").parse::<jiff::Timestamp>().is_ok(), info.at("/SystemTime"));
    t.holds("info: CPUs", info.at("/NCPU").as_i64() > Some(0), info.at("/NCPU"));
    t.holds("info: memory", info.at("/MemTotal").as_i64() > Some(0), info.at("/MemTotal"));
    t.eq("info: the system", info.at("/OSType"), json!("linux"));
    for field in ["Name", "KernelVersion", "Architecture", "Driver", "DockerRootDir", "CgroupVersion", "CgroupDriver", "ServerVersion"] {
        t.holds(&format!("info: {field} is a text"), !info.text(&format!("/{field}")).is_empty(), info.at(&format!("/{field}")));
    }
    t.holds("info: how many containers run", info.at("/ContainersRunning").is_i64(), info.at("/ContainersRunning"));
}

async fn requests(t: Case) {
    t.reply("M20: an API that is too new is refused", &t.get("/v1.99/info").await, 400, "client version 1.99 is too new. Maximum supported API version is 1.");
    let old = t.get("/v1.11/info").await;
    t.reply("M20: an API that is too old is refused", &old, 400, t.by("Minimum supported API version is 1.12", "Minimum supported API version is 1.24"));
    t.eq("M20: API 1.41 is spoken", t.get("/v1.41/info").await.status, 200);
    t.reply("an unknown path", &t.get("/nothing/here").await, 404, "page not found");
    t.eq("a body that is no JSON", t.post("/volumes/create", json!("{")).await.status, 400);
    let text = t.post("/containers/create", Value::Null).await;
    t.eq("a creation without a body", text.status, t.by(500, 400));
    let filter = t.get("/containers/json?filters=nonsense").await;
    t.eq("filters that are no JSON", filter.status, t.by(500, 400));
}

async fn bollard(t: Case) {
    let paths = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = paths.clone();
    let recorded = t.docker.clone().with_request_modifier(move |request| {
        seen.lock().unwrap().push(request.uri().path().to_owned());
        request
    });
    let negotiated = recorded.negotiate_version().await.expect("a version");
    negotiated.list_networks(None).await.expect("the networks");
    let last = paths.lock().unwrap().last().cloned();
    t.eq("M19: bollard names no API version, negotiated or not", last.as_deref(), Some("/networks"));
    let id = t.create("read", json!({"Cmd": ["true"]})).await;
    let raw = t.get(&format!("/containers/{id}/json")).await;
    let read = t.inspect(&id).await;
    for pointer in ["/Id", "/Name", "/State/Status", "/HostConfig/NetworkMode", "/Config/Cmd", "/Created", "/Image"] {
        t.eq(&format!("bollard reads {pointer} of an inspect as it is written"), at(&read, pointer), raw.at(pointer));
    }
}
