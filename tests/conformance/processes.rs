//! What needs a kernel: facts about files and mounts of processes, on real engines alone.

use serde_json::json;

use crate::Group;
use crate::target::Case;

pub fn groups() -> Vec<Group> {
    vec![group!(memory_file_systems), group!(exchanged_paths)]
}

impl Case {
    /// Runs a script in a container; gives its exit code.
    async fn script(&self, container: &str, script: &str) -> i64 {
        let exec = self.post(&format!("/containers/{container}/exec"), json!({"Cmd": ["sh", "-c", script]})).await.text("/Id");
        self.post(&format!("/exec/{exec}/start"), json!({"Detach": true})).await;
        self.wait("its end", || async { self.get(&format!("/exec/{exec}/json")).await.at("/ExitCode").as_i64() }).await
    }
}

async fn memory_file_systems(t: Case) {
    if !t.real {
        return;
    }
    let id = t.run("a", json!({"Cmd": ["sleep", "600"], "HostConfig": {"Init": true, "Tmpfs": {"/secret": "size=1m"}}})).await;
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o600);
    archive.append_data(&mut header, "key", &b"abc"[..]).unwrap();
    let archive = String::from_utf8(archive.into_inner().unwrap()).unwrap();
    let put = t.call("PUT", &format!("/containers/{id}/archive?path=/secret"), Some(json!(archive))).await;
    t.eq("M9: an archive put into a tmpfs: 200", put.status, 200);
    t.eq("M9: an archive put into a tmpfs does not land there", t.script(&id, "test -e /secret/key").await, 1);
    t.eq("M9: what a command writes into a tmpfs lands there", t.script(&id, "echo abc > /secret/key && test -e /secret/key").await, 0);
    t.act(&id, "restart?t=0").await;
    t.eq("M9: a tmpfs is empty after a restart", t.script(&id, "test -e /secret/key && grep -q abc /secret/key").await, t.by(1, 1));
}

async fn exchanged_paths(t: Case) {
    if !t.real {
        return;
    }
    let host = tempfile::tempdir().unwrap();
    let (inside, outside) = (host.path().join("inside"), host.path().join("outside"));
    std::fs::create_dir(&inside).unwrap();
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "").unwrap();
    let mount = json!({"Type": "bind", "Source": inside, "Target": "/host", "ReadOnly": true});
    let id = t.create("a", json!({"Cmd": ["sleep", "600"], "HostConfig": {"Init": true, "Mounts": [mount]}})).await;
    std::fs::remove_dir(&inside).unwrap();
    std::os::unix::fs::symlink(&outside, &inside).unwrap();
    t.eq("M8: a path that became a link since the creation: start: 204", t.start(&id).await.status, 204);
    t.eq("M8: a path that became a link since the creation leads elsewhere", t.script(&id, "test -e /host/secret").await, 0);
}
