//! Lists of containers: filters, order and texts; and that a label proves nothing.

use serde_json::{Value, json};

use crate::Group;
use crate::support;
use crate::target::{Case, LABEL, at, filters};

pub fn groups() -> Vec<Group> {
    vec![group!(filtered), group!(texts), group!(spoofed)]
}

fn ids(list: &[Value]) -> Vec<String> {
    list.iter().map(|container| at(container, "/Id").as_str().unwrap_or_default().to_owned()).collect()
}

async fn filtered(t: Case) {
    let network = t.network("net", &t.subnet()).await;
    t.volume("disk", json!({})).await;
    let mount = json!({"Mounts": [{"Type": "volume", "Source": t.name("disk"), "Target": "/data"}], "NetworkMode": network, "Init": true});
    let first = t.run("one", json!({"Cmd": ["sleep", "600"], "Labels": {"kind": "a", "own": t.name("one")}, "HostConfig": mount})).await;
    let second = t.run("two", json!({"Cmd": ["sh", "-c", "exit 3"], "Labels": {"kind": "b", "own": t.name("two")}})).await;
    let third = t.create("two-b", json!({"Cmd": ["true"], "Labels": {"kind": "", "own": t.name("three")}})).await;
    t.ended(&second).await;
    let mine = json!([format!("{LABEL}={}", t.installation)]);
    let names = json!([t.name("")]);
    let cases: Vec<(&str, Value, Vec<&String>)> = vec![
        ("newest first", json!({"name": names}), vec![&third, &second, &first]),
        ("by a key of a label", json!({"name": names, "label": ["kind"]}), vec![&third, &second, &first]),
        ("by a label", json!({"name": names, "label": ["kind=a"]}), vec![&first]),
        ("by a label without a value", json!({"name": names, "label": ["kind="]}), vec![&third]),
        ("by two labels: both", json!({"label": ["kind=a", format!("own={}", t.name("one"))]}), vec![&first]),
        ("by two labels of which one is another's: none", json!({"label": ["kind=b", format!("own={}", t.name("one"))]}), vec![]),
        ("by part of a name", json!({"name": [t.name("two")]}), vec![&third, &second]),
        ("by a name as an expression", json!({"name": [format!("^/?{}$", t.name("two"))]}), vec![&second]),
        ("by two names: either", json!({"name": [t.name("two-b"), t.name("one")]}), vec![&third, &first]),
        ("by id", json!({"id": [first]}), vec![&first]),
        ("by the beginning of an id", json!({"id": [&second[..20]]}), vec![&second]),
        ("by status", json!({"name": names, "status": ["created"]}), vec![&third]),
        ("by two statuses: either", json!({"name": names, "status": ["created", "running"]}), vec![&third, &first]),
        ("by exit code", json!({"name": names, "exited": ["3"]}), vec![&second]),
        ("by network", json!({"network": [network]}), vec![&first]),
        ("by the name of a network", json!({"network": [t.name("net")]}), vec![&first]),
        ("by volume", json!({"volume": [t.name("disk")]}), vec![&first]),
        ("by image", json!({"name": names, "ancestor": [support::IMAGE]}), vec![&third, &second, &first]),
        ("by something that is before", json!({"name": names, "before": [second]}), vec![&first]),
        ("by something that is since", json!({"name": names, "since": [second]}), vec![&third]),
        ("by labels of nobody: none", json!({"label": ["dockmaster.nobody=x"]}), vec![]),
    ];
    for (what, filters, expected) in cases {
        let found = ids(&t.list(filters).await);
        t.eq(&format!("list: {what}"), found.iter().collect::<Vec<_>>(), expected);
    }
    let running = t.get(&format!("/containers/json?{}", filters(json!({"label": mine, "name": names})))).await;
    t.eq("list: without `all` only what runs", ids(running.body.as_array().unwrap()), vec![first.clone()]);
    let status = t.get(&format!("/containers/json?{}", filters(json!({"name": names, "status": ["exited"]})))).await;
    t.eq("list: a filter of status needs no `all`", ids(status.body.as_array().unwrap()), vec![second.clone()]);
    let limit = t.get(&format!("/containers/json?limit=2&{}", filters(json!({"name": names})))).await;
    t.eq("list: the newest of a limit, running or not", ids(limit.body.as_array().unwrap()), vec![third.clone(), second.clone()]);
    let unknown = t.get(&format!("/containers/json?{}", filters(json!({"wish": ["x"]})))).await;
    t.reply("list: an unknown filter is refused", &unknown, 400, "nvalid filter 'wish'");
    let bad = t.get(&format!("/containers/json?{}", filters(json!({"status": ["wish"]})))).await;
    t.reply("list: an unknown status is refused", &bad, 400, "");
}

async fn texts(t: Case) {
    let network = t.network("net", &t.subnet()).await;
    let id = t.run("up", json!({"Cmd": ["sleep", "600"], "Labels": {"a": "b"}, "HostConfig": {"NetworkMode": network, "Init": true}})).await;
    let listed = t.listed(&id).await;
    t.holds(
        "list: the text of the first second",
        at(&listed, "/Status").as_str().is_some_and(|text| text == "Up Less than a second" || text == "Up 1 second" || text.ends_with(" seconds")),
        &listed["Status"],
    );
    let later = t
        .wait("some seconds", || async { Some(t.listed(&id).await).filter(|listed| listed["Status"].as_str().is_some_and(|text| text.ends_with(" seconds"))) })
        .await;
    t.holds("list: the text of some seconds", at(&later, "/Status").as_str().is_some_and(|text| text.starts_with("Up ")), &later["Status"]);
    t.field("list: the labels", &listed, "/Labels", json!({"a": "b", LABEL: t.installation}));
    t.field("list: the command in one line", &listed, "/Command", "sleep 600");
    t.holds("list: the second of its making", at(&listed, "/Created").as_i64() > Some(1_600_000_000), &listed["Created"]);
    let endpoint = &listed["NetworkSettings"]["Networks"][t.name("net")];
    t.eq("list: the networks by name, with ids", &endpoint["NetworkID"], &json!(network));
    t.field("list: the network mode is what was asked for", &listed, "/HostConfig/NetworkMode", network.clone());
    let quick = t.run("quick", json!({"Cmd": ["true"]})).await;
    t.ended(&quick).await;
    let text = t.wait("a second since its end", || async {
        Some(t.listed(&quick).await["Status"].as_str().unwrap_or_default().to_owned()).filter(|text| text.contains("second") && !text.contains("Less"))
    });
    let text = text.await;
    t.holds("list: the text of an end a second ago", text.starts_with("Exited (0) ") && text.ends_with(" ago"), &text);
}

async fn spoofed(t: Case) {
    let reference = format!("{}:1", t.name("spoof"));
    t.import(&reference, &["LABEL spoofed=yes", "LABEL own=image"]).await;
    let id = t.create("plain", json!({"Image": reference, "Cmd": ["true"], "Labels": {"own": "container"}})).await;
    t.eq(
        "M6: a label of an image matches the filter of containers",
        ids(&t.list(json!({"label": ["spoofed=yes"], "name": [t.name("plain")]})).await),
        vec![id.clone()],
    );
    t.field("M6: a container has the labels of its image", &t.inspect(&id).await, "/Config/Labels/spoofed", "yes");
    t.field("a container's own label goes before the image's", &t.inspect(&id).await, "/Config/Labels/own", "container");
    t.field("list: an image given by reference is named so", &t.listed(&id).await, "/Image", reference);
}
