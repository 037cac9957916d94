//! `kind: Preview`: a copy of a workspace, or an image, that expires by itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quantity::Duration;
use super::workspace::{EnvVar, Health, Port, PullPolicy, Resources, Route, SecretRef};

/// `spec:` of a Preview. Exactly one of `workspace` and `image`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct PreviewSpec {
    /// The workspace of the same namespace that is copied, as it is when the preview is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// An image that was built elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When to pull the image. Default: `IfNotPresent`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_policy: Option<PullPolicy>,
    /// Replaces the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Environment variables, merged by name over the workspace's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<EnvVar>,
    /// How long it lives, from its creation. Raising it extends it and restarts nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Duration>,
    /// When it expires; not together with `ttl`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<jiff::Timestamp>,
    /// How long the expired object stays. Default: 7d.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_after_expired: Option<Duration>,
    /// What is copied. Default: `Volume` for a workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy: Option<Copy>,
    /// How the source is kept still for the last part of the copy. Default: `Pause`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copy_mode: Option<CopyMode>,
    /// Ports; merged by name over the workspace's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// The route of the gateway. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<Route>,
    /// Its limits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// How to tell that it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// A password. Not supported yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// Share links. Not supported yet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<Link>,
}

/// What a preview copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Copy {
    /// All private volumes of the workspace and its services.
    Volume,
    /// Nothing: the volumes start empty.
    None,
}

/// How the source is kept still for the last part of the copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CopyMode {
    /// Its containers are paused for at most 30 s.
    Pause,
    /// Its containers are stopped, and started again.
    Stop,
    /// Not at all.
    Live,
}

/// A password, read so that it can be refused with a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Password {
    /// A secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretRef>,
    /// A ready argon2id or bcrypt hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// A share link, read so that it can be refused with a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Password>,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<jiff::Timestamp>,
    /// Whether it was taken back.
    #[serde(default)]
    pub revoked: bool,
}
