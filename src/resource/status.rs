//! `status:`: what the operator found, as it is written into the file, kept in the ledger and shown by `get`.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::{Condition, ConditionType, Truth, closed_set};
use super::workspace::Protocol;

closed_set! {
    /// Where an object is in its life. Workspace: Pending, Starting, Running, Stopping, Stopped, Error, Deleting.
    /// Preview: Creating, Running, Stopping, Stopped, Expired, Error. Types and tenants: Active.
    Phase {
        /// It may not or cannot start yet.
        Pending,
        /// The preview is being made.
        Creating,
        /// It was started and is not ready yet.
        Starting,
        /// It runs.
        Running,
        /// It is being stopped.
        Stopping,
        /// It does not run, and should not.
        Stopped,
        /// The preview has expired.
        Expired,
        /// It should run and does not.
        Error,
        /// It is being deleted.
        Deleting,
        /// A type or tenant that is in force.
        Active,
    }
}

/// `status:` of any kind; parts that a kind does not have are absent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The generation of the spec that this status speaks of.
    pub observed_generation: u64,
    /// Where it is in its life.
    pub phase: Phase,
    /// Where it can be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Published ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortStatus>,
    /// The main container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerStatus>,
    /// The sidecars.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ServiceStatus>,
    /// The last activity seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activity: Option<ActivityStatus>,
    /// A preview's 128 random bits, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// When a preview expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// What the operator will do next by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
    /// What holds.
    pub conditions: Vec<Condition>,
}

impl Status {
    /// The condition of that type.
    pub fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Whether that condition is present and true.
    pub fn is_true(&self, type_: ConditionType) -> bool {
        self.condition(type_).is_some_and(|condition| condition.status == Truth::True)
    }
}

/// One published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PortStatus {
    /// Its name in the spec.
    pub name: String,
    /// The port inside the container.
    pub container: u16,
    /// The port of the host.
    pub host: u16,
    /// Absent for tcp.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
}

/// The main container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Docker's id.
    pub id: String,
    /// Docker's name.
    pub name: String,
    /// The id of the image that it was made from.
    pub image: String,
    /// When it was last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// How often Docker restarted it.
    #[serde(default)]
    pub restarts: u64,
    /// The exit code of its last run, when it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i64>,
}

/// One sidecar.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Its name in the spec.
    pub name: String,
    /// Docker's word: running, exited, ...
    pub state: String,
    /// Whether it does what it should.
    pub ready: bool,
    /// Docker's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// The last activity seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActivityStatus {
    /// When.
    pub last: Timestamp,
    /// What it was: `start`, `network`, `exec`, `touch`, `check`.
    pub by: String,
}

/// What the operator will do next by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Next {
    /// What: Stop, Start, Expire, Purge, Retry.
    pub action: NextAction,
    /// When.
    pub at: Timestamp,
    /// Why, for people.
    pub why: String,
}

closed_set! {
    /// What the operator will do next by itself.
    NextAction {
        /// Stop it.
        Stop,
        /// Start it.
        Start,
        /// Expire it.
        Expire,
        /// End its tombstone.
        Purge,
        /// Try again what failed.
        Retry,
    }
}
