//! What people write and what they get back: references, the envelope, one file per kind, quantities, conditions.
//!
//! This module names nothing else of the crate. Every other module speaks in its types.
//!
//! **Invariant:** (kind, namespace, name) is the key of an object; cluster kinds have no namespace.

pub mod condition;
pub mod hours;
pub mod preview;
pub mod quantity;
pub mod status;
pub mod tenant;
pub mod workspace;
pub mod workspace_type;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use condition::{Condition, ConditionType, Reason, Truth};
pub use preview::PreviewSpec;
pub use quantity::{Bytes, Cpu, Duration};
pub use status::Status;
pub use tenant::TenantSpec;
pub use workspace::WorkspaceSpec;
pub use workspace_type::WorkspaceTypeSpec;

/// The one API version that this operator reads and writes.
pub const API_VERSION: &str = "dockmaster/v1";

/// The kinds. `Namespace` is internal: nobody writes one, but the network that a namespace's objects share needs a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Kind {
    /// A development environment that runs.
    Workspace,
    /// A copy of a workspace, or an image, that expires.
    Preview,
    /// A template that workspaces name with `type`.
    WorkspaceType,
    /// A user or team: limits, defaults and policy of the namespace of the same name.
    Tenant,
    /// Internal: what the objects of one namespace share in Docker.
    Namespace,
}

impl Kind {
    /// The kinds that people write, in the order in which they are listed.
    pub const WRITTEN: [Kind; 4] = [Kind::Workspace, Kind::Preview, Kind::WorkspaceType, Kind::Tenant];

    /// The name in `kind:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Workspace => "Workspace",
            Kind::Preview => "Preview",
            Kind::WorkspaceType => "WorkspaceType",
            Kind::Tenant => "Tenant",
            Kind::Namespace => "Namespace",
        }
    }

    /// The name on the command line and in labels: lower case, singular.
    pub fn singular(self) -> &'static str {
        match self {
            Kind::Workspace => "workspace",
            Kind::Preview => "preview",
            Kind::WorkspaceType => "workspacetype",
            Kind::Tenant => "tenant",
            Kind::Namespace => "namespace",
        }
    }

    /// The infix in Docker names: `ws`, `pv`, `wt`, `tn`, `ns`.
    pub fn short(self) -> &'static str {
        match self {
            Kind::Workspace => "ws",
            Kind::Preview => "pv",
            Kind::WorkspaceType => "wt",
            Kind::Tenant => "tn",
            Kind::Namespace => "ns",
        }
    }

    /// Whether objects of this kind live outside namespaces.
    pub fn is_cluster(self) -> bool {
        match self {
            Kind::WorkspaceType | Kind::Tenant | Kind::Namespace => true,
            Kind::Workspace | Kind::Preview => false,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Any case, singular, plural or short form: `Workspace`, `workspaces`, `ws`.
impl FromStr for Kind {
    type Err = UnknownKind;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        [Kind::Workspace, Kind::Preview, Kind::WorkspaceType, Kind::Tenant, Kind::Namespace]
            .into_iter()
            .find(|kind| {
                let singular = kind.singular();
                lower == singular || lower == format!("{singular}s") || lower == kind.short()
            })
            .ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

/// A word that names no kind.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
#[error("unknown kind `{0}`; the kinds are workspace (ws), preview (pv), workspacetype (wt) and tenant (tn)")]
pub struct UnknownKind(pub String);

/// The key of an object, and the only thing that travels in the queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub struct ObjectRef {
    /// What it is.
    pub kind: Kind,
    /// Whose it is; `None` for cluster kinds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name, a DNS label.
    pub name: String,
}

impl ObjectRef {
    /// A reference; the namespace of a cluster kind is dropped.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Self {
        let namespace = (!kind.is_cluster()).then(|| namespace.to_owned());
        Self { kind, namespace, name: name.to_owned() }
    }

    /// The namespace, or the empty string for cluster kinds.
    pub fn ns(&self) -> &str {
        self.namespace.as_deref().unwrap_or("")
    }

    /// `workspace/shop`, as on the command line.
    pub fn short(&self) -> String {
        format!("{}/{}", self.kind.singular(), self.name)
    }
}

/// `workspace/shop -n alice`, which can be pasted behind a verb; `workspacetype/node` for cluster kinds.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(ns) => write!(f, "{}/{} -n {ns}", self.kind.singular(), self.name),
            None => write!(f, "{}/{}", self.kind.singular(), self.name),
        }
    }
}

/// The identity of one life of an object: a UUIDv7, whose time is the moment of admission ("oldest wins").
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Uid(pub String);

impl Uid {
    /// Whether the text is a UUID of version 7.
    pub fn is_well_formed(&self) -> bool {
        uuid::Uuid::parse_str(&self.0).is_ok_and(|id| id.get_version_num() == 7)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `metadata:` of every object. `uid` and `generation` belong to the operator and are ignored as input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    /// A DNS label (RFC 1123): lower-case letters, digits and `-`, at most 63 characters.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub name: String,
    /// The tenant that owns the object. Absent: the directory that the file lies in, else `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"))]
    pub namespace: Option<String>,
    /// Labels that the container gets too.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Notes; `dockmaster/suspend: "true"` and `dockmaster/restart: <anything>` act.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Set by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// Set by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
}

/// The annotation that takes the operator's hands off an object.
pub const SUSPEND: &str = "dockmaster/suspend";
/// The annotation whose change restarts an object.
pub const RESTART: &str = "dockmaster/restart";

impl Metadata {
    /// Whether `dockmaster/suspend: "true"` is set.
    pub fn is_suspended(&self) -> bool {
        self.annotations.get(SUSPEND).is_some_and(|value| value == "true")
    }
}

/// One document: the envelope around a kind's spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", bound(deserialize = "S: Deserialize<'de> + Default"))]
pub struct Object<S> {
    /// `dockmaster/v1`.
    pub api_version: String,
    /// The kind.
    pub kind: Kind,
    /// Name, namespace, labels, annotations.
    pub metadata: Metadata,
    /// What is wanted.
    #[serde(default)]
    pub spec: S,
    /// What was found; written by the operator and never read as a wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<serde_json::Value>,
}

/// A parsed document of a known kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// `kind: Workspace`.
    Workspace(Object<WorkspaceSpec>),
    /// `kind: Preview`.
    Preview(Object<PreviewSpec>),
    /// `kind: WorkspaceType`.
    WorkspaceType(Object<WorkspaceTypeSpec>),
    /// `kind: Tenant`.
    Tenant(Object<TenantSpec>),
}

impl Resource {
    /// The kind of the document.
    pub fn kind(&self) -> Kind {
        match self {
            Resource::Workspace(_) => Kind::Workspace,
            Resource::Preview(_) => Kind::Preview,
            Resource::WorkspaceType(_) => Kind::WorkspaceType,
            Resource::Tenant(_) => Kind::Tenant,
        }
    }

    /// The metadata of the document.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Resource::Workspace(o) => &o.metadata,
            Resource::Preview(o) => &o.metadata,
            Resource::WorkspaceType(o) => &o.metadata,
            Resource::Tenant(o) => &o.metadata,
        }
    }

    /// The `status:` that the document carries, if any.
    pub fn status(&self) -> Option<&serde_json::Value> {
        match self {
            Resource::Workspace(o) => o.status.as_ref(),
            Resource::Preview(o) => o.status.as_ref(),
            Resource::WorkspaceType(o) => o.status.as_ref(),
            Resource::Tenant(o) => o.status.as_ref(),
        }
    }

    /// The place of the status in the document, to put one there or take it away.
    pub fn status_mut(&mut self) -> &mut Option<serde_json::Value> {
        match self {
            Resource::Workspace(o) => &mut o.status,
            Resource::Preview(o) => &mut o.status,
            Resource::WorkspaceType(o) => &mut o.status,
            Resource::Tenant(o) => &mut o.status,
        }
    }

    /// The key of the document; the namespace must have been filled in by the source.
    pub fn reference(&self) -> ObjectRef {
        let metadata = self.metadata();
        ObjectRef::new(self.kind(), metadata.namespace.as_deref().unwrap_or("default"), &metadata.name)
    }
}

/// Where a document lives: which source, which file below its root (or which row), which document of the file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The name of the source: the root directory as given.
    pub source: String,
    /// The path of the file relative to the root, with `/`.
    pub path: String,
    /// The position of the document in the file, from 0, empty documents counted.
    pub document: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source.trim_end_matches('/'), self.path)?;
        if self.document > 0 {
            write!(f, "#{}", self.document)?;
        }
        Ok(())
    }
}

/// Whether the text is a DNS label (RFC 1123, section 2.1): what names and namespaces must be.
pub fn is_dns_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    (1..=63).contains(&bytes.len())
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}
