//! The built program: started with a directory of specs and a state of its own, and what the kernel says of its time and memory.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::limit::ended;

/// What the kernel counts a process's time in.
const TICK: Duration = Duration::from_millis(10);
/// How long a start may take, with very many objects.
const START: Duration = Duration::from_secs(1200);
/// Who does nothing for so long rests.
pub const REST: Duration = Duration::from_secs(1);
/// How often a process is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// A directory of specs, and what every command on it is told.
pub struct Home {
    dir: tempfile::TempDir,
    installation: String,
    run: Vec<String>,
}

/// A run with an end.
pub struct Once {
    /// How long it took.
    pub took: Duration,
    /// How long it kept a core busy.
    pub cpu: Duration,
    /// The most memory that it was seen with, in bytes.
    pub peak: u64,
}

impl Home {
    /// An empty one; `run` are further arguments of the operator.
    pub fn new(installation: &str, host: &str, run: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("specs")).unwrap();
        let run = ["run", "--specs", "specs", "--docker-host", host].iter().chain(run).map(|text| (*text).to_owned()).collect();
        Self { dir, installation: installation.to_owned(), run }
    }

    /// A path in it.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// A command on it.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockmaster"));
        command.args(arguments).arg("--state-dir").arg(self.path("state")).arg("--installation").arg(&self.installation);
        command.current_dir(self.dir.path()).env_remove("DOCKER_HOST").env_remove("DOCKMASTER_STATE_DIR").stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn operator(&self, arguments: &[&str]) -> Running {
        let run: Vec<&str> = self.run.iter().map(String::as_str).chain(arguments.iter().copied()).collect();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        Running(self.command(&run).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    /// Starts the operator, and gives it when it answers.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let (running, begun) = (self.operator(arguments), Instant::now());
        while !self.succeeds(&["wait", "none", "--for", "delete"]) {
            assert!(running.is_there(), "the operator ended:\n{}", self.log());
            assert!(begun.elapsed() < START, "the operator does not answer:\n{}", self.log());
            std::thread::park_timeout(LOOK);
        }
        running
    }

    /// Runs the operator to its end; it must succeed.
    pub fn once(&self) -> Once {
        let begun = Instant::now();
        let mut running = self.operator(&["--once", "--timeout", "2h"]);
        let mut peak = 0;
        // Its time is kept until it is waited for, its memory is not.
        while running.is_there() {
            peak = peak.max(running.memory());
            std::thread::park_timeout(LOOK);
        }
        let (took, cpu) = (begun.elapsed(), running.cpu());
        assert!(running.0.wait().unwrap().success(), "it did not converge:\n{}", self.log());
        Once { took, cpu, peak }
    }

    /// Whether a verb succeeds.
    pub fn succeeds(&self, arguments: &[&str]) -> bool {
        ended(&mut self.command(arguments).spawn().unwrap()).success()
    }

    /// The end of what the operator said.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        log.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// A program that runs; it ends with this.
pub struct Running(Child);

impl Running {
    fn stat(&self) -> Vec<String> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
        // The second word is a name in parentheses, and may hold anything.
        text.rsplit_once(')').unwrap().1.split_whitespace().map(str::to_owned).collect()
    }

    fn is_there(&self) -> bool {
        self.stat()[0] != "Z"
    }

    /// How long it kept a core busy so far.
    pub fn cpu(&self) -> Duration {
        let stat = self.stat();
        TICK * (stat[11].parse::<u32>().unwrap() + stat[12].parse::<u32>().unwrap())
    }

    /// Its resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.map_or(0, |line| line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10)
    }

    /// Waits until it has done next to nothing for so long: a hundredth of a core, for its timers go on.
    pub fn until_idle(&self, rest: Duration) {
        let (mut last, mut since) = (self.cpu(), Instant::now());
        while since.elapsed() < rest {
            std::thread::park_timeout(Duration::from_millis(100));
            let now = self.cpu();
            if now - last > (rest / 100).max(TICK) {
                (last, since) = (now, Instant::now());
            }
        }
    }

    /// Asks it to end, and waits.
    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
        ended(&mut self.0);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
