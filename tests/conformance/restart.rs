//! What an engine's restart and death leave of containers, events and calls under way.

use std::time::Duration;

use serde_json::{Value, json};

use crate::Group;
use crate::target::{Case, at, filters};

pub fn groups() -> Vec<Group> {
    vec![group!(in_order), group!(at_once), group!(no_answer)]
}

fn policy(name: &str) -> Value {
    json!({"Cmd": ["sleep", "600"], "HostConfig": {"Init": true, "RestartPolicy": {"Name": name}}})
}

impl Case {
    /// How many events of a volume the engine remembers.
    async fn told(&self, volume: &str) -> usize {
        let now: jiff::Timestamp = self.get("/info").await.text("/SystemTime").parse().expect("the engine's clock");
        let path = format!("/events?since=1&until={}&{}", now.as_second() + 1, filters(json!({"volume": [volume]})));
        let reply = self.get(&path).await;
        reply.body.as_str().map_or_else(|| reply.body.to_string(), str::to_owned).matches("\"create\"").count().min(1)
    }
}

async fn in_order(t: Case) {
    let engine = t.get("/info").await.at("/ID");
    t.volume("before", json!({})).await;
    t.eq("M10: an event is remembered while the engine runs", t.told(&t.name("before")).await, 1);
    let stopped = [t.run("always-stopped", policy("always")).await, t.run("unless-stopped", policy("unless-stopped")).await];
    for id in &stopped {
        t.stop(id).await;
    }
    let running = [t.run("always", policy("always")).await, t.run("unless", policy("unless-stopped")).await, t.run("no", policy("no")).await];
    let auto = t.run("auto", json!({"Cmd": ["sleep", "600"], "HostConfig": {"Init": true, "AutoRemove": true}})).await;
    let never = t.create("never", policy("always")).await;
    t.restart(true);
    t.eq("over a restart the engine's id stays", t.get("/info").await.at("/ID"), engine);
    t.eq("M10: over a restart events are forgotten", t.told(&t.name("before")).await, 0);
    t.eq("over a restart a volume stays", t.get(&format!("/volumes/{}", t.name("before"))).await.status, 200);
    t.until(&stopped[0], "/State/Status", "running").await;
    t.holds("M15: always: stopped by hand, it runs after a restart of the engine", true, "");
    t.field("M15: unless-stopped: stopped by hand, it stays stopped", &t.inspect(&stopped[1]).await, "/State/Status", "exited");
    t.until(&running[0], "/State/Status", "running").await;
    t.holds("M15: always: what ran runs after a restart of the engine", true, "");
    t.until(&running[1], "/State/Status", "running").await;
    t.holds("M15: unless-stopped: what ran runs after a restart of the engine", true, "");
    t.field("M15: no: what ran is exited after a restart of the engine", &t.inspect(&running[2]).await, "/State/Status", "exited");
    t.field("M15: what never ran stays so", &t.inspect(&never).await, "/State/Status", "created");
    t.eq("M15: what removes itself is gone after a restart of the engine", t.get(&format!("/containers/{auto}/json")).await.status, 404);
    t.field("M15: a restart of the engine is no counted restart", &t.inspect(&running[0]).await, "/RestartCount", 0);
}

async fn at_once(t: Case) {
    let network = t.network("net", &t.subnet()).await;
    t.volume("disk", json!({})).await;
    let host = json!({"NetworkMode": network, "Init": true, "Mounts": [{"Type": "volume", "Source": t.name("disk"), "Target": "/data"}]});
    let plain = t.run("plain", json!({"Cmd": ["sleep", "600"], "HostConfig": host})).await;
    let unless = t.run("unless", policy("unless-stopped")).await;
    let always = t.run("always", policy("always")).await;
    t.restart(false);
    t.until(&always, "/State/Status", "running").await;
    t.holds("M13: always: what ran when the engine was killed runs again", true, "");
    t.field("M13: unless-stopped: what ran when the engine was killed is exited, as if stopped by hand", &t.ended(&unless).await, "/State/Running", false);
    let ended = t.ended(&plain).await;
    t.field("M13: no: what ran when the engine was killed is exited", &ended, "/State/Running", false);
    t.eq("M13: after a kill of the engine names are still taken", t.try_create("plain", json!({"Cmd": ["true"]})).await.status, 409);
    t.eq("M13: after a kill of the engine networks are there", t.get(&format!("/networks/{network}")).await.status, 200);
    t.eq("M13: after a kill of the engine removal works", (t.remove(&plain).await.status, t.remove(&unless).await.status), (204, 204));
    let again = t.create("plain", json!({"Cmd": ["sleep", "600"], "HostConfig": host})).await;
    t.eq("M13: after a kill of the engine the same can be made and started", t.start(&again).await.status, 204);
    t.eq("M13: after a kill of the engine volumes are there", at(&t.inspect(&again).await, "/Mounts/0/Name"), json!(t.name("disk")));
    t.remove(&again).await;
    let unless = t.run("unless", policy("unless-stopped")).await;
    t.restart(false);
    t.ended(&unless).await;
    t.restart(true);
    t.field("M13: unless-stopped: exited by a kill of the engine it stays so over the next restart", &t.inspect(&unless).await, "/State/Status", "exited");
}

/// A client that gives up cannot know what came of its call.
async fn no_answer(t: Case) {
    let id = t.create("start", json!({"Cmd": ["sleep", "600"], "HostConfig": {"Init": true}})).await;
    let over = t.run("over", json!({"Cmd": ["sh", "-c", "exit 3"]})).await;
    t.ended(&over).await;
    t.suspend(true);
    let gone = tokio::time::timeout(Duration::from_secs(1), t.try_create("create", json!({"Cmd": ["true"]}))).await;
    let start = tokio::time::timeout(Duration::from_secs(1), t.start(&id)).await;
    let again = tokio::time::timeout(Duration::from_secs(1), t.start(&over)).await;
    t.suspend(false);
    t.holds("M11: an engine that does not answer answers nobody", gone.is_err() && start.is_err() && again.is_err(), (&gone, &start, &again));
    let made = t.wait("the creation", || async { (t.get(&format!("/containers/{}/json", t.name("create"))).await.status == 200).then_some(()) });
    made.await;
    t.holds("M11: a creation whose client gave up is made all the same", true, "");
    // What was sent meanwhile is done in any order.
    let words = "Canceled: context canceled";
    let (field, value) = t.by(("/State/Status", "running"), ("/State/Error", words));
    t.until(&id, field, value).await;
    t.until(&over, "/State/Error", t.by("", words)).await;
    let state = t.inspect(&id).await["State"].clone();
    t.eq("M11: a start whose client gave up is made by the older engine only", state["Status"].clone(), t.by("running", "created"));
    let told = t.by(json!(["", 0]), json!([words, 128]));
    t.eq("M11: the newer engine says of such a start that it was given up", json!([state["Error"], state["ExitCode"]]), told);
    let told = t.by(json!(["", 3]), json!([words, 128]));
    let state = t.ended(&over).await["State"].clone();
    t.eq("M11: and of one that had ended before: its exit code is lost", json!([state["Error"], state["ExitCode"]]), told);
    t.eq("M11: asked again, a start is done or found done", t.start(&id).await.status, t.by(304, 204));
}
