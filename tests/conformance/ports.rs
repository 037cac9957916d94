//! Published ports: who gets one, what the loser is told, and when it is free again.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::Group;
use crate::target::{Case, at};

pub fn groups() -> Vec<Group> {
    vec![group!(taken), group!(shown)]
}

fn published(network: &str, ip: &str, port: u16) -> Value {
    json!({
        "Cmd": ["sleep", "600"], "ExposedPorts": {"8080/tcp": {}},
        "HostConfig": {"NetworkMode": network, "Init": true, "PortBindings": {"8080/tcp": [{"HostIp": ip, "HostPort": port.to_string()}]}},
    })
}

/// A port that nobody has, below those of outgoing connections.
fn free_port() -> u16 {
    loop {
        let port = rand::random_range(20_000..30_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

async fn taken(t: Case) {
    let network = t.network("net", &t.subnet()).await;
    let port = free_port();
    let holder = t.run("holder", published(&network, "127.0.0.1", port)).await;
    let waiter = t.create("waiter", published(&network, "127.0.0.1", port)).await;
    t.holds("M12: a taken port is no matter at creation", true, "");
    t.reply("M12: start on a taken port: 500", &t.start(&waiter).await, 500, "port is already allocated");
    let inspect = t.inspect(&waiter).await;
    t.field("M12: after that it is as created", &inspect, "/State/Status", "created");
    t.field("M12: after that its exit code is 128", &inspect, "/State/ExitCode", 128);
    t.holds(
        "M12: the error is kept",
        at(&inspect, "/State/Error").as_str().is_some_and(|text| text.contains("port is already allocated")),
        &inspect["State"]["Error"],
    );
    let wide = t.create("wide", published(&network, "0.0.0.0", port)).await;
    t.reply("a port of one address is taken for all of them", &t.start(&wide).await, 500, t.by("address already in use", "port is already allocated"));
    let other = t.create("other", published(&network, "127.0.0.2", port)).await;
    t.eq("a port of one address is free on another", t.start(&other).await.status, 204);
    t.stop(&holder).await;
    t.eq("M12: it starts as soon as the port is free", t.start(&waiter).await.status, 204);
    t.field("M12: once started its exit code is 0", &t.inspect(&waiter).await, "/State/ExitCode", 0);
    t.reply("a stopped container has no right to its port", &t.start(&holder).await, 500, "port is already allocated");
    t.remove(&waiter).await;
    t.eq("a removal frees the port", t.start(&holder).await.status, 204);
    t.pause(&holder).await;
    t.eq("a paused container keeps its port", t.start(&wide).await.status, 500);
    t.act(&holder, "unpause").await;
    t.act(&holder, "kill").await;
    t.ended(&holder).await;
    let udp = json!({"ExposedPorts": {"8080/udp": {}}, "HostConfig": {"NetworkMode": network, "PortBindings": {"8080/udp": [{"HostIp": "127.0.0.1", "HostPort": port.to_string()}]}}, "Cmd": ["sleep", "600"]});
    t.eq("a container's end frees the port", t.start(&holder).await.status, 204);
    t.run("udp", udp).await;
    t.holds("a port of TCP is free for UDP", true, "");
    let foreign = t.create("foreign", published(&network, "192.0.2.1", port)).await;
    t.eq("an address that is not the host's: 500", t.start(&foreign).await.status, 500);
    if t.real {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stranger = t.create("stranger", published(&network, "127.0.0.1", listener.local_addr().unwrap().port())).await;
        t.reply("M12: a port of another process: 500", &t.start(&stranger).await, 500, "address already in use");
        drop(listener);
        t.eq("M12: it starts as soon as the process gave it up", t.start(&stranger).await.status, 204);
    }
}

async fn shown(t: Case) {
    let network = t.network("net", &t.subnet()).await;
    let port = free_port();
    let mut body = published(&network, "127.0.0.1", port);
    body["ExposedPorts"]["9090/tcp"] = json!({});
    let id = t.create("a", body).await;
    t.field("list: no ports before the start", &t.listed(&id).await, "/Ports", json!([]));
    t.field("inspect: the ports that were asked for", &t.inspect(&id).await, "/HostConfig/PortBindings/8080~1tcp/0/HostPort", port.to_string());
    t.start(&id).await;
    let inspect = t.inspect(&id).await;
    t.field(
        "inspect: the port of a running container",
        &inspect,
        "/NetworkSettings/Ports/8080~1tcp",
        json!([{"HostIp": "127.0.0.1", "HostPort": port.to_string()}]),
    );
    t.field("inspect: a port that is not published", &inspect, "/NetworkSettings/Ports/9090~1tcp", Value::Null);
    let listed = t.listed(&id).await;
    let ports = listed["Ports"].as_array().cloned().unwrap_or_default();
    t.holds(
        "list: the port of a running container",
        ports.contains(&json!({"IP": "127.0.0.1", "PrivatePort": 8080, "PublicPort": port, "Type": "tcp"})),
        &ports,
    );
    t.holds("list: a port that is not published", ports.contains(&json!({"PrivatePort": 9090, "Type": "tcp"})), &ports);
    t.stop(&id).await;
    t.field("list: no ports after the end", &t.listed(&id).await, "/Ports", json!([]));
    t.field("inspect: no ports after the end", &t.inspect(&id).await, "/NetworkSettings/Ports", json!({}));
    let mut any = published(&network, "127.0.0.1", 0);
    any["HostConfig"]["PortBindings"]["8080/tcp"][0]["HostPort"] = json!("");
    let any = t.run("any", any).await;
    let given = at(&t.inspect(&any).await, "/NetworkSettings/Ports/8080~1tcp/0/HostPort");
    t.holds("without a number the engine chooses", given.as_str().and_then(|text| text.parse::<u16>().ok()).is_some_and(|port| port > 1023), given);
}
