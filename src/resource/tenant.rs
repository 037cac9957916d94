//! `kind: Tenant`: a user or team. Its name is the namespace; `Tenant/default` holds the defaults for everyone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::{Bytes, Cpu, Duration};
use super::workspace::SecurityProfile;

/// `spec:` of a Tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct TenantSpec {
    /// A name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    /// An address, also the git identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// What the namespace may use in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Quota>,
    /// What its objects get where they and their type say nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub defaults: Option<TenantDefaults>,
    /// What its specs may ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
}

/// What a namespace may use in all. Going over is a condition of the object that went over; the oldest wins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Quota {
    /// Workspaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_workspaces: Option<u32>,
    /// Workspaces that run at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_running: Option<u32>,
    /// Previews of one workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_previews_per_workspace: Option<u32>,
    /// The most CPU that one workspace may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// The most memory that one workspace may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// The most disk that one workspace may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Bytes>,
}

/// Defaults of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct TenantDefaults {
    /// CPU of a workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Cpu>,
    /// Memory of a workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Bytes>,
    /// Disk of a workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Bytes>,
    /// Idle timeout of a workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<Duration>,
    /// Maximum lifetime of a workspace's run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_lifetime: Option<Duration>,
    /// Lifetime of a preview.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview_ttl: Option<Duration>,
    /// The user's default workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
}

/// What the specs of a namespace may ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Policy {
    /// Images, with `*` for any text; absent: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<Vec<String>>,
    /// Host directories that may be mounted, below those of `--host-path`; absent: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_paths: Option<Vec<String>>,
    /// Existing networks that may be joined; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// Existing volumes that may be mounted; absent: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_volumes: Option<Vec<String>>,
    /// The security profile of all its containers. Default: `Baseline`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<SecurityProfile>,
}
