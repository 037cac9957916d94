//! Start, stop, pause, rename, remove: each from every state, and what becomes of a container that ends by itself.

use serde_json::{Value, json};

use crate::Group;
use crate::target::{Case, Reply, at};

pub fn groups() -> Vec<Group> {
    vec![group!(start_and_stop), group!(grace), group!(paused), group!(renamed), group!(removed), group!(ends), group!(restarts), group!(waits), group!(races)]
}

fn count(replies: &[Reply], status: u16) -> usize {
    replies.iter().filter(|reply| reply.status == status).count()
}

impl Case {
    /// Waits until a container says that it is ready: process 1 does not hear what comes before it listens.
    async fn ready(&self, id: &str) {
        self.wait("it is ready", || async { self.get(&format!("/containers/{id}/logs?stdout=1")).await.body.to_string().contains("ready").then_some(()) })
            .await;
    }

    /// Lets two seconds of the engine's time pass.
    async fn pass(&self, name: &str) {
        let id = self.run(name, json!({"Cmd": ["sleep", "2"]})).await;
        self.ended(&id).await;
    }
}

async fn start_and_stop(t: Case) {
    let id = t.create("a", json!({"Cmd": ["sleep", "600"]})).await;
    t.eq("stop of what never ran: 304", t.stop(&id).await.status, 304);
    t.reply("kill of what does not run: 409", &t.act(&id, "kill").await, 409, "is not running");
    t.reply("pause of what does not run: 409", &t.act(&id, "pause").await, 409, "is not running");
    t.eq("start: 204", t.start(&id).await.status, 204);
    let running = t.inspect(&id).await;
    t.field("running: the status", &running, "/State/Status", "running");
    t.field("running: runs", &running, "/State/Running", true);
    t.holds("running: a process", at(&running, "/State/Pid").as_i64() > Some(0), at(&running, "/State/Pid"));
    t.holds("running: when it started", at(&running, "/State/StartedAt").as_str().is_some_and(|text| !text.starts_with("0001")), at(&running, "/State"));
    t.eq("M18: start of what runs: 304", t.start(&id).await.status, 304);
    t.eq("stop: 204", t.stop(&id).await.status, 204);
    let stopped = t.inspect(&id).await;
    t.field("stopped: the status", &stopped, "/State/Status", "exited");
    t.field("stopped: no process", &stopped, "/State/Pid", 0);
    t.field("stopped without grace: exit code 137", &stopped, "/State/ExitCode", 137);
    t.field("stopped is no OOM", &stopped, "/State/OOMKilled", false);
    t.holds("stopped: when it ended", at(&stopped, "/State/FinishedAt").as_str().is_some_and(|text| !text.starts_with("0001")), at(&stopped, "/State"));
    t.eq("M18: stop of what is stopped: 304", t.stop(&id).await.status, 304);
    t.eq("start of what was stopped: 204", t.start(&id).await.status, 204);
    let again = t.inspect(&id).await;
    t.field("started again: exit code 0", &again, "/State/ExitCode", 0);
    t.field("started again: the end before stays written", &again, "/State/FinishedAt", at(&stopped, "/State/FinishedAt"));
    t.eq("restart: 204", t.act(&id, "restart?t=0").await.status, 204);
    t.field("restarted by hand: no counted restart", &t.inspect(&id).await, "/RestartCount", 0);
    t.eq("kill: 204", t.act(&id, "kill").await.status, 204);
    t.field("killed: exit code 137", &t.ended(&id).await, "/State/ExitCode", 137);
    for verb in ["start", "stop?t=0", "restart?t=0", "kill", "pause", "unpause"] {
        t.reply(&format!("{verb} of what is not there: 404"), &t.act("dockmaster-nothing", verb).await, 404, "No such container: dockmaster-nothing");
    }
    t.reply("inspect of what is not there: 404", &t.get("/containers/dockmaster-nothing/json").await, 404, "No such container: dockmaster-nothing");
}

async fn grace(t: Case) {
    let bare = t.run("bare", json!({"Cmd": ["sleep", "600"]})).await;
    t.act(&bare, "stop?t=1").await;
    t.field("a plain process 1 does not hear SIGTERM: killed after the grace", &t.inspect(&bare).await, "/State/ExitCode", 137);
    let ready = "echo ready; sleep 600";
    let init = t.run("init", json!({"Cmd": ["sh", "-c", ready], "HostConfig": {"Init": true}})).await;
    t.ready(&init).await;
    t.act(&init, "stop?t=60").await;
    t.field("with init it ends by SIGTERM at once", &t.inspect(&init).await, "/State/ExitCode", 143);
    let script = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done";
    let trap = t.run("trap", json!({"Cmd": ["sh", "-c", script]})).await;
    t.ready(&trap).await;
    t.act(&trap, "stop?t=60").await;
    t.field("who handles SIGTERM gives its own code", &t.inspect(&trap).await, "/State/ExitCode", 7);
    let signal = t.run("signal", json!({"Cmd": ["sleep", "600"], "StopSignal": "SIGKILL"})).await;
    t.act(&signal, "stop?t=60").await;
    t.field("a stop signal of SIGKILL needs no grace", &t.inspect(&signal).await, "/State/ExitCode", 137);
    let own = t.run("own", json!({"Cmd": ["sleep", "600"], "StopTimeout": 0})).await;
    t.act(&own, "stop").await;
    t.field("without a grace in the request its own counts", &t.inspect(&own).await, "/State/ExitCode", 137);
    let other = t.run("other", json!({"Cmd": ["sh", "-c", ready], "HostConfig": {"Init": true}})).await;
    t.ready(&other).await;
    t.eq("kill by a named signal: 204", t.act(&other, "kill?signal=SIGINT").await.status, 204);
    t.field("killed by SIGINT: exit code 130", &t.ended(&other).await, "/State/ExitCode", 130);
    t.start(&other).await;
    t.eq("kill by an unknown signal", t.act(&other, "kill?signal=SIGWISH").await.status, 400);
}

async fn paused(t: Case) {
    let id = t.sleeper("a").await;
    t.reply("unpause of what is not paused", &t.act(&id, "unpause").await, 500, "is not paused");
    t.eq("pause: 204", t.pause(&id).await, 204);
    let inspect = t.inspect(&id).await;
    t.field("paused: the status", &inspect, "/State/Status", "paused");
    t.field("paused: runs all the same", &inspect, "/State/Running", true);
    t.field("paused: paused", &inspect, "/State/Paused", true);
    let listed = t.listed(&id).await;
    t.field("list: paused", &listed, "/State", "paused");
    t.holds(
        "list: the text of paused",
        at(&listed, "/Status").as_str().is_some_and(|text| text.starts_with("Up ") && text.ends_with(" (Paused)")),
        at(&listed, "/Status"),
    );
    t.reply("pause of what is paused: 409", &t.act(&id, "pause").await, 409, "is already paused");
    t.reply("start of what is paused", &t.start(&id).await, 409, "cannot start a paused container, try unpause instead");
    let exec = t.post(&format!("/containers/{id}/exec"), json!({"Cmd": ["true"]})).await;
    t.reply("exec in what is paused: 409", &exec, 409, "is paused, unpause the container before exec");
    t.eq("rename of what is paused: 204", t.act(&id, &format!("rename?name={}", t.name("b"))).await.status, 204);
    t.reply("removal of what is paused: 409", &t.delete(&format!("/containers/{id}")).await, 409, "");
    t.eq("unpause: 204", t.act(&id, "unpause").await.status, 204);
    t.field("unpaused: runs", &t.inspect(&id).await, "/State/Status", "running");
    t.pause(&id).await;
    t.eq("stop of what is paused: 204", t.stop(&id).await.status, 204);
    t.field("stopped out of a pause: exited", &t.inspect(&id).await, "/State/Status", "exited");
    t.field("stopped out of a pause: not paused", &t.inspect(&id).await, "/State/Paused", false);
    t.start(&id).await;
    t.pause(&id).await;
    t.eq("removal by force of what is paused: 204", t.remove(&id).await.status, 204);
}

async fn renamed(t: Case) {
    let id = t.sleeper("a").await;
    let other = t.create("other", json!({"Cmd": ["true"]})).await;
    let rename = async |container: &str, name: &str| t.act(container, &format!("rename?name={name}")).await;
    t.eq("rename: 204", rename(&id, &t.name("b")).await.status, 204);
    t.field("renamed: the new name", &t.inspect(&id).await, "/Name", format!("/{}", t.name("b")));
    t.eq("renamed: the old name is nobody's", t.get(&format!("/containers/{}/json", t.name("a"))).await.status, 404);
    t.eq("renamed: the old name can be had", t.try_create("a", json!({"Cmd": ["true"]})).await.status, 201);
    t.reply("rename to a name that is taken: 409", &rename(&id, &t.name("other")).await, 409, &format!("is already in use by container \"{other}\""));
    t.field("a refused rename changes nothing", &t.inspect(&id).await, "/Name", format!("/{}", t.name("b")));
    t.reply("rename to its own name", &rename(&id, &t.name("b")).await, 400, "enaming a container with the same name as its current name");
    t.reply("rename to a bad name", &rename(&id, "x").await, 400, "Invalid container name");
    t.reply("rename without a name", &rename(&id, "").await, 400, "Neither old nor new names may be empty");
    t.reply("rename of what is not there", &rename("dockmaster-nothing", &t.name("c")).await, 404, "No such container");
}

async fn removed(t: Case) {
    let id = t.sleeper("a").await;
    let refused = t.delete(&format!("/containers/{id}")).await;
    t.reply(
        "removal of what runs: 409",
        &refused,
        409,
        t.by("You cannot remove a running container", "container is running: stop the container before removing or force remove"),
    );
    t.eq("removal by force: 204", t.remove(&id).await.status, 204);
    t.reply("removal of what is gone: 404", &t.remove(&id).await, 404, &format!("No such container: {id}"));
    t.eq("start of what is gone: 404", t.start(&id).await.status, 404);
    t.eq("a gone container is in no list", t.list(json!({"id": [id]})).await, Vec::<Value>::new());
    let auto = t.run("auto", json!({"Cmd": ["sleep", "0.2"], "HostConfig": {"AutoRemove": true}})).await;
    t.wait("it removes itself", || async { (t.get(&format!("/containers/{auto}/json")).await.status == 404).then_some(()) }).await;
    t.holds("AutoRemove: gone when it ended", true, "");
    let restart = t.create("auto-stopped", json!({"Cmd": ["sleep", "600"], "HostConfig": {"AutoRemove": true, "Init": true}})).await;
    t.eq("AutoRemove: a created one stays", t.inspect(&restart).await["State"]["Status"].clone(), json!("created"));
    t.start(&restart).await;
    t.stop(&restart).await;
    t.wait("it removes itself", || async { (t.get(&format!("/containers/{restart}/json")).await.status == 404).then_some(()) }).await;
    t.holds("AutoRemove: also when it was stopped", true, "");
}

async fn ends(t: Case) {
    let id = t.run("three", json!({"Cmd": ["sh", "-c", "exit 3"]})).await;
    let ended = t.ended(&id).await;
    t.field("ended: its exit code", &ended, "/State/ExitCode", 3);
    t.field("ended: no error", &ended, "/State/Error", "");
    let listed = t.listed(&id).await;
    t.field("list: exited", &listed, "/State", "exited");
    t.holds(
        "list: the text has the exit code",
        at(&listed, "/Status").as_str().is_some_and(|text| text.starts_with("Exited (3) ") && text.ends_with(" ago")),
        at(&listed, "/Status"),
    );
    let zero = t.run("zero", json!({"Cmd": ["true"]})).await;
    t.field("ended well: exit code 0", &t.ended(&zero).await, "/State/ExitCode", 0);
    let text = at(&t.listed(&zero).await, "/Status");
    t.holds("list: the text of a good end", text.as_str().is_some_and(|text| text.starts_with("Exited (0) ")), text);
    let absent = t.create("absent", json!({"Cmd": ["/nowhere"]})).await;
    t.reply("start of a command that is not there: 400", &t.start(&absent).await, 400, "\"/nowhere\"");
    let inspect = t.inspect(&absent).await;
    t.field("a command that is not there: created", &inspect, "/State/Status", "created");
    t.field("a command that is not there: exit code 127", &inspect, "/State/ExitCode", 127);
    t.holds(
        "a command that is not there: the error is kept",
        at(&inspect, "/State/Error").as_str().is_some_and(|text| text.contains("no such file or directory")),
        at(&inspect, "/State/Error"),
    );
    t.field("list: it was only created", &t.listed(&absent).await, "/Status", "Created");
    let folder = t.create("folder", json!({"Cmd": ["/bin"]})).await;
    t.reply("start of a command that is a folder: 400", &t.start(&folder).await, 400, "");
    t.field("a command that is a folder: exit code 126", &t.inspect(&folder).await, "/State/ExitCode", 126);
}

async fn restarts(t: Case) {
    let policy = |name: &str, count: i64| json!({"RestartPolicy": {"Name": name, "MaximumRetryCount": count}});
    let failing = t.run("failing", json!({"Cmd": ["sh", "-c", "sleep 2; exit 3"], "HostConfig": policy("on-failure", 2)})).await;
    let ended = t
        .wait("its restarts are used up", || async {
            Some(t.inspect(&failing).await).filter(|inspect| inspect["State"]["Status"] == "exited" && inspect["RestartCount"] == 2)
        })
        .await;
    t.field("on-failure: as often as was said", &ended, "/RestartCount", 2);
    t.field("on-failure: the last exit code", &ended, "/State/ExitCode", 3);
    t.start(&failing).await;
    t.field("a start by hand counts from 0 again", &t.inspect(&failing).await, "/RestartCount", 0);
    let well = t.run("well", json!({"Cmd": ["true"], "HostConfig": policy("on-failure", 5)})).await;
    t.ended(&well).await;
    t.pass("well-later").await;
    let well = t.inspect(&well).await;
    t.field("on-failure: a good end is an end", &well, "/State/Status", "exited");
    t.field("on-failure: a good end is no restart", &well, "/RestartCount", 0);
    let loops = t.run("loops", json!({"Cmd": ["sh", "-c", "exit 4"], "HostConfig": policy("unless-stopped", 0)})).await;
    t.wait("several restarts", || async { (at(&t.inspect(&loops).await, "/RestartCount").as_i64() >= Some(5)).then_some(()) }).await;
    let inspect = t.until(&loops, "/State/Status", "restarting").await;
    t.field("restarting: counts as running", &inspect, "/State/Running", true);
    t.field("restarting: restarting", &inspect, "/State/Restarting", true);
    t.field("restarting: the last exit code", &inspect, "/State/ExitCode", 4);
    let listed = t.wait("restarting in a list", || async { Some(t.listed(&loops).await).filter(|listed| listed["State"] == "restarting") }).await;
    t.holds(
        "list: the text of restarting",
        at(&listed, "/Status").as_str().is_some_and(|text| text.starts_with("Restarting (4) ") && text.ends_with(" ago")),
        at(&listed, "/Status"),
    );
    t.until(&loops, "/State/Status", "restarting").await;
    let refused = t.post(&format!("/containers/{loops}/exec"), json!({"Cmd": ["true"]})).await;
    t.reply("exec in what restarts: 409", &refused, 409, "is restarting, wait until the container is running");
    t.eq("stop of what restarts: 204", t.stop(&loops).await.status, 204);
    let stopped = t.ended(&loops).await;
    t.field("stopped while restarting: not restarting", &stopped, "/State/Restarting", false);
    let before = at(&stopped, "/RestartCount");
    t.pass("loops-later").await;
    let later = t.inspect(&loops).await;
    t.field("unless-stopped: stopped stays stopped", &later, "/State/Status", "exited");
    t.eq("stopped: no more restarts", at(&later, "/RestartCount"), before);
    let always = t.run("always", json!({"Cmd": ["sleep", "600"], "HostConfig": {"RestartPolicy": {"Name": "always"}}})).await;
    t.stop(&always).await;
    t.field("always: stopped by hand stays stopped while the engine runs", &t.inspect(&always).await, "/State/Status", "exited");
    t.start(&always).await;
    t.act(&always, "kill").await;
    t.ended(&always).await;
    t.holds("always: killed by hand through the engine stays so", true, "");
}

async fn waits(t: Case) {
    let missing = t.act("dockmaster-nothing", "wait").await;
    t.reply("wait for what is not there: 404", &missing, 404, "No such container");
    let id = t.create("a", json!({"Cmd": ["sh", "-c", "sleep 0.3; exit 5"]})).await;
    t.field("wait for what never ran answers at once", &t.act(&id, "wait").await.body, "/StatusCode", 0);
    let next = t.begin("POST", &format!("/containers/{id}/wait?condition=next-exit"), None).await;
    t.start(&id).await;
    t.field("wait for the next exit gives its code", &next.finish().await.body, "/StatusCode", 5);
    t.reply(
        "wait for a condition that is unknown: refused since 28, before that as for none",
        &t.act(&id, "wait?condition=wish").await,
        t.by(200, 400),
        t.by("", "nvalid condition"),
    );
    t.field("wait for what has ended gives its code", &t.act(&id, "wait").await.body, "/StatusCode", 5);
    let gone = t.begin("POST", &format!("/containers/{id}/wait?condition=removed"), None).await;
    t.remove(&id).await;
    t.eq("wait for a removal ends with it", gone.finish().await.status, 200);
}

async fn races(t: Case) {
    let id = t.sleeper("rm").await;
    let replies = futures::future::join_all((0..20).map(|_| t.remove(&id))).await;
    let (done, gone, busy) = (count(&replies, 204), count(&replies, 404), count(&replies, 409));
    t.holds("M18: of many removals at once some succeed, the others find it gone or going", done >= 1 && done + gone + busy == 20, &replies);
    let says = replies.iter().filter(|reply| reply.status == 409).all(|reply| reply.message().contains("is already in progress"));
    t.holds("M18: a removal under way: 409 says so", says, &replies);
    t.eq("M18: after that it is gone", t.get(&format!("/containers/{id}/json")).await.status, 404);
    let mut statuses = Vec::new();
    for round in 0..5 {
        let id = t.create(&format!("start-rm{round}"), json!({"Cmd": ["sleep", "600"]})).await;
        let (start, remove) = tokio::join!(t.start(&id), t.remove(&id));
        statuses.push((start.status, remove.status));
    }
    t.holds(
        "M18: start beside a removal: 204, 404 or 409, and the removal wins",
        statuses.iter().all(|(start, remove)| [204, 404, 409, 500].contains(start) && *remove == 204),
        &statuses,
    );
    let id = t.create("starts", json!({"Cmd": ["sleep", "600"]})).await;
    let replies = futures::future::join_all((0..10).map(|_| t.start(&id))).await;
    t.holds("of many starts at once each is 204 or 304", count(&replies, 204) >= 1 && count(&replies, 204) + count(&replies, 304) == 10, &replies);
    let replies = futures::future::join_all((0..10).map(|_| t.stop(&id))).await;
    t.holds("of many stops at once each is 204 or 304", count(&replies, 204) >= 1 && count(&replies, 204) + count(&replies, 304) == 10, &replies);
}
