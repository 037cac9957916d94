//! What goes on: logs, attached connections, waits, statistics; and the processes of a container.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Version;
use super::events::instant;
use super::http::{Flow, Input, Reply, Request, Served, refuse};
use super::lifecycle::no_such;
use super::process::Process;
use super::state::{Container, Engine, Line, Status};
use super::text;

/// Bytes as they are.
pub const RAW: &str = "application/vnd.docker.raw-stream";
/// Bytes with a head that says which stream they are of.
pub const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// A piece of output with its head: which stream, and how many bytes.
fn framed(to: &mut BytesMut, stderr: bool, bytes: &[u8]) {
    to.put_u8(if stderr { 2 } else { 1 });
    to.put_bytes(0, 3);
    to.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    to.put_slice(bytes);
}

/// The output of a process as it comes; `lines` gives what is new from an index on, and whether that is all.
pub fn output_of(
    lines: impl Fn(&Engine, usize) -> (Vec<Arc<Line>>, bool) + Send + 'static,
    tty: bool,
    stdout: bool,
    stderr: bool,
) -> impl FnMut(&mut Engine) -> Flow + Send {
    let mut from = 0;
    move |engine| {
        let (new, over) = lines(engine, from);
        from += new.len();
        let mut bytes = BytesMut::new();
        for line in new.iter().filter(|line| if line.stderr { stderr } else { stdout }) {
            if tty { bytes.put_slice(&line.bytes) } else { framed(&mut bytes, line.stderr, &line.bytes) }
        }
        match (bytes.is_empty(), over) {
            (false, _) => Flow::Data(bytes.freeze()),
            (true, true) => Flow::End,
            (true, false) => Flow::Wait,
        }
    }
}

fn tty(container: &Container) -> bool {
    container.config.get("Tty").and_then(Value::as_bool) == Some(true)
}

/// `GET /containers/{id}/logs`.
pub fn logs(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.container_id(&request.target).ok_or_else(|| no_such(&request.target))?;
    let (stdout, stderr) = (request.flag("stdout"), request.flag("stderr"));
    if !stdout && !stderr {
        return Err(refuse(400, "Bad parameters: you must choose at least one stream"));
    }
    let container = &engine.containers[&id];
    let tty = tty(container);
    let (follow, stamped) = (request.flag("follow"), request.flag("timestamps"));
    let since = request.query("since").filter(|text| *text != "0").and_then(instant);
    let until = request.query("until").filter(|text| *text != "0").and_then(instant);
    let wanted = move |line: &Line| {
        let timely = since.is_none_or(|since| line.at >= since) && until.is_none_or(|until| line.at <= until);
        timely && if line.stderr { stderr } else { stdout }
    };
    let mut next = match request.query("tail").and_then(|text| text.parse::<usize>().ok()) {
        Some(lines) => {
            let behind = container.log.iter().enumerate().rev().filter(|(_, line)| wanted(line)).take(lines).last();
            behind.map_or(container.log.len(), |(at, _)| at)
        }
        None => 0,
    };
    let content = if tty || request.api < (1, 42) { RAW } else { MULTIPLEXED };
    let source = move |engine: &mut Engine| {
        let Some(container) = engine.containers.get(&id) else { return Flow::End };
        let mut bytes = BytesMut::new();
        for line in container.log.iter().skip(next).filter(|line| wanted(line)) {
            let stamp = if stamped { format!("{} ", nanoseconds(line.at)) } else { String::new() };
            let whole = [stamp.as_bytes(), &line.bytes].concat();
            if tty { bytes.put_slice(&whole) } else { framed(&mut bytes, line.stderr, &whole) }
        }
        next = container.log.len().max(next);
        if !bytes.is_empty() {
            return Flow::Data(bytes.freeze());
        }
        if !follow || !container.is_running() { Flow::End } else { Flow::Wait }
    };
    Ok(Reply::stream(content, source))
}

/// RFC 3339 with all nine digits.
fn nanoseconds(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string()
}

/// `POST /containers/{id}/attach`.
pub fn attach(engine: &mut Engine, request: &Request) -> Served {
    let Some(id) = engine.container_id(&request.target) else {
        let text = format!("No such container: {}\r\n", request.target);
        return Ok(Reply::Done { status: 404, content: RAW, body: text.into_bytes() });
    };
    let container = &engine.containers[&id];
    if container.status == Status::Paused {
        return Err(refuse(409, format!("Container {} is paused, unpause the container before attach", request.target)));
    }
    let tty = tty(container);
    let config = |key: &str| container.config.get(key).and_then(Value::as_bool) == Some(true);
    let (open, once) = (config("OpenStdin"), config("StdinOnce"));
    let input = request.flag("stdin") && open;
    let (stream, past) = (request.flag("stream"), if request.flag("logs") { 0 } else { container.log.len() });
    let (run, running) = (container.run, container.is_running());
    if input {
        engine.plug(&id);
    }
    let key = id.clone();
    let lines = move |engine: &Engine, from: usize| {
        let Some(container) = engine.containers.get(&key) else {
            let gone = engine.gone.iter().rev().find(|gone| gone.id == key);
            return (gone.map(|gone| gone.log.iter().skip(past + from).cloned().collect()).unwrap_or_default(), true);
        };
        let new = container.log.iter().skip(past + from).cloned().collect();
        // Whoever attaches before the start hears the whole of the first run.
        let ended = if running { container.run != run } else { container.run >= run + 2 };
        (new, !stream || ended)
    };
    let source = output_of(lines, tty, request.flag("stdout"), request.flag("stderr"));
    let sink = move |engine: &mut Engine, incoming: Input| {
        let process = engine.containers.get_mut(&id).and_then(|container| container.process.as_mut()).filter(|_| input);
        if let Some(process) = process {
            match incoming {
                Input::Data(bytes) => process.stdin.buffer.extend_from_slice(&bytes),
                Input::End | Input::Gone if once => process.stdin.ended = true,
                Input::End | Input::Gone => {}
            }
            engine.go_on(&id);
        }
    };
    engine.tell_container(&request.target.clone(), "attach", &[]);
    let content = if tty || request.api < (1, 42) { RAW } else { MULTIPLEXED };
    Ok(Reply::Upgrade { content, source: Box::new(source), sink: Box::new(sink) })
}

/// `POST /containers/{id}/wait`.
pub fn wait(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.container_id(&request.target).ok_or_else(|| no_such(&request.target))?;
    let container = &engine.containers[&id];
    let (run, running, version) = (container.run, container.is_running(), engine.version);
    let condition = request.query("condition").unwrap_or_default();
    if version == Version::V28_5 && !matches!(condition, "" | "not-running" | "next-exit" | "removed") {
        return Err(refuse(400, format!("invalid condition: \"{condition}\"")));
    }
    let (removed, next) = (condition == "removed", condition == "next-exit");
    let mut told = false;
    let mut code = container.exit_code;
    let source = move |engine: &mut Engine| {
        if told {
            return Flow::End;
        }
        let container = engine.containers.get(&id);
        if let Some(container) = container {
            let over = match (removed, next) {
                (true, _) => false,
                (false, true) => {
                    (if running { container.run > run } else { container.run >= run + 2 }) && !matches!(container.status, Status::Running | Status::Paused)
                }
                (false, false) => !container.is_running(),
            };
            if !over {
                return Flow::Wait;
            }
        }
        code = container.map_or_else(|| engine.gone.iter().rev().find(|gone| gone.id == id).map_or(code, |gone| gone.code), |container| container.exit_code);
        told = true;
        let reply = match version {
            Version::V20_10 => json!({"Error": null, "StatusCode": code}),
            Version::V28_5 => json!({"StatusCode": code}),
        };
        Flow::Data(Bytes::from(format!("{reply}\n")))
    };
    Ok(Reply::stream("application/json", source))
}

/// `POST /containers/{id}/resize`.
pub fn resize(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.container_id(&request.target).ok_or_else(|| no_such(&request.target))?;
    let size = super::exec::size(request);
    let word = engine.word("Container", "container").to_owned();
    match engine.containers.get_mut(&id).filter(|container| container.is_running()).and_then(|container| container.process.as_mut()) {
        Some(process) => {
            if process.terminal.is_some() {
                process.terminal = size;
            }
            Ok(Reply::empty(200))
        }
        None => Err(refuse(409, format!("{word} {id} is not running"))),
    }
}

/// `GET /containers/{id}/top`.
pub fn top(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.container_id(&request.target).ok_or_else(|| no_such(&request.target))?;
    let container = &engine.containers[&id];
    if !container.is_running() {
        return Err(refuse(409, format!("{} {id} is not running", engine.word("Container", "container"))));
    }
    let commands = engine.execs.values().filter(|exec| exec.container == id).filter_map(|exec| exec.process.as_ref());
    let rows: Vec<Vec<String>> = container
        .process
        .iter()
        .chain(commands)
        .map(|process| {
            let pid = process.pid.to_string();
            vec![
                "root".to_owned(),
                pid,
                "1".to_owned(),
                "0".to_owned(),
                "00:00".to_owned(),
                "?".to_owned(),
                "00:00:00".to_owned(),
                text::command(&process.argv),
            ]
        })
        .collect();
    Ok(Reply::json(200, &json!({"Processes": rows, "Titles": ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]})))
}

/// `GET /containers/{id}/stats`.
pub fn stats(engine: &mut Engine, request: &Request) -> Served {
    let id = engine.container_id(&request.target).ok_or_else(|| no_such(&request.target))?;
    let stream = request.query("stream").is_none() || request.flag("stream");
    if !stream {
        return Ok(Reply::json(200, &engine.statistics(&id)));
    }
    let mut due = Duration::ZERO;
    let source = move |engine: &mut Engine| {
        if !engine.containers.contains_key(&id) {
            return Flow::End;
        }
        if engine.elapsed < due {
            return Flow::Wait;
        }
        due = engine.elapsed + Duration::from_secs(1);
        engine.alarm(Duration::from_secs(1));
        Flow::Data(Bytes::from(format!("{}\n", engine.statistics(&id))))
    };
    Ok(Reply::stream("application/json", source))
}

impl Engine {
    /// Keeps a place for the input of a container that does not run yet.
    fn plug(&mut self, id: &str) {
        if let Some(container) = self.containers.get_mut(id) {
            let process = container.process.get_or_insert_with(|| Process::new(0, Arc::new(Vec::new()), [], ""));
            process.stdin.attached += 1;
        }
    }

    fn statistics(&self, id: &str) -> Value {
        let Some(container) = self.containers.get(id) else { return Value::Null };
        let name = format!("/{}", container.name);
        let usage = json!({"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0});
        let idle = json!({"cpu_usage": usage, "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0}});
        if !container.is_running() {
            let never = "0001-01-01T00:00:00Z";
            return json!({
                "read": never, "preread": never, "pids_stats": {}, "blkio_stats": {}, "num_procs": 0, "storage_stats": {}, "cpu_stats": idle,
                "precpu_stats": idle, "memory_stats": {}, "name": name, "id": id,
            });
        }
        let ran = u64::try_from(self.elapsed.saturating_sub(container.started_at).as_nanos()).unwrap_or(u64::MAX) / 1000;
        let cpu = json!({
            "cpu_usage": {"total_usage": ran, "usage_in_kernelmode": 0, "usage_in_usermode": ran}, "system_cpu_usage": ran * 1000, "online_cpus": self.host.cpus,
            "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
        });
        let limit = u64::try_from(container.host_number("Memory")).ok().filter(|limit| *limit > 0).unwrap_or(self.host.memory);
        let (sent, received) = container.traffic;
        let networks: serde_json::Map<String, Value> = container
            .endpoints
            .values()
            .filter(|endpoint| !endpoint.ip.is_empty())
            .enumerate()
            .map(|(at, _)| {
                let (sent, received) = if at == 0 { (sent, received) } else { (0, 0) };
                let counters = json!({
                    "rx_bytes": received, "rx_packets": received / 100, "rx_errors": 0, "rx_dropped": 0, "tx_bytes": sent, "tx_packets": sent / 100,
                    "tx_errors": 0, "tx_dropped": 0,
                });
                (format!("eth{at}"), counters)
            })
            .collect();
        let mut stats = json!({
            "read": text::instant(Some(self.now)), "preread": "0001-01-01T00:00:00Z", "pids_stats": {"current": 1}, "blkio_stats": {}, "num_procs": 0,
            "storage_stats": {}, "cpu_stats": cpu, "precpu_stats": idle, "memory_stats": {"usage": 1 << 20, "limit": limit, "stats": {}}, "name": name,
            "id": id,
        });
        if let (false, Some(stats)) = (networks.is_empty(), stats.as_object_mut()) {
            stats.insert("networks".to_owned(), Value::Object(networks));
        }
        stats
    }
}
