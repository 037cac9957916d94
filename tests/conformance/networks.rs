//! Networks: one name, one subnet, one owner of each address; and what becomes of a container whose network goes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::Group;
use crate::target::{Case, LABEL, at, filters};

pub fn groups() -> Vec<Group> {
    vec![group!(made), group!(duplicates), group!(subnets), group!(membership), group!(lifetime), group!(endpoints_at_create), group!(listed_networks)]
}

impl Case {
    async fn connect(&self, network: &str, container: &str, endpoint: Value) -> crate::target::Reply {
        self.post(&format!("/networks/{network}/connect"), json!({"Container": container, "EndpointConfig": endpoint})).await
    }

    async fn disconnect(&self, network: &str, container: &str, force: bool) -> crate::target::Reply {
        self.post(&format!("/networks/{network}/disconnect"), json!({"Container": container, "Force": force})).await
    }
}

async fn made(t: Case) {
    let subnet = t.subnet();
    let reply = t.try_network("a", &subnet, json!({"Labels": {"x": "y"}})).await;
    t.eq("network create: 201", reply.status, 201);
    let id = reply.text("/Id");
    t.holds("network create: an id of 64 digits", id.len() == 64, &id);
    let inspect = t.get(&format!("/networks/{id}")).await;
    t.eq("network inspect: the name", inspect.text("/Name"), t.name("a"));
    t.eq("network inspect: the driver", inspect.text("/Driver"), "bridge");
    t.eq("network inspect: the subnet", inspect.text("/IPAM/Config/0/Subnet"), subnet);
    t.eq("network inspect: the labels", inspect.at("/Labels"), json!({"x": "y", LABEL: t.installation}));
    t.eq("network inspect: no containers", inspect.at("/Containers"), json!({}));
    t.eq("network inspect: it is local", inspect.text("/Scope"), "local");
    t.holds("network inspect: when it was made", inspect.text("/Created").parse::<jiff::Timestamp>().is_ok(), inspect.at("/Created"));
    t.eq("network inspect: also by name", t.get(&format!("/networks/{}", t.name("a"))).await.text("/Id"), id.clone());
    t.eq("network remove: 204", t.delete(&format!("/networks/{id}")).await.status, 204);
    t.reply("network remove of what is gone: 404", &t.delete(&format!("/networks/{id}")).await, 404, &format!("network {id} not found"));
    t.reply("network inspect of what is gone: 404", &t.get(&format!("/networks/{id}")).await, 404, &format!("network {id} not found"));
    t.reply("the engine's own network stays", &t.delete("/networks/none").await, 403, "is a pre-defined network and cannot be removed");
    let own = t.post("/networks/create", json!({"Name": "host"})).await;
    t.reply("the names of the engine's own networks are taken", &own, 403, "operation is not permitted on predefined host network");
    t.eq("a network without a name", t.post("/networks/create", json!({"Name": ""})).await.status, t.by(500, 400));
    t.reply("a network of an unknown driver", &t.try_network("odd", &t.subnet(), json!({"Driver": "wish"})).await, 404, "plugin \"wish\" not found");
}

async fn duplicates(t: Case) {
    let first = t.network("twin", &t.subnet()).await;
    let second = t.try_network("twin", &t.subnet(), json!({})).await;
    t.reply("M2: a second network of one name", &second, t.by(201, 409), t.by("", "already exists"));
    t.holds("M2: with a warning at most", t.by(second.text("/Warning").contains("already exists"), true), &second.body);
    let checked = t.try_network("twin", &t.subnet(), json!({"CheckDuplicate": true})).await;
    t.reply("M2: a second network of one name, with CheckDuplicate: 409", &checked, 409, "already exists");
    let by_name = t.get(&format!("/networks/{}", t.name("twin"))).await;
    t.reply("M2: two of one name cannot be told apart by it", &by_name, t.by(400, 200), t.by("is ambiguous", ""));
    t.eq("M2: by id they can", t.get(&format!("/networks/{first}")).await.status, 200);
    let race = futures::future::join_all((0..20).map(|_| t.try_network("race", "", json!({"IPAM": null, "CheckDuplicate": true})))).await;
    let made = race.iter().filter(|reply| reply.status == 201).count();
    let refused = race.iter().filter(|reply| reply.status == 409).count();
    t.holds(
        "M2: of 20 creations at once, with CheckDuplicate, one succeeds; on 20.10 at least one",
        t.by(made >= 1, made == 1) && made + refused == 20,
        (made, refused),
    );
    let listed = t.get(&format!("/networks?{}", filters(json!({"name": [t.name("race")]})))).await;
    t.eq("M2: a list shows each of them", listed.body.as_array().map(Vec::len), Some(made));
    for network in listed.body.as_array().unwrap() {
        t.delete(&format!("/networks/{}", network["Id"].as_str().unwrap())).await;
    }
    if second.status == 201 {
        t.delete(&format!("/networks/{}", second.text("/Id"))).await;
    }
    t.eq("M2: with the other one gone the name leads to it again", t.get(&format!("/networks/{}", t.name("twin"))).await.text("/Id"), first);
}

async fn subnets(t: Case) {
    let subnet = t.subnet();
    t.network("a", &subnet).await;
    let same = t.try_network("b", &subnet, json!({})).await;
    t.reply("the same subnet again: 403", &same, 403, "Pool overlaps with other one on this address space");
    let wide = t.try_network("c", &format!("{}/24", subnet.rsplit_once('.').map(|(net, _)| format!("{net}.0")).unwrap()), json!({})).await;
    t.reply("a subnet around another: 403", &wide, 403, "Pool overlaps with other one on this address space");
    let odd = t.try_network("d", "nonsense", json!({})).await;
    t.eq("a subnet that is none", odd.status, t.by(500, 400));
    t.eq("a refused network is in no list", t.get(&format!("/networks?{}", filters(json!({"name": [t.name("b")]})))).await.body, json!([]));
    let base = t.subnet();
    let small = t.network("small", &base.replace("/28", "/30")).await;
    let body = json!({"Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": small, "Init": true}});
    let first = t.run("first", body.clone()).await;
    let address = at(&t.inspect(&first).await, &format!("/NetworkSettings/Networks/{}/IPAddress", t.name("small")));
    let network: Vec<&str> = base.trim_end_matches("/28").rsplitn(2, '.').collect();
    let last: u8 = network[0].parse().unwrap();
    t.eq("the gateway has the first address, a container the second", address, json!(format!("{}.{}", network[1], last + 2)));
    let second = t.create("second", body).await;
    t.reply("a subnet that is used up: start refused", &t.start(&second).await, 500, "no available IPv4 addresses on this network's address pools");
    t.field("a subnet that is used up: as created", &t.inspect(&second).await, "/State/Status", "created");
    t.stop(&first).await;
    t.eq("a stopped container gives its address back", t.start(&second).await.status, 204);
}

async fn membership(t: Case) {
    let (one, two) = (t.network("one", &t.subnet()).await, t.network("two", &t.subnet()).await);
    let networks = async |id: &str| at(&t.inspect(id).await, "/NetworkSettings/Networks");
    let names = |networks: &Value| networks.as_object().map(|map| map.keys().cloned().collect::<BTreeSet<_>>()).unwrap_or_default();
    let (just_one, just_both) = (BTreeSet::from([t.name("one")]), BTreeSet::from([t.name("one"), t.name("two")]));
    let body = json!({
        "Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": one, "Init": true},
        "NetworkingConfig": {"EndpointsConfig": {&one: {"Aliases": ["shop", "shop.alice"]}}},
    });
    let id = t.create("a", body).await;
    let before = networks(&id).await;
    t.eq("a network asked for by id shows by its name", names(&before), just_one.clone());
    let endpoint = before.as_object().and_then(|map| map.values().next()).cloned().unwrap_or_default();
    t.eq("before the first start an endpoint has no network id", at(&endpoint, "/NetworkID"), json!(""));
    t.eq("before the first start an endpoint has no address", at(&endpoint, "/IPAddress"), json!(""));
    t.eq("connect of what never ran: 200", t.connect(&two, &id, json!({"Aliases": ["second"]})).await.status, 200);
    t.eq("connect of what never ran shows", networks(&id).await.as_object().map(serde_json::Map::len), Some(2));
    t.start(&id).await;
    let running = networks(&id).await;
    t.eq("once started networks show by name", names(&running), just_both.clone());
    t.eq("once started an endpoint has its network's id", at(&running, &format!("/{}/NetworkID", t.name("one"))), json!(one));
    t.holds(
        "once started an endpoint has an address",
        at(&running, &format!("/{}/IPAddress", t.name("two"))).as_str().is_some_and(|text| text.starts_with("10.")),
        &running,
    );
    let aliases = at(&running, &format!("/{}/Aliases", t.name("one")));
    t.eq("20.10 adds the short id to the aliases", aliases, t.by(json!(["shop", "shop.alice", &id[..12]]), json!(["shop", "shop.alice"])));
    let names_there = at(&running, &format!("/{}/DNSNames", t.name("one")));
    t.eq("the newer one tells all names apart", names_there.is_array(), t.by(false, true));
    t.reply(
        "connect of what is connected: 403",
        &t.connect(&two, &id, json!({})).await,
        403,
        &format!("endpoint with name {} already exists in network {}", t.name("a"), t.name("two")),
    );
    let inside = t.get(&format!("/networks/{two}")).await.at("/Containers");
    t.eq("network inspect: who is on it", at(&inside, &format!("/{id}/Name")), json!(t.name("a")));
    t.eq("disconnect: 200", t.disconnect(&two, &id, false).await.status, 200);
    t.eq("disconnected: it is gone from there", names(&networks(&id).await), just_one);
    let again = t.disconnect(&two, &id, false).await;
    t.reply("disconnect of what is not connected", &again, 500, "is not connected to");
    t.reply("connect to what is not there: 404", &t.connect("dockmaster-nothing", &id, json!({})).await, 404, "network dockmaster-nothing not found");
    t.reply("connect of what is not there: 404", &t.connect(&two, "dockmaster-nothing", json!({})).await, 404, "No such container: dockmaster-nothing");
    t.reply("disconnect from what is not there: 404", &t.disconnect("dockmaster-nothing", &id, false).await, 404, "network dockmaster-nothing not found");
    t.reply("disconnect of what is not there: 404", &t.disconnect(&two, "dockmaster-nothing", false).await, 404, "No such container");
    t.reply(
        "connect to the host's network: 400",
        &t.connect("host", &id, json!({})).await,
        400,
        t.by("connected to host network", "cannot connect container to host network"),
    );
    t.eq("connect of what runs: 200", t.connect(&two, &id, json!({"Aliases": ["third"]})).await.status, 200);
    let aliases = at(&networks(&id).await, &format!("/{}/Aliases", t.name("two")));
    t.eq("connect gives the aliases that were asked for", aliases.as_array().and_then(|list| list.first().cloned()), Some(json!("third")));
    t.stop(&id).await;
    t.eq("a stopped container keeps its networks", names(&networks(&id).await), just_both);
    t.eq("a stopped container is not on its networks", t.get(&format!("/networks/{two}")).await.at("/Containers"), json!({}));
    t.eq("disconnect of what is stopped: 200", t.disconnect(&two, &id, false).await.status, 200);
    let stopped = networks(&id).await;
    t.eq("a stopped container keeps the network's id", at(&stopped, &format!("/{}/NetworkID", t.name("one"))), json!(one));
    t.eq("a stopped container has no address", at(&stopped, &format!("/{}/IPAddress", t.name("one"))), json!(""));
}

async fn lifetime(t: Case) {
    let subnet = t.subnet();
    let first = t.network("a", &subnet).await;
    let body = |mode: &str| json!({"Cmd": ["sleep", "600"], "HostConfig": {"NetworkMode": mode, "Init": true}});
    let by_id = t.run("by-id", body(&first)).await;
    let by_name = t.run("by-name", body(&t.name("a"))).await;
    let refused = t.delete(&format!("/networks/{first}")).await;
    t.reply("M16: removal of a network in use: 403", &refused, 403, "has active endpoints");
    t.stop(&by_id).await;
    t.stop(&by_name).await;
    let never = t.create("never", body(&first)).await;
    t.eq("M16: containers that do not run hold no network", t.delete(&format!("/networks/{first}")).await.status, 204);
    t.reply("M16: start on a network that is gone: 404", &t.start(&by_id).await, 404, &format!("network {first} not found"));
    let second = t.network("a", &subnet).await;
    t.reply("M16: another network of its name does not help: 404", &t.start(&by_id).await, 404, &format!("network {first} not found"));
    t.reply("M16: not even where it was asked for by name", &t.start(&by_name).await, 404, &format!("network {first} not found"));
    let never_ran = t.start(&never).await;
    t.reply(
        "M16: nor one that never ran; on 20.10 that takes the name's new network",
        &never_ran,
        t.by(204, 404),
        &t.by(String::new(), format!("network {first} not found")),
    );
    t.stop(&never).await;
    t.field("M16: it is as before", &t.inspect(&by_id).await, "/State/Status", "exited");
    let fresh = t.create("fresh", body(&t.name("a"))).await;
    t.eq("M16: a new container starts on the new network", t.start(&fresh).await.status, 204);
    t.stop(&fresh).await;
    let pruned = t.post(&format!("/networks/prune?{}", filters(json!({"label": [format!("{LABEL}={}", t.installation), "own=pruned"]}))), Value::Null).await;
    t.eq("networks prune finds nothing of those labels", pruned.at("/NetworksDeleted"), Value::Null);
    let third = t.try_network("pruned", &t.subnet(), json!({"Labels": {"own": t.name("pruned")}})).await.text("/Id");
    let sleeper = t.run("sleeper", body(&third)).await;
    let prune = || async {
        t.post(&format!("/networks/prune?{}", filters(json!({"label": [format!("own={}", t.name("pruned"))]}))), Value::Null).await.at("/NetworksDeleted")
    };
    t.eq("M16: networks prune leaves a network in use", prune().await, Value::Null);
    t.stop(&sleeper).await;
    t.eq("M16: networks prune takes the networks of stopped containers", prune().await, json!([t.name("pruned")]));
    t.eq("the second network is untouched", t.get(&format!("/networks/{second}")).await.status, 200);
    let nowhere = t.try_create("nowhere", body("dockmaster-nothing")).await;
    t.eq("create on a network that is not there: 201", nowhere.status, 201);
    t.reply("start on a network that was never there: 404", &t.start(&nowhere.text("/Id")).await, 404, "network dockmaster-nothing not found");
}

async fn endpoints_at_create(t: Case) {
    let (one, two) = (t.network("one", &t.subnet()).await, t.network("two", &t.subnet()).await);
    let body = json!({"Cmd": ["true"], "HostConfig": {"NetworkMode": one}, "NetworkingConfig": {"EndpointsConfig": {&one: {}, &two: {}}}});
    let reply = t.try_create("both", body).await;
    t.reply("two endpoints at creation: since API 1.44", &reply, t.by(400, 201), t.by("Container cannot be connected to network endpoints", ""));
    let none = t.run("none", json!({"Cmd": ["sleep", "600"]})).await;
    t.eq(
        "without a network it shows `none`",
        at(&t.inspect(&none).await, "/NetworkSettings/Networks").as_object().map(|map| map.keys().cloned().collect::<Vec<_>>()),
        Some(vec!["none".to_owned()]),
    );
    t.reply(
        "connect of what has network `none`",
        &t.connect(&one, &none, json!({})).await,
        400,
        "container cannot be connected to multiple networks with one of the networks in private (none) mode",
    );
}

async fn listed_networks(t: Case) {
    let subnet = t.subnet();
    let one = t.try_network("one", &subnet, json!({"Labels": {"own": t.name("one")}})).await.text("/Id");
    let two = t.network("one-two", &t.subnet()).await;
    let found = async |given: Value| {
        let list = t.get(&format!("/networks?{}", filters(given))).await;
        let mut ids: Vec<String> = list.body.as_array().into_iter().flatten().map(|network| network["Id"].as_str().unwrap_or_default().to_owned()).collect();
        ids.sort();
        ids
    };
    let mut both = vec![one.clone(), two.clone()];
    both.sort();
    t.eq("networks: a filter of names finds parts of names", found(json!({"name": [t.name("one")]})).await, both);
    t.eq("networks: by label", found(json!({"label": [format!("own={}", t.name("one"))]})).await, vec![one.clone()]);
    t.eq("networks: by id", found(json!({"id": [two]})).await, vec![two.clone()]);
    t.eq("networks: by driver and name", found(json!({"driver": ["bridge"], "name": [t.name("one-two")]})).await, vec![two.clone()]);
    t.holds("networks: the engine's own are listed", found(json!({"type": ["builtin"]})).await.len() >= 2, found(json!({"type": ["builtin"]})).await);
    let listed = t.get(&format!("/networks?{}", filters(json!({"id": [one]})))).await;
    t.eq("networks: a list has labels", listed.at("/0/Labels/own"), json!(t.name("one")));
    t.eq("networks: a list has subnets", listed.at("/0/IPAM/Config/0/Subnet"), json!(subnet));
    t.reply("networks: an unknown filter is refused", &t.get(&format!("/networks?{}", filters(json!({"wish": ["x"]})))).await, 400, "nvalid filter 'wish'");
}
