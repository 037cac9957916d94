//! Health tests, on simulated time.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Version;
use super::clockwork::Due;
use super::process::{End, Process, Wait};
use super::state::{Engine, Health, Probe, Status};

const INTERVAL: Duration = Duration::from_secs(30);
const START_INTERVAL: Duration = Duration::from_secs(5);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: i64 = 3;
/// Runs that are remembered.
const RUNS: usize = 5;
/// A test that only waits is followed for so many waits.
const WAITS: usize = 1000;

/// A container's test, with Docker's defaults filled in.
struct Test {
    argv: Vec<String>,
    interval: Duration,
    timeout: Duration,
    retries: i64,
    start_period: Duration,
    start_interval: Duration,
}

impl Engine {
    fn health_of(&self, id: &str) -> Option<Test> {
        let config = self.containers.get(id)?.config.get("Healthcheck")?;
        let words: Vec<&str> = config.get("Test")?.as_array()?.iter().filter_map(Value::as_str).collect();
        let argv = match words.as_slice() {
            ["CMD", argv @ ..] => argv.iter().map(|word| (*word).to_owned()).collect(),
            ["CMD-SHELL", script, ..] => vec!["/bin/sh".to_owned(), "-c".to_owned(), (*script).to_owned()],
            _ => return None,
        };
        let time = |key: &str, otherwise: Duration| {
            let given = config.get(key).and_then(Value::as_u64).filter(|nanoseconds| *nanoseconds > 0);
            given.map_or(otherwise, Duration::from_nanos)
        };
        Some(Test {
            argv,
            interval: time("Interval", INTERVAL),
            timeout: time("Timeout", TIMEOUT),
            retries: config.get("Retries").and_then(Value::as_i64).filter(|count| *count > 0).unwrap_or(RETRIES),
            start_period: time("StartPeriod", Duration::ZERO),
            start_interval: time("StartInterval", START_INTERVAL),
        })
    }

    /// Begins to test a container that was just started.
    pub(super) fn watch_health(&mut self, id: &str) {
        let test = self.health_of(id);
        let Some(container) = self.containers.get_mut(id) else { return };
        container.health = test.as_ref().map(|_| Health { status: "starting".to_owned(), ..Health::default() });
        if let Some(test) = test {
            self.next_test(id, &test);
        }
    }

    fn next_test(&mut self, id: &str, test: &Test) {
        let Some(container) = self.containers.get(id) else { return };
        let starting = container.health.as_ref().is_some_and(|health| health.status == "starting");
        let young = self.elapsed.saturating_sub(container.started_at) < test.start_period;
        let quick = self.version == Version::V28_5 && starting && young;
        let wait = if quick { test.start_interval } else { test.interval };
        self.after(wait, Due::Health(id.to_owned(), container.run));
    }

    /// A test is due.
    pub(super) fn test_health(&mut self, id: &str) {
        let Some(test) = self.health_of(id) else { return };
        let Some(run) = self.containers.get(id).filter(|container| container.is_running()).map(|container| container.run) else { return };
        if self.containers[id].status == Status::Paused {
            // A frozen container cannot be tested.
            return self.next_test(id, &test);
        }
        let exec = self.id();
        let (program, arguments) = test.argv.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        let command = format!("{program} {}", arguments.join(" "));
        self.tell_container(id, format!("exec_create: {command}"), &[("execID", exec.clone())]);
        self.tell_container(id, format!("exec_start: {command}"), &[("execID", exec.clone())]);
        let (mut took, code, output) = self.probe(id, &test);
        let (code, output) = if took > test.timeout {
            took = test.timeout;
            (-1, format!("Health check exceeded timeout ({})", humane(test.timeout)))
        } else {
            (code, output)
        };
        if took.is_zero() {
            self.tell_container(id, "exec_die", &[("execID", exec), ("exitCode", code.to_string())]);
            self.health_tested(id, code, output);
        } else {
            self.after(took, Due::Tested(id.to_owned(), run, code, output));
        }
    }

    /// How long a test takes, its code and what it writes.
    fn probe(&mut self, id: &str, test: &Test) -> (Duration, i64, String) {
        let behaviour = self.behaviour(id);
        if let Some(healthy) = behaviour.health {
            return (behaviour.probe, i64::from(!healthy), String::new());
        }
        let program = test.argv.first().cloned().unwrap_or_default();
        if !self.with_files(id, |files| files.has_program(&program)) {
            let text = format!(
                "OCI runtime exec failed: exec failed: unable to start container process: exec: \"{program}\": executable file not found in $PATH: unknown"
            );
            return (Duration::ZERO, -1, text);
        }
        let mut process = Process::new(0, Arc::new(test.argv.clone()), [], "");
        process.stdin.ended = true;
        let begun = self.elapsed;
        let mut text = String::new();
        for _ in 0..WAITS {
            let (end, output) = self.run_process(id, &mut process);
            text.extend(output.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()));
            let took = self.elapsed - begun;
            if let Some(end) = end {
                self.elapsed = begun;
                let code = match end {
                    End::Code(code) => code,
                    End::OutOfMemory => 137,
                };
                return (took + behaviour.probe, code, text);
            }
            match process.wait {
                Wait::Until(due) if due - begun <= test.timeout => self.elapsed = due,
                Wait::Forever if is_unknown(&test.argv) => break,
                Wait::Until(_) | Wait::None | Wait::Input(_) | Wait::Line | Wait::Forever | Wait::Background => {
                    self.elapsed = begun;
                    return (test.timeout + Duration::from_nanos(1), -1, text);
                }
            }
        }
        // A program that the simulation does not know is taken to be content.
        self.elapsed = begun;
        (behaviour.probe, 0, text)
    }

    /// A test ended.
    pub(super) fn health_tested(&mut self, id: &str, code: i64, output: String) {
        let Some(test) = self.health_of(id) else { return };
        let (now, elapsed) = (self.now, self.elapsed);
        let Some(container) = self.containers.get_mut(id).filter(|container| container.is_running()) else { return };
        let young = elapsed.saturating_sub(container.started_at) < test.start_period;
        let Some(health) = &mut container.health else { return };
        health.log.push_back(Probe { start: now, end: now, code, output });
        if health.log.len() > RUNS {
            health.log.pop_front();
        }
        let before = health.status.clone();
        if code == 0 {
            health.failing = 0;
            health.status = "healthy".to_owned();
        } else if !(young && health.status == "starting") {
            health.failing += 1;
            if i64::from(health.failing) >= test.retries {
                health.status = "unhealthy".to_owned();
            }
        }
        let after = health.status.clone();
        if before != after {
            self.tell_container(id, format!("health_status: {after}"), &[]);
        }
        self.next_test(id, &test);
    }
}

fn is_unknown(argv: &[String]) -> bool {
    !argv.first().is_some_and(|program| matches!(program.rsplit('/').next(), Some("sleep" | "sh" | "cat" | "tail" | "yes" | "nc")))
}

/// `5s`, `500ms`: a duration as Go writes it, for whole seconds and milliseconds.
fn humane(time: Duration) -> String {
    if time.subsec_nanos() == 0 { format!("{}s", time.as_secs()) } else { format!("{}ms", time.as_millis()) }
}
