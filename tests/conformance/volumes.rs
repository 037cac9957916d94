//! Volumes: whose one is, when it goes, and what an old client's prune takes.

use serde_json::{Value, json};

use crate::Group;
use crate::target::{Case, LABEL, at, filters};

pub fn groups() -> Vec<Group> {
    vec![group!(made), group!(foreign), group!(in_use), group!(anonymous), group!(pruned), group!(listed_volumes)]
}

fn mounted(source: &str) -> Value {
    json!({"Cmd": ["sleep", "600"], "HostConfig": {"Init": true, "Mounts": [{"Type": "volume", "Source": source, "Target": "/data"}]}})
}

impl Case {
    async fn volume_status(&self, name: &str) -> u16 {
        self.get(&format!("/volumes/{name}")).await.status
    }
}

async fn made(t: Case) {
    let reply = t.volume("a", json!({"x": "y"})).await;
    t.eq("volume create: 201", reply.status, 201);
    t.eq("volume create answers with the volume", reply.text("/Name"), t.name("a"));
    t.eq("volume create: its labels", reply.at("/Labels"), json!({"x": "y", LABEL: t.installation}));
    t.eq("volume create: its driver", reply.text("/Driver"), "local");
    let inspect = t.get(&format!("/volumes/{}", t.name("a"))).await;
    t.eq("volume inspect: the name", inspect.text("/Name"), t.name("a"));
    t.eq("volume inspect: no options", inspect.at("/Options"), Value::Null);
    t.eq("volume inspect: it is local", inspect.text("/Scope"), "local");
    t.holds(
        "volume inspect: where its files are",
        inspect.text("/Mountpoint").ends_with(&format!("/volumes/{}/_data", t.name("a"))),
        inspect.at("/Mountpoint"),
    );
    t.holds("volume inspect: when it was made", inspect.text("/CreatedAt").parse::<jiff::Timestamp>().is_ok(), inspect.at("/CreatedAt"));
    t.eq("volume remove: 204", t.delete(&format!("/volumes/{}", t.name("a"))).await.status, 204);
    t.reply("volume remove of what is gone: 404", &t.delete(&format!("/volumes/{}", t.name("a"))).await, 404, "no such volume");
    t.reply("volume inspect of what is gone: 404", &t.get(&format!("/volumes/{}", t.name("a"))).await, 404, "no such volume");
    t.eq("volume remove by force of what is gone: 204", t.delete(&format!("/volumes/{}?force=1", t.name("a"))).await.status, 204);
    t.reply("a volume name of one character is refused", &t.post("/volumes/create", json!({"Name": "x"})).await, 400, "volume name is too short");
    let bad = t.post("/volumes/create", json!({"Name": format!("{} x", t.name("bad"))})).await;
    t.reply("a volume name with a blank is refused", &bad, 400, "includes invalid characters for a local volume name");
    let odd = t.post("/volumes/create", json!({"Name": t.name("odd"), "Driver": "wish"})).await;
    t.reply("a volume of an unknown driver is refused", &odd, t.by(404, 404), "plugin \"wish\" not found");
    let options = t.post("/volumes/create", json!({"Name": t.name("opt"), "DriverOpts": {"type": "tmpfs", "device": "tmpfs"}})).await;
    t.eq("a volume's options show", options.at("/Options"), json!({"type": "tmpfs", "device": "tmpfs"}));
}

async fn foreign(t: Case) {
    t.volume("a", json!({"owner": "first"})).await;
    let again = t.volume("a", json!({"owner": "second"})).await;
    t.eq("M3: creating over an existing name: 201", again.status, 201);
    t.eq("M3: it returns the foreign one, with its labels", again.at("/Labels/owner"), json!("first"));
    t.eq("M3: the labels stay", t.get(&format!("/volumes/{}", t.name("a"))).await.at("/Labels/owner"), json!("first"));
    let race = futures::future::join_all((0..10).map(|n| t.volume("race", json!({"n": n.to_string()})))).await;
    let mut owners: Vec<String> = race.iter().map(|reply| reply.text("/Labels/n")).collect();
    owners.sort();
    owners.dedup();
    t.eq("M3: of many creations at once all get the one volume", (owners.len(), race.iter().all(|reply| reply.status == 201)), (1, true));
    let id = t.create("implicit", mounted(&t.name("unmade"))).await;
    let made = t.get(&format!("/volumes/{}", t.name("unmade"))).await;
    t.eq("a creation makes a volume that is missing", made.status, 200);
    t.eq("a volume that a creation made has no labels", made.at("/Labels"), Value::Null);
    t.remove(&id).await;
    t.eq("a removal leaves a named volume, even with v=1", t.volume_status(&t.name("unmade")).await, 200);
}

async fn in_use(t: Case) {
    t.volume("a", json!({})).await;
    let id = t.create("a", mounted(&t.name("a"))).await;
    let path = format!("/volumes/{}", t.name("a"));
    t.reply("removal of a volume that a created container has: 409", &t.delete(&path).await, 409, &format!("volume is in use - [{id}]"));
    t.start(&id).await;
    t.reply("removal of a volume that a running container has: 409", &t.delete(&path).await, 409, "volume is in use");
    t.reply("removal by force of a volume in use: 409", &t.delete(&format!("{path}?force=1")).await, 409, "volume is in use");
    let mount = at(&t.inspect(&id).await, "/Mounts/0");
    t.field("inspect: a mount's type", &mount, "/Type", "volume");
    t.field("inspect: a mount's volume", &mount, "/Name", t.name("a"));
    t.field("inspect: a mount's path", &mount, "/Destination", "/data");
    t.field("inspect: a mount can be written", &mount, "/RW", true);
    let listed = t.listed(&id).await;
    t.field("list: a mount's volume", &listed, "/Mounts/0/Name", t.name("a"));
    t.field("list: a mount's path", &listed, "/Mounts/0/Destination", "/data");
    t.stop(&id).await;
    t.reply("M4: a stopped container holds its volume: 409", &t.delete(&path).await, 409, "volume is in use");
    let other = t.create("other", mounted(&t.name("a"))).await;
    t.remove(&id).await;
    t.eq("a second container holds it too", t.delete(&path).await.status, 409);
    t.remove(&other).await;
    t.eq("once nobody has it, it can go", t.delete(&path).await.status, 204);
    let read_only = json!({"Cmd": ["true"], "HostConfig": {"Mounts": [{"Type": "volume", "Source": t.name("ro"), "Target": "/data", "ReadOnly": true}]}});
    let read_only = t.create("ro", read_only).await;
    t.field("inspect: a mount that is read-only", &t.inspect(&read_only).await, "/Mounts/0/RW", false);
}

async fn anonymous(t: Case) {
    let reference = format!("{}:1", t.name("declares"));
    t.import(&reference, &["VOLUME /cache"]).await;
    let plain = |remove: bool| json!({"Image": reference, "Cmd": ["true"], "HostConfig": {"AutoRemove": remove}});
    let id = t.create("a", plain(false)).await;
    let inspect = t.inspect(&id).await;
    let name = at(&inspect, "/Mounts/0/Name").as_str().unwrap_or_default().to_owned();
    t.holds("an image's volume is made at creation, named by 64 digits", name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit()), &inspect["Mounts"]);
    t.field("an image's volume is where the image says", &inspect, "/Mounts/0/Destination", "/cache");
    let labels = t.get(&format!("/volumes/{name}")).await.at("/Labels");
    t.eq("an anonymous volume is labelled as such by newer engines", labels, t.by(Value::Null, json!({"com.docker.volume.anonymous": ""})));
    t.delete(&format!("/containers/{id}")).await;
    t.eq("removal without v=1 leaves an anonymous volume", t.volume_status(&name).await, 200);
    t.delete(&format!("/volumes/{name}")).await;
    let id = t.create("a", plain(false)).await;
    let name = at(&t.inspect(&id).await, "/Mounts/0/Name").as_str().unwrap_or_default().to_owned();
    t.remove(&id).await;
    t.eq("removal with v=1 takes an anonymous volume", t.volume_status(&name).await, 404);
    let id = t.create("auto", plain(true)).await;
    let name = at(&t.inspect(&id).await, "/Mounts/0/Name").as_str().unwrap_or_default().to_owned();
    t.start(&id).await;
    t.wait("its removal", || async { (t.volume_status(&name).await == 404).then_some(()) }).await;
    t.holds("AutoRemove takes an anonymous volume", true, "");
    t.volume("named", json!({})).await;
    let mut named = plain(false);
    named["HostConfig"]["Mounts"] = json!([{"Type": "volume", "Source": t.name("named"), "Target": "/cache"}]);
    let id = t.create("b", named).await;
    t.field("a named volume takes the place of an image's", &t.inspect(&id).await, "/Mounts/0/Name", t.name("named"));
    t.field("a named volume takes the place of an image's: no other", &t.inspect(&id).await, "/Mounts/1", Value::Null);
    let image = t.get(&format!("/images/{reference}/json")).await;
    t.eq("an image says which volumes it declares", image.at("/Config/Volumes"), json!({"/cache": {}}));
}

async fn pruned(t: Case) {
    let own = json!({"own": t.name("pruned")});
    let prune = async |api: &str| {
        let path = format!("{api}/volumes/prune?{}", filters(json!({"label": [format!("own={}", t.name("pruned"))]})));
        t.post(&path, Value::Null).await.at("/VolumesDeleted")
    };
    t.volume("held", own.clone()).await;
    t.volume("loose", own.clone()).await;
    let holder = t.create("holder", mounted(&t.name("held"))).await;
    let newest = t.by("/v1.41", "/v1.51");
    t.eq("M4: prune by the engine's newest API", prune(newest).await, t.by(json!([t.name("loose")]), json!([])));
    t.eq("M4: prune by the newest API keeps named volumes, where it is newer than 1.41", t.volume_status(&t.name("loose")).await, t.by(404, 200));
    t.volume("loose", own.clone()).await;
    t.eq("M4: prune by API 1.41 takes named, labelled volumes", prune("/v1.41").await, json!([t.name("loose")]));
    t.eq("M4: a volume of a container that does not run is kept", t.volume_status(&t.name("held")).await, 200);
    t.remove(&holder).await;
    let all = format!("/volumes/prune?{}", filters(json!({"all": ["true"], "label": [format!("own={}", t.name("pruned"))]})));
    let all = t.post(&all, Value::Null).await;
    t.eq(
        "M4: prune of all takes it where that is known, else is refused",
        (all.status, all.at("/VolumesDeleted")),
        t.by((400, Value::Null), (200, json!([t.name("held")]))),
    );
}

async fn listed_volumes(t: Case) {
    t.volume("one", json!({"own": t.name("one")})).await;
    t.volume("one-two", json!({})).await;
    let holder = t.create("holder", mounted(&t.name("one"))).await;
    let found = async |given: Value| {
        let list = t.get(&format!("/volumes?{}", filters(given))).await;
        let mut names: Vec<String> =
            list.body["Volumes"].as_array().into_iter().flatten().map(|volume| volume["Name"].as_str().unwrap_or_default().to_owned()).collect();
        names.sort();
        names
    };
    t.eq("volumes: a filter of names finds parts of names", found(json!({"name": [t.name("one")]})).await, vec![t.name("one"), t.name("one-two")]);
    t.eq("volumes: by label", found(json!({"label": [format!("own={}", t.name("one"))]})).await, vec![t.name("one")]);
    t.eq("volumes: by two labels: both", found(json!({"label": [format!("own={}", t.name("one")), "nobody=x"]})).await, Vec::<String>::new());
    t.eq("volumes: those that no container has", found(json!({"name": [t.name("one")], "dangling": ["true"]})).await, vec![t.name("one-two")]);
    t.eq("volumes: by driver", found(json!({"name": [t.name("one-two")], "driver": ["local"]})).await, vec![t.name("one-two")]);
    t.reply("volumes: an unknown filter is refused", &t.get(&format!("/volumes?{}", filters(json!({"wish": ["x"]})))).await, 400, "nvalid filter 'wish'");
    t.remove(&holder).await;
    t.eq(
        "volumes: one whose container is gone is nobody's",
        found(json!({"name": [t.name("one")], "dangling": ["true"]})).await,
        vec![t.name("one"), t.name("one-two")],
    );
}
