//! Conditions and reasons: closed sets, from which the documentation and the schema are generated.
//!
//! They follow kstatus (sigs.k8s.io/cli-utils/pkg/kstatus): `Ready`, `Reconciling`, `Stalled`, plus specific ones. Abnormal
//! conditions are present only while they are true.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Declares a closed set whose variants serialize under their own names, with a list of all of them.
macro_rules! closed_set {
    ($(#[$meta:meta])* $name:ident { $($(#[$variant_meta:meta])* $variant:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        pub enum $name { $($(#[$variant_meta])* $variant,)+ }
        impl $name {
            /// All of the set, in the order of its declaration.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            /// The name as it is written.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => stringify!($variant)),+ }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}
pub(crate) use closed_set;

closed_set! {
    /// The types of conditions.
    ConditionType {
        /// What should be so now was seen to be so.
        Ready,
        /// The operator is working on it.
        Reconciling,
        /// Nothing will change until somebody changes something.
        Stalled,
        /// `dockmaster/suspend: "true"`: hands off.
        Suspended,
        /// The namespace may not have or run one more.
        QuotaExceeded,
        /// All ports of the range are leased.
        PortsExhausted,
        /// A fixed port is held by another object or program.
        PortConflict,
        /// No free subnet is left in the pool.
        AddressesExhausted,
        /// A container that is not ours has the name.
        NameConflict,
        /// A volume that is not this object's has the name.
        VolumeConflict,
        /// Another document with the same kind, namespace and name came first.
        DuplicateObject,
        /// The image cannot be had.
        ImagePullFailed,
        /// The tag names another image now than the one that runs.
        ImageOutdated,
        /// The process exits again and again.
        CrashLoop,
        /// The health check fails.
        Unhealthy,
        /// A hook failed.
        HookFailed,
        /// The idle check could not be run or answered neither yes nor no.
        IdleCheckFailed,
        /// A replacement failed and was undone.
        UpdateFailed,
        /// A change waits for a restart.
        RestartPending,
        /// A volume copy failed.
        CopyFailed,
        /// A volume that held data is gone.
        DataLost,
        /// The state directory was lost; whether it may start is not known.
        StateLost,
        /// A deletion waits for `dockmaster prune`.
        PruneBlocked,
        /// The spec asks for something that this version does not do.
        Unsupported,
        /// The disk limit is measured, not enforced.
        DiskNotEnforced,
        /// More disk is used than the limit says.
        DiskOverLimit,
        /// The helper image cannot be made here.
        HelperUnavailable,
        /// The directory of specs cannot be trusted now.
        SourceUnhealthy,
        /// The engine does not answer.
        EngineUnavailable,
        /// Another engine answers than before.
        EngineChanged,
        /// It waits for something named in the message.
        WaitingOn,
        /// Its spec is gone, and this state directory did not make it.
        Orphaned,
        /// A secret is missing.
        SecretMissing,
    }
}

closed_set! {
    /// The reasons of conditions.
    Reason {
        /// It runs, and is healthy where it has a check.
        Running,
        /// The process ended with success, and its restart policy leaves it so.
        Completed,
        /// The spec says so, or a person stopped it.
        Stopped,
        /// Stopped for want of activity.
        Idle,
        /// Stopped at the end of its maximum lifetime.
        Lifetime,
        /// Stopped because of its running hours.
        OutsideHours,
        /// The preview has expired.
        Expired,
        /// A type or a tenant: its definition is in force.
        Accepted,
        /// Operations are under way.
        Progressing,
        /// An image is being pulled.
        Pulling,
        /// A volume is being copied.
        Copying,
        /// The container starts, and is not healthy yet.
        Starting,
        /// It is being deleted.
        Deleting,
        /// The container is paused.
        Paused,
        /// A call failed and is tried again.
        Failed,
        /// The spec cannot be used as it is.
        Invalid,
        /// Nothing was seen of it yet.
        NotYetObserved,
        /// See the condition of the same name.
        Suspended,
        /// See the condition of the same name.
        QuotaExceeded,
        /// See the condition of the same name.
        PortsExhausted,
        /// See the condition of the same name.
        PortConflict,
        /// See the condition of the same name.
        AddressesExhausted,
        /// See the condition of the same name.
        NameConflict,
        /// See the condition of the same name.
        VolumeConflict,
        /// See the condition of the same name.
        DuplicateObject,
        /// See the condition of the same name.
        ImagePullFailed,
        /// See the condition of the same name.
        ImageOutdated,
        /// See the condition of the same name.
        CrashLoop,
        /// See the condition of the same name.
        Unhealthy,
        /// See the condition of the same name.
        HookFailed,
        /// See the condition of the same name.
        IdleCheckFailed,
        /// See the condition of the same name.
        UpdateFailed,
        /// See the condition of the same name.
        RestartPending,
        /// See the condition of the same name.
        CopyFailed,
        /// See the condition of the same name.
        DataLost,
        /// See the condition of the same name.
        StateLost,
        /// See the condition of the same name.
        PruneBlocked,
        /// See the condition of the same name.
        Unsupported,
        /// See the condition of the same name.
        DiskNotEnforced,
        /// See the condition of the same name.
        DiskOverLimit,
        /// See the condition of the same name.
        HelperUnavailable,
        /// See the condition of the same name.
        SourceUnhealthy,
        /// See the condition of the same name.
        EngineUnavailable,
        /// See the condition of the same name.
        EngineChanged,
        /// See the condition of the same name.
        WaitingOn,
        /// See the condition of the same name.
        Orphaned,
        /// See the condition of the same name.
        SecretMissing,
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not.
    False,
    /// It is not known.
    Unknown,
}

impl Truth {
    /// `True`, `False` or `Unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Truth::True => "True",
            Truth::False => "False",
            Truth::Unknown => "Unknown",
        }
    }
}

/// One line of `status.conditions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about.
    #[serde(rename = "type")]
    pub type_: ConditionType,
    /// Whether it holds.
    pub status: Truth,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people: one sentence that says what to do.
    pub message: String,
    /// When `status` last changed. Filled in by `status`; absent in a plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Timestamp>,
}

impl Condition {
    /// A condition without an instant yet.
    pub fn new(type_: ConditionType, status: Truth, reason: Reason, message: impl Into<String>) -> Self {
        Self { type_, status, reason, message: message.into(), last_transition_time: None }
    }

    /// An abnormal condition: true, with the reason of the same name.
    pub fn abnormal(type_: ConditionType, message: impl Into<String>) -> Self {
        Self::new(type_, Truth::True, type_.reason(), message)
    }
}

impl ConditionType {
    /// The reason of the same name; for `Ready`, `Reconciling` and `Stalled`, which have none, `Progressing`.
    pub fn reason(self) -> Reason {
        Reason::ALL.iter().copied().find(|reason| reason.as_str() == self.as_str()).unwrap_or(Reason::Progressing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_specific_condition_has_a_reason_of_its_name() {
        for type_ in ConditionType::ALL {
            let general = matches!(type_, ConditionType::Ready | ConditionType::Reconciling | ConditionType::Stalled);
            assert_eq!(type_.reason().as_str() == type_.as_str(), !general, "{type_}");
        }
    }
}
