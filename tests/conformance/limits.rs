//! Limits and their update in place: what takes effect, what is taken without effect, what is refused.

use std::time::Duration;

use serde_json::{Value, json};

use crate::Group;
use crate::target::{Case, LABEL, Reply, at};

pub fn groups() -> Vec<Group> {
    vec![group!(updates), group!(update_of_the_stopped), group!(out_of_memory)]
}

const MIB: i64 = 1 << 20;

async fn update(t: &Case, id: &str, body: Value) -> Reply {
    t.post(&format!("/containers/{id}/update"), body).await
}

async fn updates(t: Case) {
    let host = json!({"Init": true, "Memory": 64 * MIB, "MemorySwap": 64 * MIB, "NanoCpus": 500_000_000, "PidsLimit": 64});
    let id = t.run("a", json!({"Cmd": ["sleep", "600"], "HostConfig": host})).await;
    let counts_swap = at(&t.inspect(&id).await, "/HostConfig/MemorySwap") != -1;
    let labels = update(&t, &id, json!({"Labels": {"changed": "yes"}, "Memory": 64 * MIB, "MemorySwap": 64 * MIB})).await;
    t.eq("M5: labels given to an update are taken", labels.status, 200);
    t.field("M5: labels given to an update are ignored", &t.inspect(&id).await, "/Config/Labels", json!({LABEL: t.installation}));
    let more = update(&t, &id, json!({"Memory": 128 * MIB, "MemorySwap": 128 * MIB})).await;
    t.eq("update of memory with swap: 200", more.status, 200);
    let after = t.inspect(&id).await;
    t.field("update of memory takes effect", &after, "/HostConfig/Memory", 128 * MIB);
    let swap = at(&after, "/HostConfig/MemorySwap");
    t.holds("update of swap takes effect, where swap is counted", swap == 128 * MIB || (!counts_swap && swap == -1), swap);
    t.field("an update of memory leaves CPUs", &after, "/HostConfig/NanoCpus", 500_000_000);
    t.eq("update of CPUs: 200", update(&t, &id, json!({"NanoCpus": 250_000_000})).await.status, 200);
    t.field("update of CPUs takes effect", &t.inspect(&id).await, "/HostConfig/NanoCpus", 250_000_000);
    t.eq("update of the limit of processes: 200", update(&t, &id, json!({"PidsLimit": 32})).await.status, 200);
    t.field("update of the limit of processes takes effect", &t.inspect(&id).await, "/HostConfig/PidsLimit", 32);
    t.eq("update of the restart policy: 200", update(&t, &id, json!({"RestartPolicy": {"Name": "unless-stopped"}})).await.status, 200);
    t.field("update of the restart policy takes effect", &t.inspect(&id).await, "/HostConfig/RestartPolicy/Name", "unless-stopped");
    t.eq("update of memory to 0: 200", update(&t, &id, json!({"Memory": 0, "MemorySwap": 0})).await.status, 200);
    t.field("update of memory to 0 is ignored", &t.inspect(&id).await, "/HostConfig/Memory", 128 * MIB);
    t.eq("update of CPUs to 0: 200", update(&t, &id, json!({"NanoCpus": 0})).await.status, 200);
    t.field("update of CPUs to 0 is ignored", &t.inspect(&id).await, "/HostConfig/NanoCpus", 250_000_000);
    let many = update(&t, &id, json!({"NanoCpus": 4_000_000_000_000_i64})).await;
    t.reply("update to more CPUs than there are: refused", &many, 400, "ange of CPUs is from 0.01 to");
    t.field("a refused update changes nothing", &t.inspect(&id).await, "/HostConfig/NanoCpus", 250_000_000);
    t.reply(
        "update to too little memory: refused",
        &update(&t, &id, json!({"Memory": MIB, "MemorySwap": MIB})).await,
        400,
        "inimum memory limit allowed is 6MB",
    );
    t.reply(
        "update to an unknown restart policy: refused",
        &update(&t, &id, json!({"RestartPolicy": {"Name": "sometimes"}})).await,
        400,
        "invalid restart policy",
    );
    t.reply("update of what is not there: 404", &update(&t, "dockmaster-nothing", json!({"PidsLimit": 5})).await, 404, "No such container: dockmaster-nothing");
    t.eq("an empty update: 200", update(&t, &id, json!({})).await.status, 200);
    t.field("an update restarts nothing", &t.inspect(&id).await, "/RestartCount", 0);
    t.eq("update of the limit of processes to 0: 200", update(&t, &id, json!({"PidsLimit": 0})).await.status, 200);
    t.field("update of the limit of processes to 0", &t.inspect(&id).await, "/HostConfig/PidsLimit", 0);
}

async fn update_of_the_stopped(t: Case) {
    let id = t.create("stopped", json!({"Cmd": ["true"], "HostConfig": {"Memory": 64 * MIB, "MemorySwap": 64 * MIB}})).await;
    t.eq("update of what does not run: 200", update(&t, &id, json!({"Memory": 32 * MIB, "MemorySwap": 32 * MIB, "NanoCpus": 100_000_000})).await.status, 200);
    let after = t.inspect(&id).await;
    t.field("update of what does not run: memory", &after, "/HostConfig/Memory", 32 * MIB);
    t.field("update of what does not run: CPUs", &after, "/HostConfig/NanoCpus", 100_000_000);
    let auto = t.create("auto", json!({"Cmd": ["true"], "HostConfig": {"AutoRemove": true}})).await;
    let refused = update(&t, &auto, json!({"RestartPolicy": {"Name": "always"}})).await;
    t.reply("a restart policy for what removes itself: 409", &refused, 409, "Restart policy cannot be updated because AutoRemove is enabled");
}

async fn out_of_memory(t: Case) {
    let host = json!({"Memory": 16 * MIB, "MemorySwap": 16 * MIB});
    let id = t.run("oom", json!({"Cmd": ["tail", "/dev/zero"], "HostConfig": host})).await;
    let ended = t.ended(&id).await;
    t.field("M18: out of memory: exit code 137", &ended, "/State/ExitCode", 137);
    // The kernel's word for it may come after the end, and where much else goes on, not at all: then it is tried again.
    let told = t.wait("the engine to tell of a want of memory", || async {
        let told = tokio::time::timeout(Duration::from_secs(2), t.until(&id, "/State/OOMKilled", true)).await;
        if told.is_err() {
            t.start(&id).await;
        }
        told.ok()
    });
    t.field("M18: out of memory: said so", &told.await, "/State/OOMKilled", true);
    let other = t.create("other", json!({"Cmd": ["sh", "-c", "exit 137"]})).await;
    t.start(&other).await;
    t.field("an exit code of 137 alone is no OOM", &t.ended(&other).await, "/State/OOMKilled", false);
}
