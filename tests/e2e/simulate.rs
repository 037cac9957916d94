//! The simulated engine as users meet it: driven by the `docker` command line, and in place of an engine for `run --once`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

use crate::support::limit::{Finish, PATIENCE};

/// `dockmaster simulate`, which ends with the test.
struct Simulated {
    child: Child,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Simulated {
    fn start(version: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let child = Command::new(env!("CARGO_BIN_EXE_dockmaster"))
            .args(["simulate", "--engine", version, "--socket"])
            .arg(&socket)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            assert!(begun.elapsed() < PATIENCE, "the engine did not come up");
            std::thread::yield_now();
        }
        Self { child, socket, _folder: folder }
    }

    fn docker(&self, arguments: &[&str]) -> Output {
        let host = format!("unix://{}", self.socket.display());
        Command::new("docker").arg("-H").arg(host).args(arguments).stdin(Stdio::null()).finish()
    }

    /// What it prints; it must succeed.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.docker(arguments);
        assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn the_docker_command_line_drives_it() {
    for version in ["20.10", "28.5"] {
        let engine = Simulated::start(version);
        assert!(engine.says(&["version", "--format", "{{.Server.Version}}"]).starts_with(version));
        let once = engine.docker(&["run", "--rm", "busybox", "sh", "-c", "echo hello; echo aside >&2; exit 3"]);
        assert_eq!((once.status.code(), String::from_utf8(once.stdout).unwrap().as_str()), (Some(3), "hello\n"));
        engine.says(&["network", "create", "net"]);
        engine.says(&["run", "-d", "--name", "box", "--network", "net", "-p", "127.0.0.1:8080:80", "-v", "data:/data", "--init", "busybox", "sleep", "600"]);
        assert!(engine.says(&["ps", "--format", "{{.Names}} {{.Status}} {{.Ports}}"]).contains("127.0.0.1:8080->80/tcp"));
        engine.says(&["exec", "box", "sh", "-c", "echo kept > /data/file"]);
        assert_eq!(engine.says(&["run", "--rm", "-v", "data:/data", "busybox", "cat", "/data/file"]), "kept");
        let taken = engine.docker(&["run", "--name", "rival", "-p", "127.0.0.1:8080:80", "busybox", "true"]);
        assert!(String::from_utf8_lossy(&taken.stderr).contains("port is already allocated"));
        assert_eq!(engine.says(&["inspect", "--format", "{{.State.Status}} {{.HostConfig.Init}}", "box"]), "running true");
        engine.says(&["stop", "box"]);
        assert_eq!(engine.says(&["wait", "box"]), "143");
        engine.says(&["logs", "box"]);
        engine.says(&["rm", "-f", "-v", "box", "rival"]);
        engine.says(&["system", "prune", "-af", "--volumes"]);
        assert_eq!(engine.says(&["ps", "-aq"]) + &engine.says(&["images", "-q"]) + &engine.says(&["network", "ls", "-qf", "type=custom"]), "");
        // Whole seconds: this one counts too when it is over.
        let until = (jiff::Timestamp::now().as_second() + 1).to_string();
        assert!(engine.says(&["events", "--since", "1h", "--until", &until, "--filter", "type=container", "--format", "{{.Action}}"]).contains("destroy"));
    }
}

fn simulated(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dockmaster"));
    command.current_dir(folder).args(["run", "--once", "--timeout", "60s", "--specs"]).args(arguments);
    // Neither an engine nor a state directory of this machine may be used.
    command.env("DOCKER_HOST", "unix:///nonexistent/docker.sock").env_remove("DOCKMASTER_STATE_DIR").finish()
}

#[test]
fn a_pipeline_sees_a_whole_convergence_without_an_engine() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    for (example, version) in [("first-workspace", "28.5"), ("services-and-volumes", "20.10"), ("custom-type", "28.5"), ("multi-document", "20.10")] {
        let folder = tempfile::tempdir().unwrap();
        let specs = examples.join(example);
        let output = simulated(folder.path(), &[specs.to_str().unwrap(), &format!("--simulate={version}")]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{example}: {said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.lines().any(|line| line.starts_with("container dm-ws-") && line.contains(" running ")), "{example}: {said}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{example} left something behind");
    }
}

#[test]
fn what_cannot_converge_fails_in_the_pipeline_too() {
    let folder = tempfile::tempdir().unwrap();
    let specs = tempfile::tempdir().unwrap();
    let spec = "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: shop}\nspec: {image: busybox, command: [\"true\"], resources: {cpu: \"4000\"}}\n";
    std::fs::write(specs.path().join("shop.yaml"), spec).unwrap();
    let output = simulated(folder.path(), &[specs.path().to_str().unwrap(), "--simulate"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_to_string(specs.path().join("shop.yaml")).unwrap(), spec, "the spec was written to");
}

#[test]
fn an_operator_converges_on_the_served_engine_as_on_any_other() {
    let (engine, folder) = (Simulated::start("28.5"), tempfile::tempdir().unwrap());
    let specs = folder.path().join("specs/alice");
    std::fs::create_dir_all(&specs).unwrap();
    let spec = "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {name: shop}\nspec: {image: busybox, command: [sleep, \"600\"], mounts: [{volume: data, path: /data}]}\n";
    std::fs::write(specs.join("shop.yaml"), spec).unwrap();
    engine.says(&["pull", "busybox"]);
    let run = |specs: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockmaster"));
        command.current_dir(folder.path()).args(["run", "--once", "--timeout", "60s", "--specs", specs, "--state-dir", "state"]);
        let output = command.env("DOCKER_HOST", format!("unix://{}", engine.socket.display())).finish();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run("specs");
    let made = engine.says(&["ps", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}"]);
    assert!(made.contains("dm-ws-alice.shop running"), "{made}");
    assert!(std::fs::read_to_string(specs.join("shop.yaml")).unwrap().contains("phase: Running"));
    run("specs");
    assert_eq!(engine.says(&["ps", "--no-trunc", "--format", "{{.ID}} {{.Names}} {{.State}}"]), made, "nothing is done twice");
}
