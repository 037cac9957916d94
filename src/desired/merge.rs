//! Layers of a spec made one: workspace over type over base type over tenant over default tenant over built in.
//!
//! Scalars and lists of words replace what lies below. `env`, `ports`, `mounts` and `services` merge by name (mounts by path): a variable
//! or a mount is taken whole, since its source is one of several, of a port or a service each field by itself. At last the
//! tenant's limits cap what came out.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::builtin;
use super::mounts::clean;
use crate::resource::condition::{Condition, ConditionType, Reason, Truth};
use crate::resource::tenant::TenantDefaults;
use crate::resource::workspace::{Idle, Resources};
use crate::resource::{TenantSpec, WorkspaceSpec, WorkspaceTypeSpec};
use crate::tenancy::{self, DEFAULT, resolve_tenant};

/// A spec with nothing left to look up.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolved {
    /// Every value in force.
    pub spec: WorkspaceSpec,
    /// Field path (`image`, `env.NODE_ENV`, `ports.http.container`, `mounts./data`) to where its value comes from:
    /// `workspace`, `type node`, `tenant alice`, `tenant default`, `built in`.
    pub origins: BTreeMap<String, String>,
    /// What people should know of it, and does not stop it.
    pub notices: Vec<Condition>,
    /// Why nothing can be made of it now.
    pub fatal: Vec<Condition>,
}

/// The tenants, and the namespace that they speak for.
#[derive(Clone, Copy, Debug)]
pub struct Tenants<'a> {
    /// All tenants by name.
    pub all: &'a BTreeMap<String, TenantSpec>,
    /// The namespace, which is the name of its tenant.
    pub namespace: &'a str,
}

impl Tenants<'_> {
    /// The spec in force for the namespace, each field its own tenant's or else that of `Tenant/default`.
    pub fn resolved(&self) -> TenantSpec {
        resolve_tenant(self.all, self.namespace)
    }
}

/// Resolves a workspace's spec; `types` are the declared WorkspaceTypes.
pub fn resolve(spec: &WorkspaceSpec, types: &BTreeMap<String, WorkspaceTypeSpec>, tenants: Tenants<'_>) -> Resolved {
    let mut resolved = Resolved::default();
    let mut layers = vec![("workspace".to_owned(), plain(spec))];
    if let Some(name) = &spec.type_ {
        match type_layers(name, types) {
            Ok(chain) => layers.extend(chain),
            Err(message) => resolved.fatal.push(invalid(message)),
        }
    }
    layers.extend(tenant_layers(tenants));
    finish(layers, tenants, resolved)
}

/// What the tenants say where nobody above them does, topmost first.
pub(super) fn tenant_layers(tenants: Tenants<'_>) -> Vec<(String, Value)> {
    let mut names = vec![tenants.namespace, DEFAULT];
    names.dedup();
    let layer = |name: &str| Some((format!("tenant {name}"), plain(&from_tenant(tenants.all.get(name)?.defaults.as_ref()?))));
    names.into_iter().filter_map(layer).collect()
}

/// Puts the built-in values below the layers given (topmost first), merges all and applies the tenants' caps.
pub(super) fn finish(mut layers: Vec<(String, Value)>, tenants: Tenants<'_>, mut resolved: Resolved) -> Resolved {
    layers.push(("built in".to_owned(), builtin::defaults()));
    let wants = |field: &str| layers.iter().any(|(_, layer)| layer.get(field).is_some_and(|value| !value.is_null()));
    let mut below = Map::new();
    if wants("health") {
        below.insert("health".to_owned(), builtin::health_defaults());
    }
    if wants("idle") {
        below.insert("idle".to_owned(), builtin::idle_defaults());
    }
    layers.push(("built in".to_owned(), Value::Object(below)));

    let mut merged = Value::Object(Map::new());
    for (origin, layer) in layers.into_iter().rev() {
        overlay(&mut merged, keyed(layer), "", &origin, &mut resolved.origins);
    }
    resolved.spec = typed(unkeyed(merged));
    cap(&mut resolved, tenants);
    resolved
}

/// What a tenant's defaults say of a workspace.
fn from_tenant(defaults: &TenantDefaults) -> WorkspaceSpec {
    let resources = Resources { cpu: defaults.cpu, memory: defaults.memory, disk: defaults.disk, pids: None };
    let idle = defaults.idle_timeout.map(|timeout| Idle { timeout: Some(timeout), ..Default::default() });
    WorkspaceSpec { resources: Some(resources), idle, max_lifetime: defaults.max_lifetime, ..WorkspaceSpec::default() }
}

/// The layers of a type and its bases, topmost first.
fn type_layers(name: &str, types: &BTreeMap<String, WorkspaceTypeSpec>) -> Result<Vec<(String, Value)>, String> {
    let mut layers = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    let mut next = Some(name.to_owned());
    while let Some(name) = next {
        // A declared type may build on the built-in one of its own name.
        let own_base = seen.last() == Some(&name) && seen.iter().filter(|known| **known == name).count() == 1;
        if seen.contains(&name) && !own_base {
            seen.push(name);
            return Err(format!("the types build on each other in a circle ({}); change `base` in one of them", seen.join(" > ")));
        }
        let found = if own_base { None } else { types.get(&name).cloned() }.or_else(|| builtin::workspace_type(&name));
        let Some(found) = found else {
            let named_by = seen.last().map(|by| format!(" that type {by} builds on")).unwrap_or_default();
            let known = types.keys().map(String::as_str).chain(builtin::TYPES);
            return Err(format!("there is no WorkspaceType {name}{named_by}; {}", nearest(&name, known, "declare it, or use one of")));
        };
        next = found.base.clone();
        layers.push((format!("type {name}"), type_layer(&found)));
        seen.push(name);
    }
    Ok(layers)
}

/// The fields of a type that a workspace has too.
fn type_layer(spec: &WorkspaceTypeSpec) -> Value {
    let mut value = plain(spec);
    if let Value::Object(fields) = &mut value {
        for own in ["base", "displayName", "description", "icon", "detect", "compatibleWith"] {
            fields.remove(own);
        }
    }
    value
}

/// `did you mean`, or the list of what there is.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>, otherwise: &str) -> String {
    let mut known: Vec<&str> = known.collect();
    known.sort_unstable();
    known.dedup();
    let best = known.iter().map(|candidate| (strsim::damerau_levenshtein(word, candidate), *candidate)).min();
    match best {
        Some((distance, candidate)) if distance <= 2.max(word.len() / 3) => format!("did you mean {candidate}?"),
        Some(_) => format!("{otherwise} {}", known.join(", ")),
        None => "there are none".to_owned(),
    }
}

/// What keeps a spec from being used, until somebody changes something.
pub(super) fn invalid(message: impl Into<String>) -> Condition {
    Condition::new(ConditionType::Stalled, Truth::True, Reason::Invalid, message)
}

/// The tenant's limits on each container: a value beyond them is cut with a notice, a missing one becomes the limit.
fn cap(resolved: &mut Resolved, tenants: Tenants<'_>) {
    let Some(quota) = tenants.resolved().quota.filter(|quota| quota.cpu.is_some() || quota.memory.is_some() || quota.disk.is_some()) else { return };
    let own = tenants.all.get(tenants.namespace).and_then(|tenant| tenant.quota.clone()).unwrap_or_default();
    let of = |own: bool| format!("tenant {} (quota)", if own { tenants.namespace } else { DEFAULT });
    let main = (String::new(), &mut resolved.spec.resources);
    let services = resolved.spec.services.iter_mut().map(|(name, service)| (format!("services.{name}."), &mut service.resources));
    for (path, slot) in std::iter::once(main).chain(services) {
        let asked = slot.take().unwrap_or_default();
        let (given, notes) = tenancy::cap(&asked, &quota);
        for (field, changed, own) in [
            ("cpu", asked.cpu != given.cpu, own.cpu.is_some()),
            ("memory", asked.memory != given.memory, own.memory.is_some()),
            ("disk", asked.disk != given.disk, own.disk.is_some()),
        ] {
            if changed {
                resolved.origins.insert(format!("{path}resources.{field}"), of(own));
            }
        }
        resolved.notices.extend(notes.into_iter().map(|note| Condition::abnormal(ConditionType::QuotaExceeded, format!("{path}{note}"))));
        *slot = Some(given);
    }
}

/// Puts `over` on `base` and notes where each value comes from.
fn overlay(base: &mut Value, over: Value, path: &str, origin: &str, origins: &mut BTreeMap<String, String>) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) if !is_whole(path) => {
            for (key, value) in over {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                overlay(base.entry(key).or_insert(Value::Null), value, &path, origin, origins);
            }
        }
        (base @ Value::Null, Value::Object(over)) if !is_whole(path) => {
            *base = Value::Object(Map::new());
            overlay(base, Value::Object(over), path, origin, origins);
        }
        (base, over) => {
            *base = over;
            origins.insert(path.to_owned(), origin.to_owned());
        }
    }
}

/// Whether the value at this path is taken whole: one variable, one mount, the hours, the route.
fn is_whole(path: &str) -> bool {
    let path = match path.strip_prefix("services.").and_then(|rest| rest.split_once('.')) {
        Some((_, in_service)) => in_service,
        None => path,
    };
    path.starts_with("env.") || path.starts_with("mounts.") || matches!(path, "runningHours" | "route" | "build" | "idle.check" | "idle.warn")
}

/// Lists with a key become maps, so that they merge; values that say nothing go.
fn keyed(mut layer: Value) -> Value {
    if let Value::Object(fields) = &mut layer {
        for (field, key) in [("env", "name"), ("ports", "name"), ("mounts", "path")] {
            to_map(fields, field, key);
        }
        drop_empty_test(fields);
        for service in fields.get_mut("services").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
            if let Value::Object(fields) = service {
                to_map(fields, "env", "name");
                drop_empty_test(fields);
                if fields.get("image").is_some_and(|image| image == "") {
                    fields.remove("image");
                }
            }
        }
    }
    layer
}

fn drop_empty_test(fields: &mut Map<String, Value>) {
    if let Some(Value::Object(health)) = fields.get_mut("health")
        && health.get("test").and_then(Value::as_array).is_some_and(Vec::is_empty)
    {
        health.remove("test");
    }
}

fn to_map(fields: &mut Map<String, Value>, field: &str, key: &str) {
    if let Some(Value::Array(items)) = fields.get(field) {
        let of = |item: &Value| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let of = |item: &Value| if field == "mounts" { clean(&of(item)) } else { of(item) };
        let map = items.iter().map(|item| (of(item), item.clone())).collect();
        fields.insert(field.to_owned(), Value::Object(map));
    }
}

/// The maps become lists again.
fn unkeyed(mut merged: Value) -> Value {
    fn to_list(fields: &mut Map<String, Value>, field: &str) {
        if let Some(Value::Object(map)) = fields.get(field) {
            let items = map.values().cloned().collect();
            fields.insert(field.to_owned(), Value::Array(items));
        }
    }
    if let Value::Object(fields) = &mut merged {
        for field in ["env", "ports", "mounts"] {
            to_list(fields, field);
        }
        for service in fields.get_mut("services").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
            if let Value::Object(fields) = service {
                to_list(fields, "env");
            }
        }
    }
    merged
}

/// A spec as JSON.
pub(super) fn plain<T: Serialize>(spec: &T) -> Value {
    serde_json::to_value(spec).expect("a spec is strings, numbers, lists and maps with text keys, which JSON has all")
}

/// JSON that came from specs, as a spec again.
fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("layers of readable specs, merged by field, make a readable spec")
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
