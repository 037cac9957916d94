//! The meaning of a document that has the right structure: what the types cannot say, each at its place.
//!
//! What needs other documents (a type that does not exist, a quota) is not looked at here, nor what this version does not do yet.

use std::collections::{BTreeMap, BTreeSet};

use super::render::{nearest, quote};
use super::structure::{Finding, title};
use super::tree::{Content, Node, Path};
use super::words;
use crate::resource::hours::HoursError;
use crate::resource::preview::Copy;
use crate::resource::workspace::{Build, EnvVar, Health, Hooks, Idle, Mount, Port, Publish, Resources, Route, RunningHours, Security, Service};
use crate::resource::{Metadata, PreviewSpec, RESTART, Resource, SUSPEND, TenantSpec, WorkspaceSpec, WorkspaceTypeSpec};

/// The longest single text.
const MAX_TEXT: usize = 32 * 1024;
/// Less memory than this Docker refuses.
const MIN_MEMORY: u64 = 6 << 20;

/// All that is wrong with the meaning of a document.
pub fn check(resource: &Resource, tree: &Node) -> Vec<Finding> {
    let mut check = Check { tree, findings: Vec::new() };
    let spec = Path::default().key("spec");
    check.metadata(resource.metadata());
    for part in ["metadata", "spec"] {
        if let Some(node) = tree.get(part) {
            check.texts(node, &Path::default().key(part));
        }
    }
    match resource {
        Resource::Workspace(object) => check.workspace(&object.spec, &object.metadata.name, &spec),
        Resource::Preview(object) => check.preview(&object.spec, &spec),
        Resource::WorkspaceType(object) => check.workspace_type(&object.spec, &object.metadata.name, &spec),
        Resource::Tenant(object) => check.tenant(&object.spec, &spec),
    }
    check.findings
}

struct Check<'a> {
    tree: &'a Node,
    findings: Vec<Finding>,
}

impl Check<'_> {
    fn find(&mut self, path: Path, message: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Finding { span: self.tree.locate(&path), path, message: message.into(), help: help.into() });
    }

    /// The same of a key.
    fn find_key(&mut self, path: Path, message: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Finding { span: self.tree.locate_key(&path), path, message: message.into(), help: help.into() });
    }

    /// Finds that a text is not what it should be, where `problem` says what it is not.
    fn syntax(&mut self, path: Path, text: &str, problem: Option<&'static str>) {
        if let Some(problem) = problem {
            self.find(path.clone(), format!("{} is {}", title(&path), quote(text)), problem);
        }
    }

    /// Finds the entries of a list whose key another entry has already.
    fn unique<T: Ord>(&mut self, keys: impl IntoIterator<Item = (Path, T)>, message: impl Fn(&T) -> String) {
        let mut seen = BTreeSet::new();
        for (path, key) in keys {
            let repeated = message(&key);
            if !seen.insert(key) {
                self.find(path, repeated, "change or remove one of them");
            }
        }
    }

    fn texts(&mut self, node: &Node, path: &Path) {
        match &node.content {
            Content::Scalar { text, .. } if text.len() > MAX_TEXT => {
                let help = "put it into a file of the image or of a volume";
                self.find(path.clone(), format!("{} is longer than {} KiB", title(path), MAX_TEXT / 1024), help);
            }
            Content::Scalar { text, .. } if text.contains('\0') => self.find(path.clone(), format!("{} contains a NUL character", title(path)), "remove it"),
            Content::Scalar { .. } => {}
            Content::List(nodes) => nodes.iter().enumerate().for_each(|(index, node)| self.texts(node, &path.index(index))),
            Content::Map(entries) => entries.iter().for_each(|entry| self.texts(&entry.value, &path.key(&entry.key))),
        }
    }

    fn metadata(&mut self, metadata: &Metadata) {
        let path = Path::default().key("metadata");
        for key in metadata.labels.keys() {
            let at = path.key("labels").key(key);
            if key.starts_with("dockmaster.") {
                self.find_key(at, format!("the label {} is the operator's own", quote(key)), "choose a name that does not begin with `dockmaster.`");
            } else if key.is_empty() || key.contains(char::is_control) || key.contains(char::is_whitespace) {
                self.find_key(at, format!("the label {} is no name of a label", quote(key)), "use letters, digits, `.`, `-`, `_` and `/`");
            }
        }
        for (key, value) in &metadata.annotations {
            let at = path.key("annotations").key(key);
            if key == SUSPEND && !matches!(value.as_str(), "true" | "false") {
                self.find(
                    at,
                    format!("`{SUSPEND}` must be `\"true\"` or `\"false\"`, not {}", quote(value)),
                    "write `\"true\"` to take the operator's hands off",
                );
            } else if key.starts_with("dockmaster/") && ![SUSPEND, RESTART].contains(&key.as_str()) {
                let help = nearest(key, [SUSPEND, RESTART])
                    .map_or_else(|| format!("those that act are `{SUSPEND}` and `{RESTART}`"), |name| format!("did you mean `{name}`?"));
                self.find_key(at, format!("unknown annotation {}", quote(key)), help);
            }
        }
    }

    fn workspace(&mut self, spec: &WorkspaceSpec, name: &str, at: &Path) {
        let runtime = Runtime {
            image: &spec.image,
            entrypoint: &spec.entrypoint,
            command: &spec.command,
            working_dir: &spec.working_dir,
            user: &spec.user,
            env: &spec.env,
            health: &spec.health,
            resources: &spec.resources,
        };
        self.runtime(&runtime, at);
        self.label(&spec.type_, at.key("type"));
        self.ports(&spec.ports, at);
        // A type may bring further ports.
        self.route(&spec.route, spec.type_.is_none().then_some(&spec.ports), at);
        self.mounts(&spec.mounts, at);
        self.services(&spec.services, name, at);
        self.hooks(&spec.hooks, at);
        self.stop_signal(&spec.stop_signal, at);
        self.security(&spec.security, at);
        self.idle(&spec.idle, at);
        self.build(&spec.build, at);
        if let Some(hours) = &spec.running_hours {
            self.hours(hours, &at.key("runningHours"));
        }
        let networks = at.key("networks");
        self.unique(spec.networks.iter().enumerate().map(|(index, name)| (networks.index(index), name)), |name| {
            format!("the network {} stands here twice", quote(name))
        });
        for (index, network) in spec.networks.iter().enumerate() {
            self.syntax(networks.index(index), network, words::network(network));
        }
    }

    fn preview(&mut self, spec: &PreviewSpec, at: &Path) {
        match (&spec.workspace, &spec.image) {
            (Some(_), Some(_)) => self.find(at.key("image"), "a Preview is of a workspace or of an image, not of both", "remove `workspace` or `image`"),
            (None, None) => self.find(at.clone(), "a Preview needs a `workspace` or an `image`", "name the workspace that it copies: `workspace: <name>`"),
            (Some(_), None) | (None, Some(_)) => {}
        }
        self.label(&spec.workspace, at.key("workspace"));
        if spec.ttl.is_some() && spec.expires_at.is_some() {
            self.find(at.key("expiresAt"), "`ttl` and `expiresAt` cannot stand together", "remove one of them");
        }
        if spec.workspace.is_none() && spec.copy == Some(Copy::Volume) {
            self.find(at.key("copy"), "a Preview of an image has no volumes to copy", "remove `copy`");
        }
        let (entrypoint, working_dir, user) = (None, None, None);
        let runtime = Runtime {
            image: &spec.image,
            entrypoint: &entrypoint,
            command: &spec.command,
            working_dir: &working_dir,
            user: &user,
            env: &spec.env,
            health: &spec.health,
            resources: &spec.resources,
        };
        self.runtime(&runtime, at);
        self.ports(&spec.ports, at);
        // The workspace may bring further ports.
        self.route(&spec.route, spec.workspace.is_none().then_some(&spec.ports), at);
    }

    fn workspace_type(&mut self, spec: &WorkspaceTypeSpec, name: &str, at: &Path) {
        let runtime = Runtime {
            image: &spec.image,
            entrypoint: &spec.entrypoint,
            command: &spec.command,
            working_dir: &spec.working_dir,
            user: &spec.user,
            env: &spec.env,
            health: &spec.health,
            resources: &spec.resources,
        };
        self.runtime(&runtime, at);
        self.label(&spec.base, at.key("base"));
        if spec.base.as_deref() == Some(name) {
            self.find(at.key("base"), format!("the type {} builds on itself", quote(name)), "name another type, or rename this one");
        }
        self.ports(&spec.ports, at);
        self.mounts(&spec.mounts, at);
        self.services(&spec.services, "", at);
        self.hooks(&spec.hooks, at);
        self.stop_signal(&spec.stop_signal, at);
        self.security(&spec.security, at);
        self.idle(&spec.idle, at);
        self.build(&spec.build, at);
    }

    fn tenant(&mut self, spec: &TenantSpec, at: &Path) {
        if let Some(defaults) = &spec.defaults {
            self.label(&defaults.workspace, at.key("defaults").key("workspace"));
            self.memory(defaults.memory, at.key("defaults").key("memory"));
        }
        if let Some(quota) = &spec.quota {
            self.memory(quota.memory, at.key("quota").key("memory"));
        }
        for (index, path) in spec.policy.iter().flat_map(|policy| policy.host_paths.iter().flatten()).enumerate() {
            self.syntax(at.key("policy").key("hostPaths").index(index), path, words::absolute(path));
        }
    }

    /// What the main container, a service, a type and a preview have in common.
    fn runtime(&mut self, runtime: &Runtime<'_>, at: &Path) {
        if let Some(image) = runtime.image {
            self.syntax(at.key("image"), image, words::image(image));
        }
        if let Some(directory) = runtime.working_dir {
            self.syntax(at.key("workingDir"), directory, words::absolute(directory));
        }
        if let Some(user) = runtime.user {
            self.syntax(at.key("user"), user, words::user(user));
        }
        self.program(runtime.entrypoint, at.key("entrypoint"));
        self.program(runtime.command, at.key("command"));
        self.env(runtime.env, at);
        self.health(runtime.health, at);
        let memory = runtime.resources.as_ref().and_then(|resources| resources.memory);
        self.memory(memory, at.key("resources").key("memory"));
    }

    fn memory(&mut self, memory: Option<crate::resource::Bytes>, at: Path) {
        if let Some(memory) = memory.filter(|memory| memory.0 < MIN_MEMORY) {
            self.find(at, format!("`{memory}` of memory is less than Docker accepts"), "give at least `6m`; a unit may be missing, as in `512m`");
        }
    }

    /// An empty list takes the image's away; a list has a program at its head.
    fn program(&mut self, command: &Option<Vec<String>>, at: Path) {
        if command.as_ref().and_then(|words| words.first()).is_some_and(|program| program.trim().is_empty()) {
            self.find(at.index(0), format!("{} begins with an empty word", title(&at)), "name the program first");
        }
    }

    fn env(&mut self, env: &[EnvVar], at: &Path) {
        let at = at.key("env");
        let keys = env.iter().enumerate().map(|(index, variable)| (at.index(index).key("name"), &variable.name));
        self.unique(keys, |name| format!("the variable {} stands here twice", quote(name)));
        for (index, variable) in env.iter().enumerate() {
            match (&variable.value, &variable.secret) {
                (Some(_), Some(_)) => {
                    self.find(at.index(index), format!("the variable {} has a `value` and a `secret`", quote(&variable.name)), "remove one of them")
                }
                (None, None) => {
                    self.find(at.index(index), format!("the variable {} has no value", quote(&variable.name)), "add `value: \"\"` for an empty one")
                }
                (Some(_), None) | (None, Some(_)) => {}
            }
        }
    }

    fn ports(&mut self, ports: &[Port], at: &Path) {
        let at = at.key("ports");
        let each = |field: &'static str| ports.iter().enumerate().map(move |(index, port)| (index, field, port));
        let named = each("name").map(|(index, field, port)| (at.index(index).key(field), &port.name));
        self.unique(named, |name| format!("the port name {} stands here twice", quote(name)));
        let protocol = |port: &Port| port.protocol.map_or("tcp", |protocol| protocol.as_str());
        let inside = each("container").map(|(index, field, port)| (at.index(index).key(field), (port.container, protocol(port))));
        self.unique(inside, |(port, protocol)| format!("the container port {port}/{protocol} stands here twice"));
        let fixed = each("publish").filter_map(|(index, field, port)| match port.publish {
            Some(Publish::Fixed(number)) => Some((at.index(index).key(field), (number, protocol(port)))),
            Some(Publish::None | Publish::Pool) | None => None,
        });
        self.unique(fixed, |(port, protocol)| format!("the host port {port}/{protocol} stands here twice"));
    }

    /// The port of the route is one of `ports`, where these are all there are.
    fn route(&mut self, route: &Option<Route>, ports: Option<&Vec<Port>>, at: &Path) {
        let name = route.as_ref().and_then(|route| route.port.as_ref());
        if let (Some(name), Some(ports)) = (name, ports)
            && !ports.iter().any(|port| port.name == *name)
        {
            let help = nearest(name, ports.iter().map(|port| port.name.as_str())).map_or("add it to `ports`".into(), |name| format!("did you mean `{name}`?"));
            self.find(at.key("route").key("port"), format!("there is no port named {}", quote(name)), help);
        }
    }

    fn mounts(&mut self, mounts: &[Mount], at: &Path) {
        let at = at.key("mounts");
        self.unique(mounts.iter().enumerate().map(|(index, mount)| (at.index(index).key("path"), &mount.path)), |path| {
            format!("two mounts have the path {}", quote(path))
        });
        for (index, mount) in mounts.iter().enumerate() {
            let at = at.index(index);
            self.syntax(at.key("path"), &mount.path, words::mount_path(&mount.path));
            let Mount { volume, shared_volume, external_volume, host, tmpfs, path: _, read_only: _ } = mount;
            let given = [volume.is_some(), shared_volume.is_some(), external_volume.is_some(), host.is_some(), tmpfs.is_some()];
            let wanted = "exactly one of `volume`, `sharedVolume`, `externalVolume`, `host` and `tmpfs`";
            match given.into_iter().filter(|given| *given).count() {
                1 => {}
                0 => self.find(at.clone(), format!("the mount of {} does not say what is mounted", quote(&mount.path)), format!("add {wanted}")),
                _ => self.find(at.clone(), format!("the mount of {} names several things", quote(&mount.path)), format!("keep {wanted}")),
            }
            self.label(volume, at.key("volume"));
            self.label(shared_volume, at.key("sharedVolume"));
            if let Some(name) = external_volume {
                self.syntax(at.key("externalVolume"), name, words::docker_name(name));
            }
            if host.as_ref().is_some_and(|host| host.trim().is_empty() || host.contains(char::is_control)) {
                self.find(at.key("host"), format!("{} is no path", title(&at.key("host"))), "name a directory, absolute or relative to this file");
            }
            if tmpfs.is_some_and(|size| size.0 == 0) {
                self.find(at.key("tmpfs"), "a memory file system needs a size", "write one such as `64m`");
            }
        }
    }

    fn services(&mut self, services: &BTreeMap<String, Service>, own: &str, at: &Path) {
        let at = at.key("services");
        for (name, service) in services {
            let at = at.key(name);
            self.syntax(at.clone(), name, words::label(name));
            if name == own {
                self.find(
                    at.clone(),
                    format!("the service {} has the name of its workspace", quote(name)),
                    "rename it: both are found by their names on one network",
                );
            }
            let runtime = Runtime {
                image: &Some(service.image.clone()),
                entrypoint: &service.entrypoint,
                command: &service.command,
                working_dir: &service.working_dir,
                user: &service.user,
                env: &service.env,
                health: &service.health,
                resources: &service.resources,
            };
            self.runtime(&runtime, &at);
            if let Some(volume) = &service.volume {
                self.syntax(at.key("volume").key("path"), &volume.path, words::mount_path(&volume.path));
            }
            for (index, other) in service.depends_on.iter().enumerate() {
                if !services.contains_key(other) {
                    let help =
                        nearest(other, services.keys().map(String::as_str)).map_or("add it to `services`".into(), |name| format!("did you mean `{name}`?"));
                    self.find(at.key("dependsOn").index(index), format!("there is no service named {}", quote(other)), help);
                }
            }
        }
        if let Some(cycle) = words::cycle(services) {
            let first = cycle.first().cloned().unwrap_or_default();
            let message = format!("services wait for each other in a circle: {} → {first}", cycle.join(" → "));
            self.find(at.key(&first).key("dependsOn"), message, "remove one of these dependencies");
        }
    }

    fn health(&mut self, health: &Option<Health>, at: &Path) {
        let Some(health) = health else { return };
        let at = at.key("health");
        let test = at.key("test");
        let words: Vec<&str> = health.test.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] | ["NONE"] | ["CMD-SHELL", _] => {}
            ["CMD", program, ..] if !program.is_empty() => {}
            ["NONE", ..] => self.find(test, "a health test of `NONE` has no further words", "write `[NONE]`"),
            ["CMD-SHELL", ..] => self.find(
                test,
                "a health test of `CMD-SHELL` has exactly one further word, the command",
                "write `[CMD-SHELL, \"…\"]`, or `[CMD, program, argument]`",
            ),
            ["CMD", ..] => self.find(test, "a health test of `CMD` names a program", "write `[CMD, program, argument]`"),
            [first, ..] => {
                let help = nearest(first, ["CMD", "CMD-SHELL", "NONE"])
                    .map_or_else(|| format!("write `[CMD, {}]`", words.join(", ")), |word| format!("did you mean `{word}`?"));
                self.find(test.index(0), format!("a health test begins with `CMD`, `CMD-SHELL` or `NONE`, not {}", quote(first)), help);
            }
        }
        if health.retries == Some(0) {
            self.find(at.key("retries"), "`retries` must be at least 1", "remove it for the default of 3");
        }
    }

    fn hooks(&mut self, hooks: &Option<Hooks>, at: &Path) {
        let Some(Hooks { post_create, post_start, pre_stop }) = hooks else { return };
        for (name, hook) in [("postCreate", post_create), ("postStart", post_start), ("preStop", pre_stop)] {
            if hook.as_ref().is_some_and(Vec::is_empty) {
                self.find(at.key("hooks").key(name), format!("the hook `{name}` is empty"), "write `[program, argument]`, or remove it");
            }
            self.program(hook, at.key("hooks").key(name));
        }
    }

    fn idle(&mut self, idle: &Option<Idle>, at: &Path) {
        let Some(idle) = idle else { return };
        for (name, exec) in [("check", &idle.check), ("warn", &idle.warn)] {
            self.program(&exec.as_ref().map(|exec| exec.exec.clone()), at.key("idle").key(name).key("exec"));
        }
    }

    fn build(&mut self, build: &Option<Build>, at: &Path) {
        if build.as_ref().is_some_and(|build| build.context.trim().is_empty()) {
            self.find(at.key("build"), "`build` has no `context`", "name the directory with the Dockerfile");
        }
    }

    fn hours(&mut self, hours: &RunningHours, at: &Path) {
        let Err(error) = hours.read() else { return };
        let field = match &error {
            HoursError::Days(_) => "days",
            HoursError::Time(text) if *text == hours.to => "to",
            HoursError::Time(_) => "from",
            HoursError::Zone(_) => "timeZone",
        };
        let text = error.to_string();
        let (what, how) = text.split_once("; ").unwrap_or((&text, "change it"));
        self.find(at.key(field), format!("{}: {what}", title(&at.key(field))), how);
    }

    fn stop_signal(&mut self, signal: &Option<String>, at: &Path) {
        if let Some(signal) = signal
            && !words::is_signal(signal)
        {
            let help = nearest(signal.trim_start_matches("SIG"), words::SIGNALS)
                .map_or("write a signal such as `SIGTERM` or `SIGINT`".into(), |name| format!("did you mean `SIG{name}`?"));
            self.find(at.key("stopSignal"), format!("unknown signal {}", quote(signal)), help);
        }
    }

    fn security(&mut self, security: &Option<Security>, at: &Path) {
        let names = security.iter().flat_map(|security| &security.drop_capabilities);
        for (index, name) in names.enumerate() {
            self.syntax(at.key("security").key("dropCapabilities").index(index), name, words::capability(name));
        }
    }

    fn label(&mut self, name: &Option<String>, at: Path) {
        if let Some(name) = name {
            self.syntax(at, name, words::label(name));
        }
    }
}

/// The fields that everything that becomes a container has.
struct Runtime<'a> {
    image: &'a Option<String>,
    entrypoint: &'a Option<Vec<String>>,
    command: &'a Option<Vec<String>>,
    working_dir: &'a Option<String>,
    user: &'a Option<String>,
    env: &'a [EnvVar],
    health: &'a Option<Health>,
    resources: &'a Option<Resources>,
}
