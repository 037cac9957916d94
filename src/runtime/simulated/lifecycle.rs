//! Starting, ending and removing containers, and what an engine does by itself in between.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::Version;
use super::clockwork::Due;
use super::files::Files;
use super::http::{Refused, refuse};
use super::process::{End, Process, Surroundings, Wait};
use super::state::{Behaviour, Container, Engine, Gone, Line, Port, Status};
use super::text;

/// Docker's waits between two starts by its restart policy.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(60);
/// A container that ran for so long begins with the first wait again.
const RAN_WELL: Duration = Duration::from_secs(10);
/// So many containers that are gone are remembered.
const GONE: usize = 16;
/// Words for no restart policy.
const NO_POLICY: [&str; 2] = ["", "no"];

impl Engine {
    /// Starts what does not run.
    pub(super) fn start(&mut self, id: &str) -> Result<(), Refused> {
        let Some(container) = self.containers.get(id) else { return Err(no_such(id)) };
        match container.status {
            Status::Running | Status::Restarting => return Err(refuse(304, "")),
            Status::Paused => return Err(refuse(409, "cannot start a paused container, try unpause instead")),
            Status::Removing | Status::Dead => return Err(refuse(409, "container is marked for removal and cannot be started")),
            Status::Created | Status::Exited => {}
        }
        if let Some(container) = self.containers.get_mut(id) {
            container.stopped_by_hand = false;
            container.backoff = Duration::ZERO;
            if container.status == Status::Exited {
                container.restarts = 0;
            }
        }
        self.launch(id)
    }

    /// A start that is given up because nobody waits for it any more.
    pub(super) fn give_up_start(&mut self, reference: &str) {
        let id = self.container_id(reference).unwrap_or_default();
        let stands = |container: &Container| matches!(container.status, Status::Created | Status::Exited);
        if self.containers.get(&id).is_some_and(stands) {
            self.start_failed(&id, "Canceled: context canceled", 128);
        }
    }

    fn launch(&mut self, id: &str) -> Result<(), Refused> {
        let result = self.set_up(id);
        if let Err(Refused(status, message)) = &result {
            let code = match *status {
                400 if message.contains("permission denied") => 126,
                400 if message.contains("exec:") => 127,
                _ => 128,
            };
            self.start_failed(id, message, code);
        }
        result
    }

    fn start_failed(&mut self, id: &str, message: &str, code: i64) {
        let Some(container) = self.containers.get_mut(id) else { return };
        message.clone_into(&mut container.error);
        container.exit_code = code;
        if container.status == Status::Restarting {
            container.status = Status::Exited;
        }
        // Whoever attached for this start hears of its end.
        container.process = None;
        container.run += 2;
        let goes = container.host_flag("AutoRemove");
        self.leave_networks(id, false);
        if goes {
            self.take_away(id, true);
        }
    }

    fn set_up(&mut self, id: &str) -> Result<(), Refused> {
        for mount in self.containers[id].mounts.clone().iter() {
            if mount.kind == "bind" && !self.host_has(&mount.source) && self.containers[id].host.get("Binds").is_none_or(serde_json::Value::is_null) {
                return Err(refuse(400, format!("invalid mount config for type \"bind\": bind source path does not exist: {}", mount.source)));
            }
        }
        self.join_networks(id)?;
        match (self.version, self.containers.get_mut(id)) {
            (Version::V20_10, Some(container)) if container.stranded => return Err(refuse(500, format!("task {id}: already exists"))),
            // Since 23.0 the engine clears it away.
            (_, Some(container)) => container.stranded = false,
            (_, None) => {}
        }
        let argv = self.containers[id].argv.clone();
        let program = argv.first().cloned().unwrap_or_default();
        let image = self.image_files(id);
        let there = self.with_files(id, |files| files.has_program(&program));
        if !there && image.is_some() {
            let why = if self.with_files(id, |files| files.is_directory(&program)) {
                "permission denied".to_owned()
            } else if program.contains('/') {
                format!("stat {program}: no such file or directory")
            } else {
                "executable file not found in $PATH".to_owned()
            };
            let text = format!(
                "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: \"{program}\": {why}"
            );
            return Err(refuse(
                400,
                match self.version {
                    Version::V20_10 => format!("{text}: unknown"),
                    Version::V28_5 => format!("failed to create task for container: {text}"),
                },
            ));
        }
        let pid = self.pid();
        let behaviour = self.behaviour(id);
        let (elapsed, now) = (self.elapsed, self.now);
        let Some(container) = self.containers.get_mut(id) else { return Err(no_such(id)) };
        let env = container.config.get("Env").and_then(serde_json::Value::as_array);
        let env: Vec<String> = env.into_iter().flatten().filter_map(serde_json::Value::as_str).map(str::to_owned).collect();
        let directory = container.config.get("WorkingDir").and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let mut process = Process::new(pid, argv, env, &directory);
        process.first = !container.host_flag("Init");
        process.deaf = behaviour.needs_kill;
        let flag = |key: &str| container.config.get(key).and_then(serde_json::Value::as_bool) == Some(true);
        process.terminal = flag("Tty").then_some((24, 80));
        process.stdin.ended = !flag("OpenStdin");
        // Those who attached before the start are there at the start.
        if let Some(before) = container.process.take() {
            process.stdin = before.stdin;
        }
        if behaviour.exits.is_some() || behaviour.oom.is_some() {
            process.frames.clear();
            process.wait = Wait::Forever;
        }
        container.process = Some(process);
        container.run += 1;
        container.status = Status::Running;
        container.started = Some(now);
        container.started_at = elapsed;
        container.error.clear();
        container.exit_code = 0;
        container.oom_killed = false;
        container.stopping = false;
        let run = container.run;
        if self.version == Version::V20_10 {
            self.tell_mounts(id, "mount");
        }
        self.tell_container(id, "start", &[]);
        if let Some((time, code)) = behaviour.exits {
            self.after(time, Due::Ends(id.to_owned(), run, code));
        }
        if let Some(time) = behaviour.oom {
            self.after(time, Due::OutOfMemory(id.to_owned(), run));
        }
        self.watch_health(id);
        self.go_on(id);
        Ok(())
    }

    /// A start by a restart policy, after its wait.
    pub(super) fn start_again(&mut self, id: &str) {
        // A failure is in the container's state.
        let _ = self.launch(id);
    }

    /// Lets the main process go on as far as it can.
    pub(super) fn go_on(&mut self, id: &str) {
        let Some(container) = self.containers.get_mut(id).filter(|container| container.status == Status::Running) else { return };
        let Some(mut process) = container.process.take() else { return };
        let run = container.run;
        let (end, output) = self.run_process(id, &mut process);
        let due = process.due();
        if let Some(container) = self.containers.get_mut(id) {
            container.process = Some(process);
            append(&mut container.log, output);
            self.changes += 1;
        }
        match end {
            Some(End::Code(code)) => self.ended(id, code, false),
            Some(End::OutOfMemory) => self.ended(id, 137, true),
            None => {
                if let Some(due) = due {
                    self.after(due.saturating_sub(self.elapsed), Due::Process(id.to_owned(), run));
                }
            }
        }
    }

    /// Runs a process of a container; what it wrote.
    pub(super) fn run_process(&mut self, id: &str, process: &mut Process) -> (Option<End>, Vec<Line>) {
        let neighbours = self.neighbours(id);
        let image = self.image_files(id);
        let (elapsed, now) = (self.elapsed, self.now);
        let Some(container) = self.containers.get_mut(id) else { return (None, Vec::new()) };
        let text = |key: &str| container.config.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let user = text("User");
        let user = match user.as_str() {
            "" | "root" => "0:0".to_owned(),
            "nobody" => "65534:65534".to_owned(),
            user => user.to_owned(),
        };
        let (memory, host_name) = (container.host_number("Memory"), text("Hostname"));
        let files = Files::of(container, &mut self.volumes, image);
        let mut around = Surroundings { elapsed, files, user, neighbours, memory, host_name, sent: 0, output: Vec::new() };
        let end = process.go_on(&mut around);
        let (output, sent) = (around.output, around.sent);
        if let Some(container) = self.containers.get_mut(id) {
            container.traffic.0 += sent;
        }
        let terminal = |bytes: Bytes| if process.terminal.is_some() { text::as_on_a_terminal(&bytes) } else { bytes };
        let lines = output.into_iter().filter(|(_, bytes)| !bytes.is_empty());
        (end, lines.map(|(stderr, bytes)| Line { at: now, stderr: stderr && process.terminal.is_none(), bytes: terminal(bytes) }).collect())
    }

    pub(super) fn with_files<T>(&mut self, id: &str, work: impl FnOnce(&mut Files<'_>) -> T) -> T
    where
        T: Default,
    {
        let image = self.image_files(id);
        match self.containers.get_mut(id) {
            Some(container) => work(&mut Files::of(container, &mut self.volumes, image)),
            None => T::default(),
        }
    }

    /// How a container is told to behave: by a label, by its name, or by its image.
    pub(super) fn behaviour(&self, id: &str) -> Behaviour {
        let Some(container) = self.containers.get(id) else { return Behaviour::default() };
        let told = self.behaviours.get(&container.name).or_else(|| self.behaviours.get(&container.image)).or_else(|| self.behaviours.get(&container.image_id));
        let mut behaviour = told.cloned().unwrap_or_default();
        let label = |key: &str| container.labels.get(&format!("simulated.{key}"));
        let seconds = |text: &str| text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        if let Some((time, code)) = label("exits").and_then(|text| text.split_once(':')) {
            behaviour.exits = seconds(time).zip(code.parse().ok());
        }
        if let Some(text) = label("oom") {
            behaviour.oom = seconds(text);
        }
        behaviour.needs_kill |= label("needs-kill").is_some();
        if let Some(text) = label("healthy") {
            behaviour.health = Some(text == "true");
        }
        behaviour
    }

    /// The main process ended.
    pub(super) fn ended(&mut self, id: &str, code: i64, oom: bool) {
        let now = self.now;
        let Some(container) = self.containers.get_mut(id).filter(|container| container.is_running()) else { return };
        let ran = self.elapsed.saturating_sub(container.started_at);
        container.process = None;
        container.run += 1;
        container.status = Status::Exited;
        container.exit_code = code;
        container.oom_killed = oom;
        container.finished = Some(now);
        let stopping = std::mem::take(&mut container.stopping);
        if let Some(health) = &mut container.health {
            health.status = "unhealthy".to_owned();
        }
        let memory = container.host.get("Tmpfs").and_then(serde_json::Value::as_object);
        let memory: Vec<String> = memory.into_iter().flatten().map(|(path, _)| format!("{}/", path.trim_end_matches('/'))).collect();
        container.files.retain(|path, _| !memory.iter().any(|root| path.starts_with(root)));
        let (policy, most) = container.restart_policy();
        let again = !container.stopped_by_hand
            && match policy {
                "always" | "unless-stopped" => true,
                "on-failure" => code != 0 && (most == 0 || i64::from(container.restarts) < most),
                _ => false,
            };
        let goes = container.host_flag("AutoRemove") && NO_POLICY.contains(&policy);
        self.end_execs(id);
        if oom {
            self.tell_container(id, "oom", &[]);
        }
        let more = match self.version {
            Version::V20_10 => vec![("exitCode", code.to_string())],
            Version::V28_5 => vec![("execDuration", ran.as_secs().to_string()), ("exitCode", code.to_string())],
        };
        if self.version == Version::V20_10 {
            self.tell_container(id, "die", &more);
        }
        self.leave_networks(id, true);
        self.tell_mounts(id, "unmount");
        if self.version == Version::V28_5 {
            // Whoever stops it is a little faster than the engine's own note of the end.
            if stopping {
                self.tell_container(id, "stop", &[]);
            }
            self.tell_container(id, "die", &more);
        }
        self.changes += 1;
        if again {
            let Some(container) = self.containers.get_mut(id) else { return };
            container.backoff = if container.backoff.is_zero() || ran >= RAN_WELL { FIRST_BACKOFF } else { (container.backoff * 2).min(LAST_BACKOFF) };
            container.restarts += 1;
            container.status = Status::Restarting;
            let (wait, run) = (container.backoff, container.run);
            self.after(wait, Due::Restart(id.to_owned(), run));
        } else if goes {
            self.take_away(id, true);
        }
    }

    /// Gives the main process a signal.
    pub(super) fn signal(&mut self, id: &str, signal: i32) {
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.status == Status::Restarting {
            container.status = Status::Exited;
            container.stopping = false;
            container.run += 1;
            self.changes += 1;
            return;
        }
        let frozen = container.status == Status::Paused;
        if frozen {
            // It is thawed so that it can hear.
            container.status = Status::Running;
        }
        let end = container.process.as_mut().and_then(|process| process.hear(signal));
        self.tell_kill(id, signal);
        if frozen && signal != 9 {
            self.tell_container(id, "unpause", &[]);
        }
        match end {
            Some(code) => self.ended(id, code, false),
            None => self.go_on(id),
        }
    }

    pub(super) fn tell_kill(&mut self, id: &str, signal: i32) {
        self.tell_container(id, "kill", &[("signal", signal.to_string())]);
    }

    /// Asks it to end, and makes it after the grace; negative: never.
    pub(super) fn stop(&mut self, id: &str, grace: Option<i64>) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.stopped_by_hand = true;
        container.stopping = true;
        let config = |key: &str| container.config.get(key);
        let signal = config("StopSignal").and_then(serde_json::Value::as_str).and_then(super::process::signal).unwrap_or(15);
        let grace = grace.or_else(|| config("StopTimeout").and_then(serde_json::Value::as_i64)).unwrap_or(10);
        let run = container.run;
        self.signal(id, signal);
        if self.containers.get(id).is_some_and(|container| container.run == run)
            && let Ok(grace) = u64::try_from(grace)
        {
            self.after(Duration::from_secs(grace), Due::Kill(id.to_owned(), run));
        }
    }

    /// After a stop the older engine tells of it when all else is told, and so do both of one between two starts.
    pub(super) fn tell_stopped(&mut self, id: &str, was: Status) {
        if self.version == Version::V20_10 || was == Status::Restarting {
            self.tell_container(id, "stop", &[]);
        }
    }

    /// The end of a container that does not run.
    pub(super) fn take_away(&mut self, id: &str, with_volumes: bool) {
        self.leave_networks(id, false);
        let Some(container) = self.containers.get(id) else { return };
        let anonymous: Vec<String> = container
            .mounts
            .iter()
            .filter(|mount| mount.kind == "volume")
            .map(|mount| mount.name.clone())
            .filter(|name| self.volumes.get(name).is_some_and(|volume| volume.anonymous))
            .collect();
        let (name, labels, image) = (container.name.clone(), container.labels.clone(), container.image.clone());
        self.gone.push_back(Gone { id: id.to_owned(), code: container.exit_code, log: container.log.clone() });
        if self.gone.len() > GONE {
            self.gone.pop_front();
        }
        self.take_container(id);
        self.names.retain(|_, holder| holder != id);
        self.execs.retain(|_, exec| exec.container != id);
        let mut attributes: BTreeMap<String, String> = (*labels).clone();
        attributes.insert("image".to_owned(), image);
        attributes.insert("name".to_owned(), name);
        for volume in anonymous.iter().filter(|_| with_volumes) {
            if self.volume_users(volume).is_empty() {
                self.volumes.remove(volume);
                self.tell_volume(volume, "destroy");
            }
        }
        self.tell("container", "destroy", id, attributes);
        self.changes += 1;
    }

    fn tell_mounts(&mut self, id: &str, action: &str) {
        let mounts = self.containers.get(id).map(|container| container.mounts.clone()).unwrap_or_default();
        for mount in mounts.iter().filter(|mount| mount.kind == "volume") {
            let mut attributes = BTreeMap::from([("container".to_owned(), id.to_owned()), ("driver".to_owned(), "local".to_owned())]);
            if action == "mount" {
                attributes.insert("destination".to_owned(), mount.destination.clone());
                attributes.insert("propagation".to_owned(), String::new());
                attributes.insert("read/write".to_owned(), mount.writable.to_string());
            }
            self.tell("volume", action, &mount.name, attributes);
        }
    }

    /// On the newer engine volumes are mounted before networks are joined.
    pub(super) fn tell_mounts_first(&mut self, id: &str) {
        if self.version == Version::V28_5 {
            self.tell_mounts(id, "mount");
        }
    }

    /// Host ports that a container asks for; what is in the way.
    pub(super) fn take_ports(&mut self, id: &str) -> Result<Vec<Port>, String> {
        let container = &self.containers[id];
        let bindings = container.host.get("PortBindings").and_then(serde_json::Value::as_object).cloned().unwrap_or_default();
        let mut ports = Vec::new();
        for (inside, hosts) in bindings {
            let (private, protocol) = inside.split_once('/').unwrap_or((&inside, "tcp"));
            let private = private.parse().unwrap_or_default();
            for host in hosts.as_array().into_iter().flatten() {
                let text = |key: &str| host.get(key).and_then(serde_json::Value::as_str).unwrap_or_default();
                let ip = if text("HostIp").is_empty() { "0.0.0.0" } else { text("HostIp") };
                let wanted: u16 = text("HostPort").parse().unwrap_or_default();
                let port = Port { ip: ip.to_owned(), public: wanted, private, protocol: protocol.to_owned() };
                let public = if wanted == 0 { self.free_port(&port, &ports) } else { wanted };
                let port = Port { public, ..port };
                self.port_is_free(&port, &ports)?;
                ports.push(port);
            }
        }
        Ok(ports)
    }

    fn free_port(&self, port: &Port, mine: &[Port]) -> u16 {
        (32768..=60999).find(|public| self.port_is_free(&Port { public: *public, ..port.clone() }, mine).is_ok()).unwrap_or_default()
    }

    fn port_is_free(&self, port: &Port, mine: &[Port]) -> Result<(), String> {
        let everywhere = |ip: &str| matches!(ip, "0.0.0.0" | "::" | "");
        let clash = |other: &Port| {
            other.public == port.public && other.protocol == port.protocol && (other.ip == port.ip || everywhere(&other.ip) || everywhere(&port.ip))
        };
        let (ip, public) = (&port.ip, port.public);
        let fails = |why: &str| match self.version {
            Version::V20_10 => format!("Error starting userland proxy: listen {}4 {ip}:{public}: bind: {why}", port.protocol),
            Version::V28_5 => format!("failed to bind host port for {ip}:{public}:@:{}/{}: {why}", port.private, port.protocol),
        };
        let others = || mine.iter().chain(self.containers.values().flat_map(|container| &container.ports)).filter(|other| clash(other));
        // The older engine knows only what it gave away of one address; the host tells of the others.
        if others().any(|other| self.version == Version::V28_5 || other.ip == port.ip) {
            return Err(format!("Bind for {ip}:{public} failed: port is already allocated"));
        }
        if others().next().is_some() || self.foreign_ports.contains(&(public, port.protocol.clone())) {
            return Err(fails("address already in use"));
        }
        // No host has an address that is kept for examples.
        if ip.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_documentation()) {
            return Err(fails("cannot assign requested address"));
        }
        Ok(())
    }
}

/// Puts output behind a log, one entry a line.
pub fn append(log: &mut Vec<std::sync::Arc<Line>>, lines: Vec<Line>) {
    for line in lines {
        let mut rest = line.bytes.clone();
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
            let bytes = rest.split_to(end);
            log.push(std::sync::Arc::new(Line { bytes, ..line.clone() }));
        }
    }
}

/// There is no such container.
pub fn no_such(reference: &str) -> Refused {
    refuse(404, format!("No such container: {reference}"))
}
