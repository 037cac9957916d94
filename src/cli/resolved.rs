//! `get --resolved`: an object with every value that is in force, and where each comes from.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::objects::View;
use super::out::Failure;
use crate::desired::merge::{self, Tenants};
use crate::resource::{Kind, Resource, TenantSpec, WorkspaceTypeSpec};
use crate::source::parse::parse_file;
use crate::source::select::{FileContext, NamespaceRule};
use crate::state::Ledger;

/// The object with its merged `spec`, and `origins`: the path of each value to who says so. A preview has what was pinned when it was made;
/// types and tenants are what they say.
pub async fn whole(ledger: &dyn Ledger, all: &[View], view: &View) -> Result<Value, Failure> {
    let mut whole = view.whole();
    let Some(fields) = whole.as_object_mut() else { return Ok(whole) };
    match typed(view) {
        Some(Resource::Workspace(workspace)) => {
            let (types, tenants) = others(all);
            let tenants = Tenants { namespace: view.object().ns(), all: &tenants };
            let resolved = merge::resolve(&workspace.spec, &types, tenants);
            if let Some(condition) = resolved.fatal.first() {
                return Err(Failure::new(format!("{} cannot be resolved: {}", view.object().short(), condition.message)));
            }
            fields.insert("spec".into(), json!(resolved.spec));
            fields.insert("origins".into(), json!(resolved.origins));
        }
        Some(Resource::Preview(_)) => {
            if let Some(pinned) = ledger.facts(&view.record.admission.uid).await?.pinned {
                fields.insert("pinned".into(), pinned);
            }
        }
        Some(Resource::WorkspaceType(_) | Resource::Tenant(_)) | None => {}
    }
    Ok(whole)
}

/// The document with its types.
fn typed(view: &View) -> Option<Resource> {
    let origin = &view.record.origin;
    let context = FileContext {
        display: origin.to_string(),
        source: origin.source.clone(),
        path: origin.path.clone(),
        directory: origin.source.clone().into(),
        namespace: view.object().namespace.clone().map_or(NamespaceRule::Root, NamespaceRule::Pinned),
    };
    parse_file(&view.record.text, &context).items.into_iter().next().map(|item| item.resource)
}

/// The declared types and tenants.
fn others(all: &[View]) -> (BTreeMap<String, WorkspaceTypeSpec>, BTreeMap<String, TenantSpec>) {
    let (mut types, mut tenants) = (BTreeMap::new(), BTreeMap::new());
    for view in all.iter().filter(|view| view.record.tombstone.is_none() && matches!(view.object().kind, Kind::WorkspaceType | Kind::Tenant)) {
        match typed(view) {
            Some(Resource::WorkspaceType(type_)) => {
                types.insert(type_.metadata.name, type_.spec);
            }
            Some(Resource::Tenant(tenant)) => {
                tenants.insert(tenant.metadata.name, tenant.spec);
            }
            Some(Resource::Workspace(_) | Resource::Preview(_)) | None => {}
        }
    }
    (types, tenants)
}
