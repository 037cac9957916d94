//! An operator under test: the built binary on a directory and an installation of its own, driven and watched as a user would.

#![allow(dead_code, reason = "each suite uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::limit::{Finish, PATIENCE, ended};
use crate::support::{Sandbox, docker_host};

/// A directory of specs, an installation, and the operator that may run on them.
pub struct Operator {
    /// The engine and the installation; removed with the operator.
    pub sandbox: Sandbox,
    home: tempfile::TempDir,
    ports: (u16, u16),
    child: Option<Child>,
    host: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Operator {
    /// Everything but a running operator.
    pub async fn new() -> Self {
        Self::on(&docker_host()).await
    }

    /// The same on another engine; cleaning up there is that engine's own matter.
    pub async fn on(host: &str) -> Self {
        // A range of ports for each operator of this process, and another for each process.
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let block = NEXT.fetch_add(1, Ordering::SeqCst) % 40;
        // Below the ports that outgoing connections are given.
        let base = 20_000 + (std::process::id() % 12) as u16 * 1_000;
        let first = base + block * 24;
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join("specs")).unwrap();
        Self {
            sandbox: Sandbox::new().await,
            home,
            ports: (first, first + 23),
            child: None,
            host: host.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Further arguments of `run`.
    pub fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// A variable in the environment of every command.
    pub fn with_env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The installation's id, which Docker names begin with.
    pub fn installation(&self) -> &str {
        &self.sandbox.installation
    }

    /// Where the engine is.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The range of ports.
    pub fn ports(&self) -> (u16, u16) {
        self.ports
    }

    /// The directory of specs.
    pub fn specs(&self) -> PathBuf {
        self.home.path().join("specs")
    }

    /// The state directory.
    pub fn state(&self) -> PathBuf {
        self.home.path().join("state")
    }

    /// The log of all runs.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// Writes a spec file, with `IMAGE` standing for the test image.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.specs().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text.replace("IMAGE", crate::support::IMAGE)).unwrap();
    }

    /// Reads a spec file.
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.specs().join(path)).unwrap()
    }

    /// Replaces text in a spec file, as an editor would: by a new file in its place.
    pub fn edit(&self, path: &str, from: &str, to: &str) {
        let target = self.specs().join(path);
        let old = std::fs::read_to_string(&target).unwrap();
        assert!(old.contains(from), "{from} is not in {path}:\n{old}");
        let temporary = target.with_extension("new~");
        std::fs::write(&temporary, old.replace(from, to)).unwrap();
        std::fs::rename(temporary, target).unwrap();
    }

    /// Removes a spec file.
    pub fn remove(&self, path: &str) {
        std::fs::remove_file(self.specs().join(path)).unwrap();
    }

    /// The command with the options that every verb takes.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockmaster"));
        command.args(arguments).arg("--state-dir").arg(self.state()).arg("--installation").arg(self.installation());
        command.current_dir(self.home.path()).env_remove("DOCKER_HOST").env_remove("DOCKMASTER_STATE_DIR").stdin(Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a verb to its end.
    pub fn verb(&self, arguments: &[&str]) -> Output {
        self.command(arguments).finish()
    }

    /// Runs a verb that must succeed; gives what it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.verb(arguments);
        let (out, err) = (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned());
        assert!(output.status.success(), "{arguments:?}: {:?}\n{out}{err}\n{}", output.status.code(), self.log());
        out
    }

    /// A line as its reader would type it in the home directory, with this `dockmaster`, engine and state directory found by themselves.
    pub fn shell(&self, line: &str) -> Command {
        let program = Path::new(env!("CARGO_BIN_EXE_dockmaster"));
        let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        command.args(["-c", line]).current_dir(self.home.path()).stdin(Stdio::null());
        command.env("PATH", path).env("DOCKMASTER_BIN", program).env("DOCKMASTER_STATE_DIR", self.state()).env("DOCKER_HOST", &self.host);
        command
    }

    /// The options of `run` that keep this operator apart from others.
    pub fn apart(&self) -> String {
        let (first, last) = self.ports;
        format!("--installation {} --port-range {first}-{last} --network-pool {}", self.installation(), self.pool())
    }

    /// Starts the operator by a line that begins with `dockmaster run`.
    pub fn start_by(&mut self, line: &str) {
        assert!(self.child.is_none(), "it runs already");
        let log = self.log_file();
        let mut command = self.shell(&format!("exec {line} {}", self.apart()));
        self.child = Some(command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap());
    }

    fn log_file(&self) -> std::fs::File {
        std::fs::OpenOptions::new().create(true).append(true).open(self.home.path().join("log")).unwrap()
    }

    fn run_command(&self, extra: &[&str]) -> Command {
        let mut command = self.command(&["run"]);
        let log = self.log_file();
        command.arg("--specs").arg(self.specs()).arg("--docker-host").arg(&self.host);
        command.arg("--port-range").arg(format!("{}-{}", self.ports.0, self.ports.1)).arg("--network-pool").arg(self.pool());
        command.args(["--settle", "1s"]).args(&self.arguments).args(extra);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    /// A /20 of its own for each operator, so that suites side by side do not wait for addresses.
    pub fn pool(&self) -> String {
        let index = u32::from(self.ports.0) % 4096;
        format!("10.{}.{}.0/20", 64 + index / 16 % 128, (index % 16) * 16)
    }

    /// A /24 of that pool, for a network of somebody else's: at most 15.
    pub fn subnet(&self, number: u8) -> String {
        let pool = self.pool();
        let octets: Vec<u8> = pool.split(['.', '/']).map(|octet| octet.parse().unwrap()).collect();
        format!("{}.{}.{}.0/24", octets[0], octets[1], octets[2] + number)
    }

    /// Starts the operator.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        self.child = Some(self.run_command(&[]).spawn().unwrap());
    }

    /// Waits until a started operator answers the verbs that need it.
    pub fn until_running(&self) {
        self.wait("the operator to answer", || self.verb(&["wait", "none", "--for", "delete"]).status.success().then_some(()));
    }

    /// Runs it once; the exit code.
    pub fn once(&self) -> i32 {
        self.run_command(&["--once", "--timeout", "60s"]).spawn().map(|mut child| ended(&mut child)).unwrap().code().unwrap()
    }

    /// Runs it once under another program, such as strace; how that ended.
    pub fn once_under(&self, program: &str, arguments: &[&str]) -> std::process::ExitStatus {
        let once = self.run_command(&["--once", "--timeout", "60s"]);
        let log = self.log_file();
        let mut command = Command::new(program);
        command.args(arguments).arg(once.get_program()).args(once.get_args()).current_dir(self.home.path()).stdin(Stdio::null());
        for (name, value) in once.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn();
        ended(&mut child.unwrap_or_else(|error| panic!("{program}: {error}")))
    }

    /// Asks it to end, and waits; the exit code.
    pub fn stop(&mut self) -> i32 {
        let mut child = self.child.take().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
        let code = ended(&mut child).code();
        code.unwrap_or_else(|| panic!("killed\n{}", self.log()))
    }

    /// Waits until it ends by itself; the exit code.
    pub fn ended(&mut self) -> i32 {
        let mut child = self.child.take().unwrap();
        let status = self.wait("the operator to end", || child.try_wait().unwrap());
        status.code().unwrap_or_else(|| panic!("killed\n{}", self.log()))
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The process id of the running operator.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// The object as `get -o json` tells it; `None`: there is none.
    pub fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let output = self.verb(&["get", kind, name, "-n", namespace, "-o", "json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Waits until the workspace's status satisfies the condition; gives the object.
    pub fn until(&self, namespace: &str, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        self.until_kind("workspace", namespace, name, what, holds)
    }

    /// The same for any kind.
    pub fn until_kind(&self, kind: &str, namespace: &str, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        self.wait(what, || {
            last = self.get(kind, namespace, name).unwrap_or_default();
            holds(&last["status"]).then(|| last.clone())
        })
    }

    /// Waits for anything, up to a deadline; on its passing says what was waited for, and the log.
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        // Each look may start programs: seldom enough that a suite of waiting tests does not keep the host busy.
        let mut until_next = Duration::from_millis(50);
        loop {
            if let Some(found) = look() {
                return found;
            }
            if Instant::now() > deadline {
                let objects = self.verb(&["get", "all", "-A", "-o", "yaml"]);
                println!("{}", String::from_utf8_lossy(&objects.stdout));
                println!("{}", self.docker(&["ps", "-a", "--filter", &format!("name={}", self.installation())]));
                panic!("waited in vain for {what}\n{}", self.log());
            }
            // Between two looks, not for a time to pass.
            std::thread::park_timeout(until_next);
            until_next = (until_next * 3 / 2).min(Duration::from_millis(600));
        }
    }

    /// The workspace is ready at its present generation.
    pub fn until_ready(&self, namespace: &str, name: &str) -> Value {
        let generation = |object: &Value| object["metadata"]["generation"].clone();
        let mut wanted = Value::Null;
        self.wait(&format!("{name} to be ready"), || {
            let object = self.get("workspace", namespace, name)?;
            wanted = generation(&object);
            (condition(&object["status"], "Ready")? == "True" && object["status"]["observedGeneration"] == wanted).then_some(object)
        })
    }

    /// The workspace is ready at that generation of its spec, or a later one.
    pub fn until_generation(&self, namespace: &str, name: &str, generation: u64) -> Value {
        self.wait(&format!("{name} to be at generation {generation}"), || {
            let object = self.get("workspace", namespace, name)?;
            (object["metadata"]["generation"].as_u64()? >= generation).then_some(())
        });
        self.until_ready(namespace, name)
    }

    /// The `docker` command line on the same engine; what it printed, whatever it thought of it.
    pub fn docker(&self, arguments: &[&str]) -> String {
        let output = Command::new("docker").arg("-H").arg(&self.host).args(arguments).finish();
        String::from_utf8_lossy(&output.stdout).trim().to_owned() + String::from_utf8_lossy(&output.stderr).trim()
    }

    /// The journal of an object, oldest first, as `why -o json` tells it.
    pub fn journal(&self, namespace: &str, object: &str) -> Vec<Value> {
        let told: Value = serde_json::from_str(&self.ok(&["why", object, "-n", namespace, "-o", "json", "--tail", "100"])).unwrap();
        told["items"].as_array().cloned().unwrap_or_else(|| vec![told])
    }

    /// The field changes that the journal told last, as `field: old -> new`.
    pub fn changes(&self, namespace: &str, object: &str) -> Vec<String> {
        let told = |change: &Value| format!("{}: {} -> {}", text(&change["field"]), text(&change["old"]), text(&change["new"]));
        let changes = |entry: &Value| entry["changes"].as_array().filter(|all| !all.is_empty()).map(|all| all.iter().map(told).collect());
        self.journal(namespace, object).iter().rev().find_map(changes).unwrap_or_default()
    }

    /// The events of a namespace as text.
    pub fn events(&self, namespace: &str) -> String {
        self.ok(&["events", "-n", namespace])
    }

    /// A field of a container, by a template of `docker inspect`.
    pub fn inspect(&self, container: &str, template: &str) -> String {
        self.docker(&["inspect", "--type", "container", "--format", template, container])
    }

    /// All that an inspect tells of a container.
    pub fn inspected(&self, container: &str) -> Value {
        let text = self.docker(&["inspect", "--type", "container", container]);
        let seen: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{container}: {text}"));
        seen[0].clone()
    }

    /// The Docker name of a workspace's main container, or of a service.
    pub fn container(&self, namespace: &str, name: &str, service: Option<&str>) -> String {
        let base = format!("{}-ws-{namespace}.{name}", self.installation());
        service.map_or(base.clone(), |service| format!("{base}.{service}"))
    }

    /// The names of this installation's containers but the lock, sorted.
    pub fn containers(&self) -> Vec<String> {
        let filter = format!("label=dockmaster.installation={}", self.installation());
        let all = self.docker(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}}"]);
        let mut names: Vec<String> = all.lines().filter(|name| !name.ends_with("-lock")).map(str::to_owned).collect();
        names.sort();
        names
    }

    /// What a web server answers to a container, by name or address; nothing, or an error, where it cannot be reached. The static
    /// programs of the test image cannot look up names while they fetch.
    pub fn fetch(&self, container: &str, host: &str, port: &str) -> String {
        let script = r#"case $1 in [0-9]*) a=$1;; *) a=$(nslookup "$1" | sed -n 's/^Address: //p' | tail -n 1);; esac
            [ -n "$a" ] && printf 'GET / HTTP/1.0\r\n\r\n' | timeout 4 nc -w 3 "$a" "$2" | sed '1,/^.$/d'"#;
        self.docker(&["exec", container, "sh", "-c", script, "fetch", host, port])
    }

    /// Waits until nothing that says this answers a container there: while any network is made, by another test too, Docker 20.10 takes its
    /// rules between networks away for a moment.
    pub fn until_out_of_reach(&self, container: &str, host: &str, port: &str, says: &str) {
        self.wait(&format!("{host} to be out of the reach of {container}"), || (!self.fetch(container, host, port).contains(says)).then_some(()));
    }

    /// The names of this installation's volumes, sorted.
    pub fn volumes(&self) -> Vec<String> {
        self.listed(&["volume", "ls", "--format", "{{.Name}}"])
    }

    /// The names of this installation's networks, sorted.
    pub fn all_networks(&self) -> Vec<String> {
        self.listed(&["network", "ls", "--format", "{{.Name}}"])
    }

    fn listed(&self, arguments: &[&str]) -> Vec<String> {
        let filter = format!("label=dockmaster.installation={}", self.installation());
        let all = self.docker(&[arguments, &["--filter", &filter]].concat());
        let mut names: Vec<String> = all.lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Whether such an event was told, of all objects and sources.
    pub fn was_told(&self, reason: &str) -> bool {
        let events = self.ok(&["events", "-A", "--tail", "10000"]);
        events.lines().any(|line| line.split_whitespace().any(|word| word == reason))
    }

    /// A GET of a URL; the body, `None` when nobody answers.
    pub fn http(&self, url: &str) -> Option<String> {
        let output = Command::new("curl").args(["-fsS", "-m", "5", url]).finish();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The temporary home of this operator, for files beside the specs.
    pub fn home(&self) -> &Path {
        self.home.path()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// A JSON string.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The `status` of a condition of a status.
pub fn condition<'a>(status: &'a Value, type_: &str) -> Option<&'a str> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)?["status"].as_str()
}

/// The message of a condition of a status; empty where it is absent.
pub fn message<'a>(status: &'a Value, type_: &str) -> &'a str {
    let found = status["conditions"].as_array().and_then(|all| all.iter().find(|condition| condition["type"] == type_));
    found.and_then(|condition| condition["message"].as_str()).unwrap_or_default()
}

/// The reason of `Ready`.
pub fn reason(status: &Value) -> &str {
    let ready = status["conditions"].as_array().and_then(|all| all.iter().find(|condition| condition["type"] == "Ready"));
    ready.and_then(|condition| condition["reason"].as_str()).unwrap_or_default()
}

/// A workspace of the test image that sleeps, with further lines of its `spec` (each with its two spaces).
pub fn sleeper(name: &str, spec: &str) -> String {
    format!("apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: {name}}}\nspec:\n  image: IMAGE\n  command: [sleep, \"100000\"]\n{spec}")
}
