//! Commands in running containers.

use std::sync::Arc;

use serde_json::{Value, json};

use super::Version;
use super::clockwork::Due;
use super::http::{Input, Refused, Reply, Request, Served, refuse};
use super::lifecycle::{append, no_such};
use super::process::{End, Process};
use super::state::{Engine, Exec, Line, Status};
use super::streams::{MULTIPLEXED, RAW, output_of};

/// `POST /containers/{id}/exec`.
pub fn create(engine: &mut Engine, request: &Request) -> Served {
    let given = request.json(engine, ("types.ExecConfig", "container.ExecCreateRequest"))?;
    let words =
        |key: &str| -> Vec<String> { given.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect() };
    let flag = |key: &str| given.get(key).and_then(Value::as_bool) == Some(true);
    let text = |key: &str| given.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let argv = words("Cmd");
    if argv.is_empty() {
        return Err(refuse(400, "No exec command specified"));
    }
    let container = engine.container_id(&request.target).ok_or_else(|| no_such(&request.target))?;
    engine.may_exec(&container, &request.target)?;
    let id = engine.id();
    let exec = Exec {
        id: id.clone(),
        container: container.clone(),
        argv,
        tty: flag("Tty"),
        attached: (flag("AttachStdin"), flag("AttachStdout"), flag("AttachStderr")),
        user: text("User"),
        env: words("Env"),
        directory: text("WorkingDir"),
        process: None,
        started: false,
        exit_code: None,
        output: Vec::new(),
    };
    engine.tell_exec(&exec, "exec_create");
    engine.execs.insert(id.clone(), exec);
    Ok(Reply::json(201, &json!({"Id": id})))
}

/// `POST /exec/{id}/start`.
pub fn start(engine: &mut Engine, request: &Request) -> Served {
    let given = request.json(engine, ("types.ExecStartCheck", "container.ExecStartOptions"))?;
    let detached = given.get("Detach").and_then(Value::as_bool) == Some(true);
    let id = request.target.clone();
    let exec = engine.execs.get(&id).ok_or_else(|| absent(&id))?.clone();
    if exec.started {
        let state = if exec.exit_code.is_some() { "has already run" } else { "is already running" };
        let text = format!("{} {id} {state}", engine.word("Error: Exec command", "exec command"));
        if detached {
            return Err(refuse(409, text));
        }
        // By now the connection is taken over, and the refusal comes as output.
        let line = Some(Arc::new(Line { at: engine.now, stderr: false, bytes: format!("{text}\r\n").into() }));
        let tty = exec.tty;
        let source = output_of(move |_, from| (if from == 0 { line.clone().into_iter().collect() } else { Vec::new() }, true), tty, true, true);
        return Ok(Reply::Upgrade { content: RAW, source: Box::new(source), sink: Box::new(|_, _| ()) });
    }
    let container = exec.container.clone();
    let reference = engine.containers.get(&container).map(|container| container.name.clone()).unwrap_or_default();
    engine.may_exec(&container, &reference)?;
    let (tty, input) = (exec.tty, exec.attached.0 && !detached);
    if let Err(problem) = engine.begin_exec(&exec, input, given.get("ConsoleSize")) {
        if detached {
            return Err(refuse(400, problem));
        }
        if let Some(exec) = engine.execs.get_mut(&id) {
            exec.output.push(Arc::new(Line { at: engine.now, stderr: false, bytes: format!("{problem}\r\n").into() }));
        }
    }
    if detached {
        return Ok(Reply::empty(200));
    }
    let content = if tty || request.api < (1, 42) || !request.upgrade { RAW } else { MULTIPLEXED };
    let key = id.clone();
    let lines = move |engine: &Engine, from: usize| {
        let exec = engine.execs.get(&key);
        let new: Vec<Arc<Line>> = exec.map(|exec| exec.output.iter().skip(from).cloned().collect()).unwrap_or_default();
        (new, exec.is_none_or(|exec| exec.exit_code.is_some()))
    };
    let source = output_of(lines, tty, exec.attached.1, exec.attached.2);
    let sink = move |engine: &mut Engine, incoming: Input| {
        if let Some(process) = engine.execs.get_mut(&id).and_then(|exec| exec.process.as_mut()).filter(|_| input) {
            match incoming {
                Input::Data(bytes) => process.stdin.buffer.extend_from_slice(&bytes),
                Input::End | Input::Gone => process.stdin.ended = true,
            }
            engine.exec_goes_on(&id);
        }
    };
    Ok(Reply::Upgrade { content, source: Box::new(source), sink: Box::new(sink) })
}

/// `GET /exec/{id}/json`.
pub fn inspect(engine: &mut Engine, request: &Request) -> Served {
    let exec = engine.execs.get(&request.target).ok_or_else(|| absent(&request.target))?;
    let (first, rest) = exec.argv.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
    let mut process = json!({"tty": exec.tty, "entrypoint": first, "arguments": rest, "privileged": false});
    if !exec.user.is_empty() {
        process["user"] = json!(exec.user);
    }
    Ok(Reply::json(
        200,
        &json!({
            "ID": exec.id, "Running": exec.process.is_some(), "ExitCode": exec.exit_code, "ProcessConfig": process, "OpenStdin": exec.attached.0,
            "OpenStderr": exec.attached.2, "OpenStdout": exec.attached.1, "CanRemove": false, "ContainerID": exec.container, "DetachKeys": "",
            "Pid": exec.process.as_ref().map_or(0, |process| process.pid),
        }),
    ))
}

/// `POST /exec/{id}/resize`.
pub fn resize(engine: &mut Engine, request: &Request) -> Served {
    let size = size(request);
    let exec = engine.execs.get_mut(&request.target).ok_or_else(|| absent(&request.target))?;
    match &mut exec.process {
        Some(process) => {
            if process.terminal.is_some() {
                process.terminal = size;
            }
            Ok(Reply::empty(200))
        }
        None => Err(refuse(500, "timeout waiting for exec session ready")),
    }
}

/// Rows and columns.
pub fn size(request: &Request) -> Option<(u16, u16)> {
    let number = |key: &str| request.query(key).and_then(|text| text.parse().ok());
    number("h").zip(number("w"))
}

fn absent(id: &str) -> Refused {
    refuse(404, format!("No such exec instance: {id}"))
}

impl Engine {
    fn may_exec(&self, id: &str, reference: &str) -> Result<(), Refused> {
        let container = self.containers.get(id).ok_or_else(|| no_such(reference))?;
        match container.status {
            Status::Running => Ok(()),
            Status::Paused => Err(refuse(409, format!("Container {reference} is paused, unpause the container before exec"))),
            Status::Restarting => Err(refuse(409, format!("Container {id} is restarting, wait until the container is running"))),
            Status::Created | Status::Removing | Status::Exited | Status::Dead => {
                Err(refuse(409, format!("{} {id} is not running", self.word("Container", "container"))))
            }
        }
    }

    fn tell_exec(&mut self, exec: &Exec, action: &str) {
        let (first, rest) = exec.argv.split_first().map_or(("", &[][..]), |(first, rest)| (first.as_str(), rest));
        self.tell_container(&exec.container, format!("{action}: {first} {}", rest.join(" ")), &[("execID", exec.id.clone())]);
    }

    /// Starts a command; why it cannot be.
    fn begin_exec(&mut self, exec: &Exec, input: bool, size: Option<&Value>) -> Result<(), String> {
        self.tell_exec(exec, "exec_start");
        let program = exec.argv[0].clone();
        let pid = self.pid();
        if !self.with_files(&exec.container, |files| files.has_program(&program)) {
            let why =
                if program.contains('/') { format!("stat {program}: no such file or directory") } else { "executable file not found in $PATH".to_owned() };
            let code = if self.version == Version::V20_10 { 126 } else { 127 };
            if let Some(exec) = self.execs.get_mut(&exec.id) {
                exec.started = true;
                exec.exit_code = Some(code);
            }
            self.changes += 1;
            let text = format!("OCI runtime exec failed: exec failed: unable to start container process: exec: \"{program}\": {why}");
            return Err(format!("{text}{}", self.word(": unknown", "")));
        }
        let config = self.containers.get(&exec.container).map(|container| container.config.clone()).unwrap_or_default();
        let env = config.get("Env").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned);
        let directory = config.get("WorkingDir").and_then(Value::as_str).unwrap_or_default();
        let directory = if exec.directory.is_empty() { directory } else { &exec.directory };
        let env: Vec<String> = env.chain(exec.env.iter().cloned()).collect();
        let mut process = Process::new(pid, Arc::new(exec.argv.clone()), env, directory);
        process.stdin.ended = !input;
        let told = size.and_then(Value::as_array).and_then(|size| {
            let number = |at: usize| size.get(at).and_then(Value::as_u64).and_then(|number| u16::try_from(number).ok());
            number(0).zip(number(1))
        });
        process.terminal = exec.tty.then(|| told.unwrap_or((24, 80)));
        if let Some(exec) = self.execs.get_mut(&exec.id) {
            exec.started = true;
            exec.process = Some(process);
        }
        let id = exec.id.clone();
        self.exec_goes_on(&id);
        Ok(())
    }

    /// Lets a command go on as far as it can.
    pub(super) fn exec_goes_on(&mut self, id: &str) {
        let Some(exec) = self.execs.get_mut(id) else { return };
        let container = exec.container.clone();
        let frozen = self.containers.get(&container).is_none_or(|container| container.status == Status::Paused);
        let Some(mut process) = exec.process.take_if(|_| !frozen) else { return };
        let (end, output) = self.run_process(&container, &mut process);
        let due = process.due();
        let Some(exec) = self.execs.get_mut(id) else { return };
        append(&mut exec.output, output);
        self.changes += 1;
        match end {
            Some(end) => {
                let code = match end {
                    End::Code(code) => code,
                    End::OutOfMemory => 137,
                };
                exec.exit_code = Some(code);
                self.tell_container(&container, "exec_die", &[("execID", id.to_owned()), ("exitCode", code.to_string())]);
            }
            None => {
                exec.process = Some(process);
                if let Some(due) = due {
                    self.after(due.saturating_sub(self.elapsed), Due::Exec(id.to_owned()));
                }
            }
        }
    }

    /// The commands of a container end with it.
    pub(super) fn end_execs(&mut self, container: &str) {
        let mut ended = Vec::new();
        for exec in self.execs.values_mut().filter(|exec| exec.container == container && exec.process.is_some()) {
            exec.process = None;
            exec.exit_code = Some(137);
            ended.push(exec.id.clone());
        }
        for id in ended {
            self.tell_container(container, "exec_die", &[("execID", id), ("exitCode", "137".to_owned())]);
        }
    }
}
