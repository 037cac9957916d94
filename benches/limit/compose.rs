//! `docker compose`, where it is installed.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::limit::{Finish, ended};

/// A project of containers as those of the operator.
pub struct Compose {
    folder: tempfile::TempDir,
    project: String,
    host: String,
    port: u16,
    subnet: String,
}

/// Its version; none: it is not installed.
pub fn version() -> Option<String> {
    let output = Command::new("docker").args(["compose", "version", "--short"]).finish();
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Compose {
    /// A project of that name on the engine of that host.
    pub fn new(project: String, host: String, port: u16, subnet: String) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), project, host, port, subnet }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("compose.yaml")
    }

    /// Writes that many services, of which one says something else where it is changed.
    pub fn write(&self, count: usize, changed: bool) {
        let mut text = format!("networks: {{default: {{ipam: {{config: [{{subnet: {}}}]}}}}}}\nservices:\n", self.subnet);
        for number in 0..count {
            let greeting = if changed && number == 0 { "b" } else { "a" };
            let port = usize::from(self.port) + number;
            text += &format!(
                "  w{number}: {{image: {image}, pull_policy: never, init: true, command: [sleep, '1000000'], ports: ['127.0.0.1:{port}:8080'], cpus: 0.5, \
                 mem_limit: 64m, restart: unless-stopped, environment: {{GREETING: {greeting}}}, labels: {{a: '1', b: '2', c: '3', d: '4'}}}}\n",
                image = crate::support::IMAGE
            );
        }
        std::fs::write(self.file(), text).unwrap();
    }

    /// Makes what the file says; gives the time of the whole command.
    pub fn up(&self) -> Duration {
        self.run(&["up", "-d", "--quiet-pull"])
    }

    /// Removes it.
    pub fn down(&self) -> Duration {
        self.run(&["down"])
    }

    fn run(&self, arguments: &[&str]) -> Duration {
        let begun = Instant::now();
        let mut command = Command::new("docker");
        command.args(["-H", &self.host, "compose", "-p", &self.project, "-f"]).arg(self.file()).args(arguments);
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let status = ended(&mut child);
        let took = begun.elapsed();
        assert!(status.success(), "{command:?}: {}", std::fs::read_to_string(self.folder.path().join("log")).unwrap());
        took
    }
}
