//! `kind: Workspace`: a development environment that runs, and the pieces it shares with the other kinds.
//!
//! Every field is optional, because a value may come from the type or the tenant instead; `desired` merges the layers.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::{Bytes, Cpu, Duration};

/// `spec:` of a Workspace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct WorkspaceSpec {
    /// A WorkspaceType, built in (`static`, `node`, `python`, `php`, `go`, `ruby`, `code-server`) or declared.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub type_: Option<String>,
    /// A Project of the same namespace, mounted at /workspace. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// Whether it should run. A person's stop stays a stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<DeclaredState>,
    /// The image; overrides the type's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// How to build the image. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
    /// When to pull the image. Default: `IfNotPresent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    /// Replaces the image's ENTRYPOINT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's CMD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// The directory in which the command runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// The user that the command runs as: `name`, `uid` or `uid:gid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Environment variables; merged by name over the type's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// Secrets as files. Not supported yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<SecretFile>,
    /// Ports; merged by name over the type's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// The route of the gateway. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// Limits of the main container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// When to stop for want of activity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<Idle>,
    /// Stop when it has run for so long, whatever it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<Duration>,
    /// Run only in these hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running_hours: Option<RunningHours>,
    /// Volumes and host directories; merged by path over the type's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// Existing networks to join, besides the namespace's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// Sidecars on the workspace's private network, reached by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, Service>,
    /// How to tell that it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// What Docker does when the process exits. Default: `unless-stopped`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartPolicy>,
    /// Whether a small init runs as process 1. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// The signal that asks the process to stop. Default: the image's, else SIGTERM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// How long to wait between that signal and SIGKILL. Default: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_grace_period: Option<Duration>,
    /// Commands run inside the container at points of its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// When a replacement may interrupt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update: Option<Update>,
    /// Tightening of the security profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security: Option<Security>,
    /// What becomes of the data when the object is deleted and its tombstone ends. Default: `Snapshot`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
    /// The engine to run on. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
}

/// `state:` of a workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeclaredState {
    /// It should run, as far as idle, hours, lifetime and quota allow.
    Running,
    /// It should not run.
    Stopped,
}

/// When to pull an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PullPolicy {
    /// At creation and restart, so that a moved tag is followed.
    Always,
    /// Only when the engine does not have it.
    IfNotPresent,
    /// Never; a missing image is an error.
    Never,
}

/// `build:`, read so that it can be refused with a reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Build {
    /// The directory with the Dockerfile.
    pub context: String,
    /// The Dockerfile, relative to the context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dockerfile: Option<String>,
    /// The stage to build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Build arguments.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, String>,
}

/// A key of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretRef {
    /// The Secret, of the same namespace.
    pub name: String,
    /// The key in it.
    pub key: String,
}

/// One environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvVar {
    /// Its name.
    #[schemars(regex(pattern = r"^[A-Za-z_][A-Za-z0-9_.-]*$"))]
    pub name: String,
    /// Its value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// A secret as its value. Not supported yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
}

/// A secret as a file. Not supported yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretFile {
    /// Where in the container.
    pub path: String,
    /// Which secret.
    pub secret: SecretRef,
}

/// One port of the main container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Its name; the port named `http` is the one of `status.url`.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// The port inside the container.
    #[schemars(range(min = 1, max = 65535))]
    pub container: u16,
    /// `None` (default), `Pool`, or a port number of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publish: Option<Publish>,
    /// `tcp` (default) or `udp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// The transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// `tcp` or `udp`, as Docker writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

/// How a port is published on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// Not at all.
    None,
    /// On a port leased from the operator's range.
    Pool,
    /// On this port.
    Fixed(u16),
}

/// The gateway's route, read so that it can be refused with a reason.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Route {
    /// Host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Path prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The port's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Whether the prefix is removed before the request is passed on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strip_prefix: Option<bool>,
    /// Who may use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<RouteAuth>,
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RouteAuth {
    /// Everyone.
    Public,
    /// The tenant.
    Tenant,
    /// Whoever knows the password.
    Password,
}

/// Limits of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// CPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory; swap is not added to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Disk; enforced where the storage driver can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Bytes>,
    /// Processes and threads. Default: 512.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub pids: Option<i64>,
}

/// When to stop for want of activity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Idle {
    /// Stop after so long without activity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Sent bytes between two samples that count as activity. Default: 10k.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<Bytes>,
    /// Asked before an idle stop: exit 0 may stop, exit 1 is busy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<Exec>,
    /// Run before an idle stop, to warn who is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warn: Option<Exec>,
}

/// A command run inside the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// Program and arguments; no shell is added.
    #[schemars(length(min = 1))]
    pub exec: Vec<String>,
}

/// Hours in which it may run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RunningHours {
    /// Days of the week on which the hours start: `Mon-Fri`, `Sat,Sun`, `Mon-Wed,Fri`. Default: every day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<String>,
    /// The local time at which they begin: `"08:00"`.
    #[schemars(regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub from: String,
    /// The local time at which they end; earlier than `from` means the next day.
    #[schemars(regex(pattern = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"))]
    pub to: String,
    /// IANA time zone. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// One mount: exactly one of `volume`, `sharedVolume`, `externalVolume`, `host` and `tmpfs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Mount {
    /// A volume that is this workspace's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// A volume that the namespace shares.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_volume: Option<String>,
    /// A volume that exists already; only where the tenant's policy allows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_volume: Option<String>,
    /// A directory of the host, absolute or relative to the spec's file; only below `--host-path`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// A memory file system of this size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs: Option<Bytes>,
    /// Where in the container; absolute.
    pub path: String,
    /// Whether the container may not write. Default: false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// A sidecar.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Service {
    /// The image.
    pub image: String,
    /// Replaces the image's ENTRYPOINT.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's CMD.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// The directory in which the command runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// The user that the command runs as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Environment variables.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// The volume that keeps its data.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<ServiceVolume>,
    /// How to tell that it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// Its limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Services that must run, and be healthy where they have a check, before this one starts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
}

/// The volume of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceVolume {
    /// Where in the container.
    pub path: String,
}

/// A health check, as in a Dockerfile's HEALTHCHECK.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Health {
    /// `[CMD, program, args...]`, `[CMD-SHELL, "command"]`, or `[NONE]` to switch the image's off.
    pub test: Vec<String>,
    /// Time between two tests. Default: 30s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Duration>,
    /// How long one test may take. Default: 10s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy. Default: 3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Time after the start in which failures do not count. Default: 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<Duration>,
    /// Time between two tests in that period. Default: 2s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<Duration>,
}

/// Docker's restart policy. `always` is refused: it would start what a person stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Start again whenever it exits, except after a stop.
    UnlessStopped,
    /// Start again only after a failure.
    OnFailure,
    /// Never.
    No,
}

impl RestartPolicy {
    /// Docker's own word.
    pub fn as_str(self) -> &'static str {
        match self {
            RestartPolicy::UnlessStopped => "unless-stopped",
            RestartPolicy::OnFailure => "on-failure",
            RestartPolicy::No => "no",
        }
    }
}

/// Commands run inside the main container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Hooks {
    /// Once for each container made, after its first start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_create: Option<Vec<String>>,
    /// After each start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post_start: Option<Vec<String>>,
    /// Before each stop, within the grace period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_stop: Option<Vec<String>>,
}

/// When a replacement may interrupt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Update {
    /// Default: at once for the object's own changes, when idle for inherited ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<UpdateWhen>,
    /// Whether the old container stops before the new one starts, which is the default. `StartFirst` is not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<UpdateOrder>,
    /// Whether a replacement keeps what was written outside of volumes. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_root_file_system: Option<bool>,
}

/// What comes first in a replacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateOrder {
    /// The old container stops, then the new one starts.
    StopFirst,
    /// The new container starts beside the old one. Not supported yet.
    StartFirst,
}

/// When a replacement may interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateWhen {
    /// At once.
    Immediately,
    /// When it has been idle for its idle timeout, or is stopped.
    WhenIdle,
    /// At the next restart or start.
    OnRestart,
}

/// Tightening of the security profile; it may only take away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Security {
    /// `Restricted` asks for more than the tenant's policy does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<SecurityProfile>,
    /// Capabilities to drop besides the profile's, without `CAP_`; `ALL` drops all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop_capabilities: Vec<String>,
    /// Whether the root file system is read-only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_root: Option<bool>,
}

/// The security profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SecurityProfile {
    /// Docker's capabilities without NET_RAW, no new privileges, 512 processes, no host namespaces.
    Baseline,
    /// Baseline, and no capabilities, a read-only root file system with a `/tmp` in memory, and a user other than root.
    Restricted,
}

/// What becomes of the data of a deleted object at the end of its tombstone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The volumes go once a snapshot of them was verified; until then they stay and are listed.
    Snapshot,
    /// The volumes stay and are listed.
    Retain,
    /// The volumes go.
    Delete,
}

mod publish {
    //! `publish: None | Pool | 8080`, with one error for everything else.
    use super::Publish;
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
    use std::borrow::Cow;
    use std::fmt;

    impl Serialize for Publish {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            match self {
                Publish::None => serializer.serialize_str("None"),
                Publish::Pool => serializer.serialize_str("Pool"),
                Publish::Fixed(port) => serializer.serialize_u16(*port),
            }
        }
    }

    impl<'de> Deserialize<'de> for Publish {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visitor;
            impl de::Visitor<'_> for Visitor {
                type Value = Publish;
                fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str("`None`, `Pool` or a port number from 1 to 65535")
                }
                fn visit_str<E: de::Error>(self, text: &str) -> Result<Publish, E> {
                    match text {
                        "None" => Ok(Publish::None),
                        "Pool" => Ok(Publish::Pool),
                        other => other.parse().ok().filter(|p| *p > 0).map(Publish::Fixed).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self)),
                    }
                }
                fn visit_u64<E: de::Error>(self, value: u64) -> Result<Publish, E> {
                    u16::try_from(value).ok().filter(|p| *p > 0).map(Publish::Fixed).ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(value), &self))
                }
                fn visit_i64<E: de::Error>(self, value: i64) -> Result<Publish, E> {
                    u64::try_from(value).map_err(|_| E::invalid_value(de::Unexpected::Signed(value), &self)).and_then(|v| self.visit_u64(v))
                }
            }
            deserializer.deserialize_any(Visitor)
        }
    }

    impl JsonSchema for Publish {
        fn schema_name() -> Cow<'static, str> {
            "Publish".into()
        }
        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({"anyOf": [{"type": "string", "enum": ["None", "Pool"]}, {"type": "integer", "minimum": 1, "maximum": 65535}]})
        }
    }
}
