//! Scenarios: what people declare, change and do, step by step. Each is first run undisturbed; every disturbed run must end the same.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;

/// One step. After each the lab waits until nothing moves any more, unless the next is [`Step::AtOnce`].
#[derive(Clone, Debug)]
pub enum Step {
    /// A file gets this text.
    Write(&'static str, String),
    /// A text in a file is exchanged for another.
    Edit(&'static str, &'static str, &'static str),
    /// Files go, all at once.
    Remove(Vec<&'static str>),
    /// A file moves.
    Move(&'static str, &'static str),
    /// All files are put aside and others are there: another branch.
    Checkout(Vec<(&'static str, String)>),
    /// Somebody does something on the engine.
    Human(Human),
    /// The engine ends in order, or is killed, and starts again after that many seconds.
    EngineRestart {
        in_order: bool,
        seconds: u64,
    },
    /// The engine ends; and starts again.
    EngineDown,
    EngineUp,
    /// Time passes.
    Pass(Duration),
    /// The wall clock jumps.
    Jump(SignedDuration),
    /// `dockmaster start|touch|extend|restart|prune`.
    Verb(Verb),
    /// The operator is killed and started again.
    Crash,
    /// The operator is killed as it starts a container next, and started again.
    CrashInStart,
    /// The operator ends; and starts. Where there are two, the first.
    OperatorDown,
    OperatorUp,
    /// The host has another route.
    Route(&'static str),
    /// The state directory is deleted while the operator is down.
    LoseState,
    /// The second operator's clone gets what people declared in the first's.
    Pull,
    /// The next so many writes of statuses are undone at once, as by an editor that saves what it read before.
    UndoStatuses(u64),
    /// The source cannot be trusted; and can again.
    Trouble,
    Well,
    /// The next step follows without waiting for calm.
    AtOnce,
}

impl Step {
    /// Whether it changes nothing but files.
    pub fn is_of_files(&self) -> bool {
        matches!(self, Step::Write(..) | Step::Edit(..) | Step::Remove(_) | Step::Move(..) | Step::Checkout(_) | Step::AtOnce)
    }

    /// Does to files, by their paths, what the step does to them.
    pub fn change(&self, files: &mut BTreeMap<String, String>) {
        match self {
            Step::Write(path, text) => drop(files.insert((*path).to_owned(), text.clone())),
            Step::Edit(path, from, to) => {
                let text = files.get_mut(*path).expect("a file to edit");
                assert!(text.contains(from), "{from} is not in {path}:\n{text}");
                *text = text.replacen(from, to, 1);
            }
            Step::Remove(paths) => paths.iter().for_each(|path| drop(files.remove(*path).expect("a file to remove"))),
            Step::Move(from, to) => {
                let text = files.remove(*from).expect("a file to move");
                files.insert((*to).to_owned(), text);
            }
            Step::Checkout(all) => *files = all.iter().map(|(path, text)| ((*path).to_owned(), text.clone())).collect(),
            _ => {}
        }
    }
}

/// What somebody does on the engine, to an object by the name of its container, network or volume.
#[derive(Clone, Debug)]
pub enum Human {
    Kill(&'static str),
    /// The engine is killed in the middle of its start.
    Strand(&'static str),
    Remove(&'static str),
    Stop(&'static str),
    Pause(&'static str),
    Rename(&'static str, &'static str),
    Disconnect(&'static str, &'static str),
    /// Off a network and on it again, without its names.
    LoseAlias(&'static str, &'static str),
    RemoveNetwork(&'static str),
    RemoveVolume(&'static str),
    /// `docker system prune -af`.
    Prune,
    /// An old client's `docker volume prune`.
    OldVolumePrune,
    /// A container of somebody else's with this name.
    Foreign(&'static str),
    /// A volume of somebody else's with this name.
    ForeignVolume(&'static str),
    /// A network of somebody else's with this name and subnet.
    ForeignNetwork(&'static str, &'static str),
    /// A container of somebody else's joins this network.
    Join(&'static str),
    /// Another program takes a port; 0: that of `dm-ws-alice.shop`.
    TakePort(u16),
    /// It gives back what it took.
    FreePorts,
    /// The limits of a container are changed by hand.
    Limit(&'static str),
    /// A tag names another image.
    MoveTag(&'static str),
    /// An image goes; and is there.
    RemoveImage(&'static str),
    AddImage(&'static str),
}

/// What a person asks of the operator.
#[derive(Clone, Debug)]
pub enum Verb {
    Start(&'static str),
    Touch(&'static str),
    Extend(&'static str, u64),
    Restart(&'static str),
    /// Confirms the held deletions.
    Prune,
}

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub steps: Vec<Step>,
    /// The end need not be the reference's: parts of the abstract state that may differ, by the beginning of their line.
    pub may_differ: Vec<&'static str>,
    /// Lines that the end must have, by a part of them; the reference run is checked too.
    pub must: Vec<&'static str>,
    /// Lines that the end must not have.
    pub must_not: Vec<&'static str>,
    /// Whether it may go on trying for ever when the clock was set back on the way.
    pub restless_when_set_back: bool,
    /// Whether what it runs is over when the engine ends it, so that the end is another.
    pub ends_with_the_engine: bool,
    /// Whether a last status may be written later than the end is looked at.
    pub reports_late: bool,
    /// How many operators there are, each with a state directory of its own. Only where there are several does each take the lock.
    pub operators: u64,
    /// Whether each of them reads a directory of its own; the steps are about the first's.
    pub clones: bool,
    /// A fault strikes one of so many calls only: for scenarios with very many.
    pub stride: u64,
}

impl Scenario {
    pub fn new(name: &'static str, steps: Vec<Step>) -> Self {
        Self {
            name,
            steps,
            may_differ: Vec::new(),
            must: Vec::new(),
            must_not: Vec::new(),
            restless_when_set_back: false,
            ends_with_the_engine: false,
            reports_late: false,
            operators: 1,
            clones: false,
            stride: 1,
        }
    }

    pub fn must(mut self, lines: &[&'static str]) -> Self {
        self.must.extend(lines);
        self
    }

    pub fn must_not(mut self, lines: &[&'static str]) -> Self {
        self.must_not.extend(lines);
        self
    }

    pub fn restless_when_set_back(mut self) -> Self {
        self.restless_when_set_back = true;
        self
    }

    pub fn ends_with_the_engine(mut self) -> Self {
        self.ends_with_the_engine = true;
        self
    }

    pub fn reports_late(mut self) -> Self {
        self.reports_late = true;
        self
    }

    pub fn of_two(mut self) -> Self {
        self.operators = 2;
        self
    }

    pub fn of_two_clones(self) -> Self {
        Self { clones: true, ..self.of_two() }
    }

    pub fn stride(mut self, stride: u64) -> Self {
        self.stride = stride;
        self
    }

    pub fn may_differ(mut self, lines: &[&'static str]) -> Self {
        self.may_differ.extend(lines);
        self
    }
}

/// A workspace of one flow-style spec.
pub fn workspace(name: &str, spec: &str) -> String {
    format!(
        "# {name} is kept as it is\napiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: {name}}}\nspec: {{image: \"app:1\", command: [sleep, \"1000000\"]{}{spec}}}\n",
        comma(spec)
    )
}

pub fn preview(name: &str, spec: &str) -> String {
    format!("apiVersion: dockmaster/v1\nkind: Preview\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

pub fn tenant(name: &str, spec: &str) -> String {
    format!("apiVersion: dockmaster/v1\nkind: Tenant\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

pub fn workspace_type(name: &str, spec: &str) -> String {
    format!("apiVersion: dockmaster/v1\nkind: WorkspaceType\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

fn comma(spec: &str) -> &'static str {
    if spec.is_empty() { "" } else { ", " }
}

pub fn write(path: &'static str, text: impl Into<String>) -> Step {
    Step::Write(path, text.into())
}

pub fn edit(path: &'static str, from: &'static str, to: &'static str) -> Step {
    Step::Edit(path, from, to)
}

pub fn remove(paths: &[&'static str]) -> Step {
    Step::Remove(paths.to_vec())
}

pub fn human(human: Human) -> Step {
    Step::Human(human)
}

/// A workspace whose port another program takes while it is stopped.
pub fn port_taken_between(path: &'static str) -> Vec<Step> {
    vec![
        write(path, workspace("shop", "ports: [{name: http, container: 80, publish: Pool}]")),
        edit(path, "{image:", "{state: Stopped, image:"),
        human(Human::TakePort(0)),
        edit(path, "state: Stopped, ", ""),
    ]
}

pub fn pass(seconds: u64) -> Step {
    Step::Pass(Duration::from_secs(seconds))
}
