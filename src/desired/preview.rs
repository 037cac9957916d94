//! Previews: an image, or the configuration of a workspace as it was when the preview was made, lowered like a workspace that expires.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lower::{Surroundings, Workload, object_of, suspended};
use super::merge::{Resolved, Tenants, finish, invalid, plain, tenant_layers};
use super::{CopyWant, Intent, PreviewWant, builtin, naming};
use crate::resource::condition::{Condition, ConditionType};
use crate::resource::preview::{Copy, CopyMode};
use crate::resource::workspace::{DeletionPolicy, Port, Publish};
use crate::resource::{Kind, Object, ObjectRef, PreviewSpec, RESTART, Uid, WorkspaceSpec};
use crate::state::{Admission, Grant};

/// The configuration of a workspace, kept for the life of a preview: what becomes of the source later does not matter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pinned {
    /// The workspace.
    pub source: ObjectRef,
    /// Which life of it.
    pub source_uid: Uid,
    /// The absolute directory of its file, from which its host mounts count.
    pub directory: String,
    /// Its resolved spec.
    pub spec: WorkspaceSpec,
}

/// Pins the resolved configuration of a workspace; the value is kept as a fact of the preview.
pub fn pin(resolved: &WorkspaceSpec, source: &ObjectRef, source_uid: &Uid, directory: &str) -> Value {
    plain(&Pinned { source: source.clone(), source_uid: source_uid.clone(), directory: directory.to_owned(), spec: resolved.clone() })
}

/// Resolves a preview: its own overrides over what was pinned, or over the tenants' defaults for an image.
pub fn resolve_preview(spec: &PreviewSpec, pinned: Option<&Value>, tenants: Tenants<'_>) -> Resolved {
    let mut resolved = Resolved::default();
    let mut layers = vec![("preview".to_owned(), plain(&overrides(spec)))];
    match (&spec.workspace, &spec.image) {
        (Some(workspace), None) => match read_pinned(pinned, workspace) {
            Ok(pinned) => layers.push((format!("workspace {workspace}"), plain(&inherited(pinned.spec)))),
            Err(condition) => resolved.fatal.push(*condition),
        },
        (None, Some(_)) => layers.extend(tenant_layers(tenants)),
        (Some(_), Some(_)) | (None, None) => {
            resolved.fatal.push(invalid("a preview needs exactly one of spec.workspace and spec.image; write one of them"));
        }
    }
    let mut resolved = finish(layers, tenants, resolved);
    // A preview runs until it expires.
    (resolved.spec.idle, resolved.spec.max_lifetime) = (None, None);
    resolved.origins.retain(|path, _| !path.starts_with("idle.") && path != "maxLifetime");
    resolved
}

/// What was pinned, when it is there and is of this workspace.
fn read_pinned(pinned: Option<&Value>, workspace: &str) -> Result<Pinned, Box<Condition>> {
    let Some(value) = pinned else {
        let message = format!("the workspace {workspace} is not there to be copied; apply it, or correct spec.workspace");
        return Err(Box::new(Condition::abnormal(ConditionType::WaitingOn, message)));
    };
    let pinned: Pinned = serde_json::from_value(value.clone()).map_err(|error| {
        Box::new(invalid(format!("the configuration kept for this preview cannot be read ({error}); delete the preview and apply it again")))
    })?;
    if pinned.source.name != workspace {
        let made = &pinned.source.name;
        let message = format!("it was made from the workspace {made} and cannot become a copy of {workspace}; delete it and apply it again");
        return Err(Box::new(invalid(message)));
    }
    Ok(pinned)
}

/// The preview's own words as a layer; a port that it names is published unless it says otherwise.
fn overrides(spec: &PreviewSpec) -> WorkspaceSpec {
    let publish = |port: &Port| Port { publish: port.publish.or(Some(Publish::Pool)), ..port.clone() };
    WorkspaceSpec {
        image: spec.image.clone(),
        pull_policy: spec.pull_policy,
        command: spec.command.clone(),
        env: spec.env.clone(),
        ports: spec.ports.iter().map(publish).collect(),
        route: spec.route.clone(),
        resources: spec.resources.clone(),
        health: spec.health.clone(),
        ..WorkspaceSpec::default()
    }
}

/// What a preview takes from its workspace: no life of its own, and other ports of the host.
fn inherited(spec: WorkspaceSpec) -> WorkspaceSpec {
    let ports = spec.ports.into_iter().map(|port| {
        let publish = port.publish.map(|publish| match publish {
            Publish::None => Publish::None,
            Publish::Pool | Publish::Fixed(_) => Publish::Pool,
        });
        Port { publish, ..port }
    });
    WorkspaceSpec {
        ports: ports.collect(),
        type_: None,
        state: None,
        route: None,
        idle: None,
        max_lifetime: None,
        running_hours: None,
        update: None,
        deletion_policy: None,
        ..spec
    }
}

/// When a preview expires: what it says, else so long after its creation as it, its tenant, or nobody says.
pub fn expires_at(spec: &PreviewSpec, created: Timestamp, tenants: Tenants<'_>) -> Timestamp {
    let ttl = spec.ttl.or(tenants.resolved().defaults.and_then(|defaults| defaults.preview_ttl)).unwrap_or(builtin::PREVIEW_TTL);
    spec.expires_at.unwrap_or_else(|| created.saturating_add(ttl.0).unwrap_or(Timestamp::MAX))
}

/// Everything that lowering a preview depends on.
#[derive(Clone, Copy, Debug)]
pub struct PreviewInput<'a> {
    /// The operator and its engine.
    pub around: Surroundings<'a>,
    /// The document; its namespace must have been filled in by the source.
    pub resource: &'a Object<PreviewSpec>,
    /// Its spec as [`resolve_preview`] made it.
    pub resolved: &'a Resolved,
    /// What [`pin`] made of its workspace; `None` for an image, and before the pinning.
    pub pinned: Option<&'a Value>,
    /// The tenants that speak for its namespace.
    pub tenants: Tenants<'a>,
    /// Which life and version.
    pub admission: &'a Admission,
    /// The answers to its claims ([`claims`](super::lower::claims)).
    pub grants: &'a [Grant],
    /// The absolute directory of the document's file.
    pub directory: &'a str,
    /// The digest of the document's own spec.
    pub own_digest: &'a str,
    /// Its 128 random bits in hexadecimal.
    pub hash: &'a str,
}

/// What should be in Docker for a preview.
pub fn lower_preview(input: &PreviewInput<'_>) -> Intent {
    let metadata = &input.resource.metadata;
    let spec = &input.resource.spec;
    let object = object_of(Kind::Preview, metadata);
    if metadata.is_suspended() {
        return Intent::Hold(suspended(&object));
    }
    let pinned = spec.workspace.as_ref().and_then(|workspace| read_pinned(input.pinned, workspace).ok());
    let expires_at = expires_at(spec, input.admission.created, input.tenants);
    let mut workload = Workload {
        around: input.around,
        object: object.clone(),
        admission: input.admission,
        spec: &input.resolved.spec,
        labels: &metadata.labels,
        own_labels: BTreeMap::from([(naming::HASH.to_owned(), input.hash.to_owned()), (naming::EXPIRES.to_owned(), expires_at.to_string())]),
        aliases: pinned.iter().map(|pinned| pinned.source.name.clone()).collect(),
        policy: input.tenants.resolved().policy.unwrap_or_default(),
        grants: input.grants,
        directory: pinned.as_ref().map_or(input.directory, |pinned| &pinned.directory),
        copies: true,
        volumes: BTreeSet::new(),
        notices: input.resolved.notices.clone(),
        fatal: input.resolved.fatal.clone(),
    };
    if spec.ttl.is_some() && spec.expires_at.is_some() {
        workload.fatal.push(invalid("spec.ttl and spec.expiresAt contradict each other; keep one of them"));
    }
    if spec.password.is_some() {
        let message =
            "spec.password is not supported by this version, and without it the preview would be open; remove it to make the preview without a password";
        workload.fatal.push(Condition::abnormal(ConditionType::Unsupported, message));
    }
    if spec.links.iter().any(|link| link.password.is_some()) {
        let message = "passwords of spec.links are not supported by this version, and without them the preview would be open; remove them to make it without";
        workload.fatal.push(Condition::abnormal(ConditionType::Unsupported, message));
    } else if !spec.links.is_empty() {
        let message = "spec.links is not supported by this version and does nothing; reach the preview through its published port";
        workload.notices.push(Condition::abnormal(ConditionType::Unsupported, message));
    }
    let mut state = workload.lower(input.own_digest);
    state.restart_token = metadata.annotations.get(RESTART).cloned();
    state.deletion = DeletionPolicy::Delete;
    state.preview = Some(PreviewWant {
        hash: input.hash.to_owned(),
        expires_at,
        ttl_after_expired: spec.ttl_after_expired.unwrap_or(builtin::TTL_AFTER_EXPIRED),
        copy: pinned.filter(|_| spec.copy != Some(Copy::None)).and_then(|pinned| copy(input.around.installation, &object, pinned, spec.copy_mode)),
    });
    Intent::Present(Box::new(state))
}

/// The private volumes of the source and of its services, each with the preview's own; `None` when there are none.
fn copy(installation: &str, object: &ObjectRef, pinned: Pinned, mode: Option<CopyMode>) -> Option<CopyWant> {
    let (source, spec) = (&pinned.source, &pinned.spec);
    let own: BTreeSet<&str> = spec.mounts.iter().filter_map(|mount| mount.volume.as_deref()).collect();
    let services = spec.services.iter().filter(|(_, service)| service.volume.is_some()).map(|(name, _)| name);
    let own = own.into_iter().map(|volume| (naming::volume_name(installation, source, volume), naming::volume_name(installation, object, volume)));
    let services = services.map(|name| (naming::service_volume_name(installation, source, name), naming::service_volume_name(installation, object, name)));
    let volumes: Vec<(String, String)> = own.chain(services).collect();
    (!volumes.is_empty()).then_some(CopyWant { source: pinned.source, source_uid: pinned.source_uid, mode: mode.unwrap_or(CopyMode::Pause), volumes })
}

#[cfg(test)]
#[path = "preview_tests.rs"]
mod tests;
