//! What an engine said of an installation's containers while a test ran: whether two of one kind ran side by side, and how many were
//! being replaced at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::operator::Operator;

/// A reader of the engine's events.
pub struct Watch {
    child: Child,
    file: PathBuf,
}

impl Watch {
    /// Begins to read.
    pub fn start(operator: &Operator) -> Self {
        let file = operator.home().join("engine-events");
        let mut command = Command::new("docker");
        command.arg("-H").arg(operator.host()).args(["events", "--format", "{{json .}}", "--filter", "type=container"]);
        command.arg("--filter").arg(format!("label=dockmaster.installation={}", operator.installation()));
        for event in ["create", "start", "die", "rename", "destroy"] {
            command.arg("--filter").arg(format!("event={event}"));
        }
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        command.arg("--since").arg(since.to_string());
        let child = command.stdout(std::fs::File::create(&file).unwrap()).stderr(Stdio::null()).spawn().expect("the docker command line");
        Self { child, file }
    }

    /// Everything said so far: what happened, the container's id, its name, and its labels.
    fn said(&self) -> Vec<(String, String, String, Value)> {
        let text = std::fs::read_to_string(&self.file).unwrap();
        let event = |line: &str| {
            let event: Value = serde_json::from_str(line).ok()?;
            let labels = event["Actor"]["Attributes"].clone();
            Some((event["Action"].as_str()?.to_owned(), event["Actor"]["ID"].as_str()?.to_owned(), labels["name"].as_str()?.to_owned(), labels))
        };
        text.lines().filter_map(event).collect()
    }

    /// Containers that were started while another of the same workspace and service ran.
    pub fn doubles(&self) -> Vec<String> {
        let mut running: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut doubles = Vec::new();
        for (action, id, name, labels) in self.said() {
            let place = format!("{}/{} {}", labels["dockmaster.namespace"], labels["dockmaster.name"], labels["dockmaster.service"]);
            let at_once = running.entry(place.clone()).or_default();
            match action.as_str() {
                "start" => {
                    at_once.insert(id);
                    if at_once.len() > 1 {
                        doubles.push(format!("{name} beside another of {place}"));
                    }
                }
                "die" => {
                    at_once.remove(&id);
                }
                _ => {}
            }
        }
        doubles
    }

    /// How many replacements were made in all, and how many were not finished at once at the most.
    pub fn replacements(&self) -> (usize, usize) {
        let (mut open, mut made, mut most) = (BTreeSet::new(), 0, 0);
        for (action, id, name, _) in self.said() {
            match action.as_str() {
                "create" if name.ends_with("_next") => {
                    made += 1;
                    open.insert(id);
                    most = most.max(open.len());
                }
                "rename" | "destroy" => {
                    open.remove(&id);
                }
                _ => {}
            }
        }
        (made, most)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
