//! The event stream: what is told, in which order, with which attributes; what filters do; and how little the engine remembers.

use std::sync::{Arc, Mutex};

use bollard::query_parameters::EventsOptions;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::Group;
use crate::target::{Case, LABEL, at, filters};

pub fn groups() -> Vec<Group> {
    vec![group!(of_a_container), group!(of_an_end), group!(of_networks_and_volumes), group!(filtered), group!(of_health), group!(of_images), group!(remembered)]
}

/// Reads events as they come.
struct Recorder {
    seen: Arc<Mutex<Vec<Value>>>,
    reader: JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Recorder {
    /// From now on by the engine's clock.
    async fn new(t: &Case, given: Value) -> Self {
        let options = EventsOptions { since: Some(t.now().await), filters: Some(serde_json::from_value(given).unwrap()), ..Default::default() };
        let mut stream = Box::pin(t.docker.events(Some(options)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let reader = tokio::spawn({
            let seen = seen.clone();
            async move {
                while let Some(Ok(event)) = stream.next().await {
                    seen.lock().unwrap().push(serde_json::to_value(event).unwrap());
                }
            }
        });
        Self { seen, reader }
    }

    fn events(&self) -> Vec<Value> {
        self.seen.lock().unwrap().clone()
    }

    /// The actions so far, of these types.
    fn actions(&self, kind: &str) -> Vec<String> {
        self.events().iter().filter(|event| event["Type"] == kind).map(|event| event["Action"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Waits for an action; gives its event.
    async fn until(&self, t: &Case, action: &str) -> Value {
        t.wait(&format!("event {action}"), || async { self.events().into_iter().rev().find(|event| event["Action"] == action) }).await
    }

    fn find(&self, action: &str) -> Value {
        self.events().into_iter().find(|event| event["Action"] == action).unwrap_or_default()
    }
}

impl Case {
    /// The engine's clock, as `since` and `until` take it.
    async fn now(&self) -> String {
        let at: jiff::Timestamp = self.get("/info").await.text("/SystemTime").parse().expect("the engine's clock");
        format!("{}.{:09}", at.as_second(), at.subsec_nanosecond())
    }
}

async fn of_a_container(t: Case) {
    let recorder = Recorder::new(&t, json!({"type": ["container"], "label": [format!("own={}", t.name("a"))]})).await;
    let id = t.create("a", json!({"Cmd": ["sleep", "600"], "StopSignal": "SIGKILL", "Labels": {"own": t.name("a")}, "HostConfig": {"Init": true}})).await;
    t.start(&id).await;
    t.pause(&id).await;
    t.act(&id, "unpause").await;
    t.post(&format!("/containers/{id}/update"), json!({"PidsLimit": 50})).await;
    t.act(&id, &format!("rename?name={}", t.name("b"))).await;
    t.stop(&id).await;
    t.start(&id).await;
    t.act(&id, "restart?t=0").await;
    t.act(&id, "kill").await;
    t.ended(&id).await;
    t.remove(&id).await;
    recorder.until(&t, "destroy").await;
    let actions = recorder.actions("container");
    // A stop without grace kills once or twice, and newer engines may tell of it before the end. A pause that ends at once may be told twice.
    let expected = "create start update rename die start die start restart die destroy";
    let order: Vec<&str> = actions.iter().map(String::as_str).filter(|action| !matches!(*action, "kill" | "stop" | "pause" | "unpause")).collect();
    t.eq("events of a container, in this order", order.join(" "), expected.to_owned());
    let place = |action: &str| actions.iter().position(|other| other == action);
    t.holds(
        "events of a container: a pause between start and update",
        place("start") < place("pause") && place("pause") < place("unpause") && place("unpause") < place("update"),
        &actions,
    );
    t.eq("events of a container: each stop, a restart's too", actions.iter().filter(|action| *action == "stop").count(), 2);
    let ends = actions.iter().enumerate().filter(|(_, action)| *action == "die").map(|(at, _)| at);
    t.holds(
        "events of a container: a kill is told before the end",
        ends.clone().all(|at| actions[..at].iter().rev().take_while(|action| *action != "start").any(|action| action == "kill")),
        &actions,
    );
    let created = recorder.find("create");
    t.field("event: the container's id", &created, "/Actor/ID", id.clone());
    t.field("event: the scope", &created, "/scope", "local");
    t.field("event: the container's name", &created, "/Actor/Attributes/name", t.name("a"));
    t.field("event: the image as it was asked for", &created, "/Actor/Attributes/image", t.image.clone());
    t.field("event: the container's labels", &created, "/Actor/Attributes/own", t.name("a"));
    t.holds(
        "event: seconds and nanoseconds",
        created["time"].as_i64().zip(created["timeNano"].as_i64()).is_some_and(|(time, nano)| nano / 1_000_000_000 == time),
        &created,
    );
    let renamed = recorder.find("rename");
    t.field("event rename: the old name has a slash", &renamed, "/Actor/Attributes/oldName", format!("/{}", t.name("a")));
    t.field("event rename: the new name has none", &renamed, "/Actor/Attributes/name", t.name("b"));
    t.field("event die: the exit code is a text", &recorder.find("die"), "/Actor/Attributes/exitCode", "137");
    t.field("event kill: the signal", &recorder.find("kill"), "/Actor/Attributes/signal", "9");
    t.field("event destroy: still with its labels", &recorder.find("destroy"), "/Actor/Attributes/own", t.name("a"));
    let times: Vec<i64> = recorder.events().iter().filter_map(|event| event["timeNano"].as_i64()).collect();
    // What happens at once is told by parts of an engine that do not wait for each other: 0.2 ms were seen.
    let in_order = times.windows(2).all(|pair| pair[0] - pair[1] < 10_000_000);
    t.holds("events come in the order of their time, but for moments", in_order, &times);
}

async fn of_an_end(t: Case) {
    let recorder = Recorder::new(&t, json!({"type": ["container"], "label": [format!("own={}", t.name("a"))]})).await;
    let own = json!({"own": t.name("a")});
    let id = t.run("three", json!({"Cmd": ["sh", "-c", "exit 3"], "Labels": own})).await;
    t.ended(&id).await;
    let died = recorder.until(&t, "die").await;
    t.field("event die: the code of an end by itself", &died, "/Actor/Attributes/exitCode", "3");
    t.eq("events of an end by itself", recorder.actions("container").join(" "), "create start die".to_owned());
    t.start(&id).await;
    t.ended(&id).await;
    let host = json!({"Memory": 16 << 20, "MemorySwap": 16 << 20});
    // A busy host may be late to look: the container is gone by then, and nothing is told.
    let mut told = None;
    for attempt in 0..5 {
        let oom = t.run(&format!("oom{attempt}"), json!({"Cmd": ["tail", "/dev/zero"], "Labels": own, "HostConfig": host})).await;
        t.ended(&oom).await;
        if let Ok(event) = tokio::time::timeout(std::time::Duration::from_secs(10), recorder.until(&t, "oom")).await {
            told = Some((oom, event));
            break;
        }
    }
    let (oom, event) = told.expect("an event oom of one of five");
    t.field("M18: out of memory is an event", &event, "/Actor/ID", oom);
    let absent = t.create("absent", json!({"Cmd": ["/nowhere"], "Labels": own})).await;
    t.start(&absent).await;
    t.wait("its creation", || async { recorder.events().iter().any(|event| event["Actor"]["ID"] == absent).then_some(()) }).await;
    let mine: Vec<String> =
        recorder.events().iter().filter(|event| event["Actor"]["ID"] == absent).map(|event| event["Action"].as_str().unwrap_or_default().to_owned()).collect();
    t.holds("a start that fails is no event `start`", mine.first().is_some_and(|action| action == "create") && !mine.contains(&"start".to_owned()), &mine);
    let before = recorder.events().len();
    let auto = t.run("auto", json!({"Cmd": ["true"], "Labels": own, "HostConfig": {"AutoRemove": true}})).await;
    recorder.until(&t, "destroy").await;
    let mine: Vec<Value> = recorder.events().split_off(before).into_iter().filter(|event| event["Actor"]["ID"] == auto).collect();
    let actions: Vec<&str> = mine.iter().filter_map(|event| event["Action"].as_str()).collect();
    t.eq("events of what removes itself", actions, vec!["create", "start", "die", "destroy"]);
    let before = recorder.events().len();
    let id = t.sleeper_labelled("force", &own).await;
    t.remove(&id).await;
    t.wait("its destruction", || async { recorder.events().iter().any(|event| event["Action"] == "destroy" && event["Actor"]["ID"] == id).then_some(()) })
        .await;
    let actions: Vec<String> = recorder
        .events()
        .split_off(before)
        .iter()
        .filter(|event| event["Actor"]["ID"] == id)
        .map(|event| event["Action"].as_str().unwrap_or_default().to_owned())
        .collect();
    t.eq("events of a removal by force", actions.join(" "), "create start kill die destroy".to_owned());
}

impl Case {
    async fn sleeper_labelled(&self, name: &str, labels: &Value) -> String {
        self.run(name, json!({"Cmd": ["sleep", "600"], "Labels": labels, "HostConfig": {"Init": true}})).await
    }
}

async fn of_networks_and_volumes(t: Case) {
    let recorder = Recorder::new(&t, json!({"type": ["network", "volume"]})).await;
    let network = t.network("net", &t.subnet()).await;
    t.volume("disk", json!({})).await;
    t.volume("disk", json!({})).await;
    let host = json!({"NetworkMode": network, "Init": true, "Mounts": [{"Type": "volume", "Source": t.name("disk"), "Target": "/data"}]});
    let id = t.run("a", json!({"Cmd": ["sleep", "600"], "HostConfig": host})).await;
    t.stop(&id).await;
    t.remove(&id).await;
    t.delete(&format!("/networks/{network}")).await;
    t.delete(&format!("/volumes/{}", t.name("disk"))).await;
    let of = |id: &str| recorder.events().into_iter().filter(|event| event["Actor"]["ID"] == id).collect::<Vec<_>>();
    t.wait("the end of both", || async {
        let ended = |id: &str| of(id).iter().any(|event| event["Action"] == "destroy");
        (ended(&network) && ended(&t.name("disk"))).then_some(())
    })
    .await;
    let actions = |events: &[Value]| events.iter().map(|event| event["Action"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>().join(" ");
    let networks = of(&network);
    t.eq("events of a network", actions(&networks), "create connect disconnect destroy".to_owned());
    t.field("event connect: the network's name", &networks[1], "/Actor/Attributes/name", t.name("net"));
    t.field("event connect: the driver", &networks[1], "/Actor/Attributes/type", "bridge");
    t.field("event connect: the container's id", &networks[1], "/Actor/Attributes/container", id.clone());
    t.field("event disconnect: the container's id", &networks[2], "/Actor/Attributes/container", id.clone());
    t.field("event network create: no labels", &networks[0], &format!("/Actor/Attributes/{LABEL}"), Value::Null);
    let volumes = of(&t.name("disk"));
    t.eq(
        "events of a volume: its name is the id",
        actions(&volumes),
        t.by("create create create mount unmount destroy", "create mount unmount destroy").to_owned(),
    );
    t.field("event volume create: the driver", &volumes[0], "/Actor/Attributes/driver", "local");
    let mounted = volumes.iter().find(|event| event["Action"] == "mount").cloned().unwrap_or_default();
    t.field("event mount: the container's id", &mounted, "/Actor/Attributes/container", id);
    t.field("event mount: the path", &mounted, "/Actor/Attributes/destination", "/data");
}

async fn filtered(t: Case) {
    let own = json!({"own": t.name("a")});
    let all = Recorder::new(&t, json!({})).await;
    let label = Recorder::new(&t, json!({"label": [format!("{LABEL}={}", t.installation)]})).await;
    let kinds = Recorder::new(&t, json!({"type": ["network", "volume"]})).await;
    let starts = Recorder::new(&t, json!({"event": ["start", "die"], "label": [format!("own={}", t.name("a"))]})).await;
    let named = Recorder::new(&t, json!({"container": [t.name("other")]})).await;
    let network = t.network("net", &t.subnet()).await;
    t.volume("disk", json!({})).await;
    let id = t.sleeper_labelled("a", &own).await;
    let other = t.create("other", json!({"Cmd": ["true"]})).await;
    let exec = t.post(&format!("/containers/{id}/exec"), json!({"Cmd": ["sh", "-c", "exit 3"]})).await.text("/Id");
    t.post(&format!("/exec/{exec}/start"), json!({"Detach": true})).await;
    let exec_died = t.wait("its end", || async { all.events().into_iter().find(|event| event["Action"] == "exec_die" && event["Actor"]["ID"] == id) }).await;
    t.field("event exec_die: the exit code", &exec_died, "/Actor/Attributes/exitCode", "3");
    t.field("event exec_die: the exec's id", &exec_died, "/Actor/Attributes/execID", exec);
    let actions = all.actions("container");
    t.holds("event exec_create: with the command", actions.contains(&"exec_create: sh -c exit 3".to_owned()), &actions);
    t.holds("event exec_start: with the command", actions.contains(&"exec_start: sh -c exit 3".to_owned()), &actions);
    t.remove(&id).await;
    t.remove(&other).await;
    t.delete(&format!("/networks/{network}")).await;
    t.delete(&format!("/volumes/{}", t.name("disk"))).await;
    let of = |recorder: &Recorder, id: &str| recorder.events().iter().filter(|event| event["Actor"]["ID"] == id).count();
    t.wait("all is told", || async {
        let seen = all.events();
        let gone = |id: &str| seen.iter().any(|event| event["Action"] == "destroy" && event["Actor"]["ID"] == id);
        let all_gone = gone(&id) && gone(&other) && gone(&network) && gone(&t.name("disk"));
        // Each stream has its own pace.
        let elsewhere = of(&label, &id) > 0 && of(&kinds, &network) > 0 && of(&named, &other) >= 2 && starts.actions("container").len() >= 2;
        (all_gone && elsewhere).then_some(())
    })
    .await;
    t.holds("events: a label filter keeps those of containers", of(&label, &id) > 0, label.events());
    t.eq("events: a label filter drops those of networks and volumes", (of(&label, &network), of(&label, &t.name("disk"))), (0, 0));
    t.eq("events: a filter of types", (of(&kinds, &id), of(&kinds, &network) > 0, of(&kinds, &t.name("disk")) > 0), (0, true, true));
    let mine: Vec<String> = starts.actions("container");
    t.eq("events: a filter of actions leaves exec_start and exec_die out", mine, vec!["start".to_owned(), "die".to_owned()]);
    t.eq("events: a filter by a container's name", (of(&named, &id), of(&named, &other) >= 2), (0, true));
    t.eq("events: an unknown filter is no failure", t.get(&format!("/events?until=1&{}", filters(json!({"wish": ["x"]})))).await.status, 200);
}

async fn of_health(t: Case) {
    let own = format!("own={}", t.name("a"));
    let recorder = Recorder::new(&t, json!({"event": ["health_status"], "label": [own]})).await;
    let with_others = Recorder::new(&t, json!({"event": ["health_status", "start", "die"], "label": [own]})).await;
    let body = json!({
        "Cmd": ["sleep", "600"], "Labels": {"own": t.name("a")}, "HostConfig": {"Init": true},
        "Healthcheck": {"Test": ["CMD", "test", "-e", "/tmp/well"], "Interval": 1_000_000_000, "Timeout": 5_000_000_000_i64, "Retries": 1},
    });
    let id = t.run("a", body).await;
    recorder.until(&t, "health_status: unhealthy").await;
    let exec = t.post(&format!("/containers/{id}/exec"), json!({"Cmd": ["touch", "/tmp/well"]})).await.text("/Id");
    t.post(&format!("/exec/{exec}/start"), json!({"Detach": true})).await;
    recorder.until(&t, "health_status: healthy").await;
    t.eq("events of health: one for each turn", recorder.actions("container").join(", "), "health_status: unhealthy, health_status: healthy".to_owned());
    t.stop(&id).await;
    with_others.until(&t, "die").await;
    let mine = with_others.actions("container");
    t.holds(
        "events: `health_status` among others is matched by its beginning",
        mine.contains(&"health_status: healthy".to_owned()) && mine.first().is_some_and(|action| action == "start"),
        &mine,
    );
    t.holds("events: with `health_status` among them `start` matches no exec_start", !mine.iter().any(|action| action.starts_with("exec_")), &mine);
}

async fn of_images(t: Case) {
    let recorder = Recorder::new(&t, json!({"type": ["image"]})).await;
    let reference = format!("{}:1", t.name("a"));
    let id = t.import(&reference, &[&format!("LABEL own={}", t.name("a"))]).await;
    t.delete(&format!("/images/{reference}")).await;
    t.wait("its deletion", || async { recorder.events().iter().any(|event| event["Action"] == "delete" && event["Actor"]["ID"] == id).then_some(()) }).await;
    let actions: Vec<String> =
        recorder.events().iter().filter(|event| event["Actor"]["ID"] == id).map(|event| event["Action"].as_str().unwrap_or_default().to_owned()).collect();
    t.holds("events of an image", actions.contains(&"untag".to_owned()) && actions.last().is_some_and(|action| action == "delete"), &actions);
}

async fn remembered(t: Case) {
    let start = t.now().await;
    for _ in 0..130 {
        t.volume("ring", json!({})).await;
        t.delete(&format!("/volumes/{}", t.name("ring"))).await;
    }
    let end = t.now().await;
    let history = async |since: &str, until: &str, given: Value| {
        let reply = t.get(&format!("/events?since={since}&until={until}&{}", filters(given))).await;
        let text = reply.body.as_str().map_or_else(|| reply.body.to_string(), str::to_owned);
        text.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let mine = history(&start, &end, json!({"type": ["volume"], "volume": [t.name("ring")]})).await;
    t.holds("M10: of more it remembers the last", mine.len() > 20 && mine.last().is_some_and(|event| event["Action"] == "destroy"), mine.len());
    let times: Vec<i64> = mine.iter().filter_map(|event| event["timeNano"].as_i64()).collect();
    t.holds("M10: in the order of their time", times.is_sorted(), &times);
    let middle = mine[mine.len() / 2]["timeNano"].as_i64().unwrap();
    let since = history(&format!("{}.{:09}", middle / 1_000_000_000, middle % 1_000_000_000), &end, json!({"volume": [t.name("ring")]})).await;
    t.eq("events: `since` includes its instant", since.first().map(|event| at(event, "/timeNano")), Some(json!(middle)));
    let until = history("1", &format!("{}.{:09}", middle / 1_000_000_000, middle % 1_000_000_000), json!({"volume": [t.name("ring")]})).await;
    t.holds("events: `until` ends there", until.iter().all(|event| event["timeNano"].as_i64() <= Some(middle)), until.last());
    // What others do meanwhile lies behind `until`.
    let whole = t.wait("all that it remembers", || async { Some(history("1", &t.now().await, json!({})).await.len()).filter(|count| *count >= 256) }).await;
    t.eq("M10: the engine remembers 256 events", whole, 256);
    t.eq("events: nothing before anything happened", history("1", "2", json!({})).await.len(), 0);
}
