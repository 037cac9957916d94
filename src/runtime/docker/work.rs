//! What tasks do on an engine: pull, run a command, take an activity sample, measure, read the end of a log.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bollard::models::CreateImageInfo;
use bollard::query_parameters::{CreateImageOptions, LogsOptions};
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use jiff::Timestamp;

use super::connect::Client;
use super::error::{classify, within};
use super::helper_image::HelperImage;
use super::{command, registry, usage};
use crate::observed::{ContainerId, TaskKey, TaskResult};
use crate::planner::Task;
use crate::runtime::Now;
use crate::runtime::tasks::{Progress, Work};

/// The limit of a quick call.
const CALL: Duration = Duration::from_secs(30);
/// A pull that brings nothing for so long has failed.
const PULL_SILENCE: Duration = Duration::from_secs(300);
/// Inspects of exec sessions in flight.
const SESSIONS: usize = 8;
/// How much of a log is kept.
const LOG: usize = 64 << 10;

/// The work of an engine's tasks.
pub struct DockerWork {
    /// The engine.
    pub client: Client,
    /// How to come by the helper image.
    pub helper: HelperImage,
    /// The clock by which starts and ends are recorded.
    pub now: Now,
}

impl Work for DockerWork {
    fn now(&self) -> Timestamp {
        (self.now)()
    }

    fn run(&self, key: TaskKey, task: Task, progress: Progress) -> BoxFuture<'static, Result<TaskResult, String>> {
        let client = self.client.clone();
        match (task, container(&key)) {
            (Task::Helper, _) => {
                let helper = self.helper.clone();
                Box::pin(async move { helper.ensure(&client).await.map(|_| TaskResult::Done).map_err(|error| error.to_string()) })
            }
            (Task::Pull { reference }, _) => Box::pin(async move { pull(&client, &reference, &progress).await }),
            (Task::Exec { argv, limit }, Some(id)) => Box::pin(async move { command::run(&client, &id, argv, limit.0.unsigned_abs()).await }),
            (Task::Sample { ignore }, Some(id)) => Box::pin(async move { sample(&client, &id, &ignore).await }),
            (Task::Tail { lines, until }, Some(id)) => Box::pin(async move { tail(&client, &id, lines, until).await }),
            (Task::Disk { volumes }, Some(id)) => Box::pin(async move { usage::disk(&client, &id, &volumes).await }),
            (Task::Memory, Some(id)) => Box::pin(async move { usage::memory(&client, &id).await }),
            (Task::Exec { .. } | Task::Sample { .. } | Task::Tail { .. } | Task::Disk { .. } | Task::Memory, None) => {
                Box::pin(async { Err("this task needs a container, and its key names none".to_owned()) })
            }
        }
    }
}

/// The container that a task is about.
fn container(key: &TaskKey) -> Option<ContainerId> {
    match key {
        TaskKey::Hook(id, _)
        | TaskKey::IdleCheck(id)
        | TaskKey::IdleWarn(id)
        | TaskKey::Sample(id)
        | TaskKey::Tail(id)
        | TaskKey::Probe(id)
        | TaskKey::Disk(id)
        | TaskKey::Memory(id) => Some(id.clone()),
        TaskKey::Pull(_) | TaskKey::Helper => None,
    }
}

async fn pull(client: &Client, reference: &str, progress: &Progress) -> Result<TaskResult, String> {
    let credentials = registry::credentials(client.config.as_deref(), reference).await?;
    let options = CreateImageOptions { from_image: Some(registry::with_tag(reference)), ..Default::default() };
    let mut stream = Box::pin(client.docker.create_image(Some(options), None, credentials));
    let mut layers = Layers::default();
    loop {
        match tokio::time::timeout(PULL_SILENCE, stream.next()).await {
            Err(_) => return Err(format!("the registry sent nothing for {} s", PULL_SILENCE.as_secs())),
            Ok(None) => return Ok(TaskResult::Done),
            Ok(Some(Err(error))) => return Err(classify(error).to_string()),
            Ok(Some(Ok(info))) => progress.tell(layers.take(info)),
        }
    }
}

/// How far the layers of a pull are.
#[derive(Default)]
struct Layers(BTreeMap<String, (i64, i64)>);

impl Layers {
    /// Takes a report in, and says where the whole stands.
    fn take(&mut self, info: CreateImageInfo) -> String {
        if let (Some(layer), Some("Downloading"), Some(detail)) = (&info.id, info.status.as_deref(), &info.progress_detail)
            && let (Some(current), Some(total)) = (detail.current, detail.total)
        {
            self.0.insert(layer.clone(), (current, total));
        }
        if let (Some(layer), Some("Download complete" | "Pull complete" | "Extracting")) = (&info.id, info.status.as_deref())
            && let Some(entry) = self.0.get_mut(layer)
        {
            entry.0 = entry.1;
        }
        let (current, total) = self.0.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
        if total <= 0 {
            return "pulling".to_owned();
        }
        let mebibytes = |bytes: i64| bytes as f64 / 1_048_576.0;
        format!("pulling {} % ({:.1} of {:.1} MiB)", current * 100 / total, mebibytes(current), mebibytes(total))
    }
}

async fn sample(client: &Client, id: &ContainerId, ignore: &[Vec<String>]) -> Result<TaskResult, String> {
    let inspect = within(CALL, client.docker.inspect_container(&id.0, None)).await.map_err(|error| error.to_string())?;
    let pid = inspect.state.and_then(|state| state.pid).unwrap_or_default();
    let ignore: Vec<Vec<String>> = ignore.iter().map(|argv| plain(argv)).collect();
    let sessions = stream::iter(inspect.exec_ids.unwrap_or_default()).map(|session| async move {
        // One that ended in between counts as little as one that ended before.
        let inspect = within(CALL, client.docker.inspect_exec(&session)).await.ok()?;
        let process = inspect.process_config.filter(|_| inspect.running == Some(true))?;
        let argv: Vec<String> = process.entrypoint.into_iter().chain(process.arguments.unwrap_or_default()).collect();
        Some((session, argv))
    });
    let open: Vec<Option<(String, Vec<String>)>> = sessions.buffer_unordered(SESSIONS).collect().await;
    let mut execs: Vec<_> = open.into_iter().flatten().filter(|(_, argv)| !ignore.contains(argv)).collect();
    execs.sort();
    let sent = match client.local.then(|| sent_by_process(id, pid)).flatten() {
        Some(sent) => sent,
        None => usage::stats(client, id).await?.networks.unwrap_or_default().into_values().filter_map(|network| network.tx_bytes).sum(),
    };
    Ok(TaskResult::Sample { sent, execs })
}

/// A health test as the command that Docker runs for it.
fn plain(argv: &[String]) -> Vec<String> {
    match argv {
        [first, rest @ ..] if first == "CMD" => rest.to_vec(),
        [first, script] if first == "CMD-SHELL" => vec!["/bin/sh".to_owned(), "-c".to_owned(), script.clone()],
        other => other.to_vec(),
    }
}

/// What the container's network namespace sent, of all its interfaces but the loopback. `None`: the process cannot be seen from here,
/// or its number is another's.
fn sent_by_process(id: &ContainerId, pid: i64) -> Option<u64> {
    if pid <= 0 || !std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?.contains(&id.0) {
        return None;
    }
    Some(sent_bytes(&std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?))
}

/// The column of sent bytes of `/proc/net/dev`: the ninth after the interface's name.
fn sent_bytes(table: &str) -> u64 {
    let rows = table.lines().filter_map(|line| line.split_once(':')).filter(|(name, _)| name.trim() != "lo");
    rows.filter_map(|(_, counters)| counters.split_whitespace().nth(8)?.parse::<u64>().ok()).sum()
}

/// The last lines of a log, at most [`LOG`] bytes. Those written after `until` are left out, which the engine can do only by whole seconds.
async fn tail(client: &Client, id: &ContainerId, lines: u32, until: Option<Timestamp>) -> Result<TaskResult, String> {
    let read = async {
        let asked = if until.is_some() { lines.saturating_mul(10) } else { lines };
        let options = LogsOptions { stdout: true, stderr: true, timestamps: true, tail: asked.to_string(), ..Default::default() };
        let mut chunks = client.docker.logs(&id.0, Some(options));
        let mut kept: VecDeque<Vec<u8>> = VecDeque::new();
        while let Some(chunk) = chunks.next().await {
            let bytes = chunk.map_err(|error| classify(error).to_string())?.into_bytes();
            kept.extend(written_by(&bytes, until).map(<[u8]>::to_vec));
            while kept.len() > usize::try_from(lines).unwrap_or(usize::MAX) || kept.iter().map(Vec::len).sum::<usize>() > LOG {
                kept.pop_front();
            }
        }
        Ok(TaskResult::Tail(String::from_utf8_lossy(kept.make_contiguous().concat().as_slice()).into_owned()))
    };
    tokio::time::timeout(CALL, read).await.map_err(|_| "the engine gave no log".to_owned())?
}

/// A line of a log without the instant before it; `None`: it was written later.
fn written_by(line: &[u8], until: Option<Timestamp>) -> Option<&[u8]> {
    let space = line.iter().position(|byte| *byte == b' ')?;
    let at: Timestamp = std::str::from_utf8(&line[..space]).ok()?.parse().ok()?;
    until.is_none_or(|until| at <= until).then_some(&line[space + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::ProgressDetail;

    #[test]
    fn lines_of_a_log_up_to_an_instant() {
        let line = b"2026-03-02T10:00:00.5Z the end\n";
        assert_eq!(written_by(line, None), Some(&b"the end\n"[..]));
        assert_eq!(written_by(line, "2026-03-02T10:00:00.5Z".parse().ok()), Some(&b"the end\n"[..]));
        assert_eq!(written_by(line, "2026-03-02T10:00:00.4Z".parse().ok()), None);
    }

    #[test]
    fn sent_bytes_leave_the_loopback_out() {
        let table = "Inter-|   Receive                                                |  Transmit\n \
             face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n    \
             lo:    9000 1 0 0 0 0 0 0    9000 1 0 0 0 0 0 0\n  eth0: 1 2 3 4 5 6 7 8 900 1 0 0 0 0 0 0\n  eth1:1 2 3 4 5 6 7 8 11 1 0 0 0 0 0 0\n";
        assert_eq!(sent_bytes(table), 911);
    }

    #[test]
    fn health_tests_are_compared_as_the_commands_that_run() {
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(plain(&argv(&["CMD", "true", "x"])), argv(&["true", "x"]));
        assert_eq!(plain(&argv(&["CMD-SHELL", "true x"])), argv(&["/bin/sh", "-c", "true x"]));
        assert_eq!(plain(&argv(&["sleep", "1"])), argv(&["sleep", "1"]));
    }

    #[test]
    fn progress_adds_the_layers_up() {
        let info = |id: &str, status: &str, detail: Option<(i64, i64)>| CreateImageInfo {
            id: Some(id.into()),
            status: Some(status.into()),
            progress_detail: detail.map(|(current, total)| ProgressDetail { current: Some(current), total: Some(total) }),
            ..Default::default()
        };
        let mut layers = Layers::default();
        assert_eq!(layers.take(info("latest", "Pulling from x", None)), "pulling");
        assert_eq!(layers.take(info("a", "Downloading", Some((1 << 20, 3 << 20)))), "pulling 33 % (1.0 of 3.0 MiB)");
        assert_eq!(layers.take(info("b", "Downloading", Some((0, 1 << 20)))), "pulling 25 % (1.0 of 4.0 MiB)");
        assert_eq!(layers.take(info("a", "Download complete", None)), "pulling 75 % (3.0 of 4.0 MiB)");
    }
}
