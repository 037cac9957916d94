//! Objects as they are read back: the last good document with its identity and status, from the ledger.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::names::{Wanted, not_found};
use super::out::Failure;
use super::{Access, Context, table};
use crate::resource::{ConditionType, Kind, ObjectRef, Status};
use crate::source::splice;
use crate::state::{Ledger, Record};

/// One object: what was declared and what was found.
#[derive(Clone, Debug)]
pub struct View {
    /// The last good document, and its identity.
    pub record: Record,
    /// `status:`, and when it was written.
    pub status: Option<(Value, Timestamp)>,
}

impl View {
    /// Its key.
    pub fn object(&self) -> &ObjectRef {
        &self.record.object
    }

    /// The status with its types; `None` where there is none, or one of another version that cannot be read.
    pub fn typed_status(&self) -> Option<Status> {
        self.status.as_ref().and_then(|(value, _)| serde_json::from_value(value.clone()).ok())
    }

    /// The document as a value; `Null` where it cannot be read.
    pub fn document(&self) -> Value {
        splice::documents(&self.record.text).into_iter().find_map(|piece| piece.value).unwrap_or(Value::Null)
    }

    /// A value of the document by the path of its keys, like `["metadata", "labels"]`.
    pub fn field(&self, path: &[&str]) -> Option<Value> {
        path.iter().try_fold(self.document(), |value, key| value.get(key).cloned())
    }

    /// The object as it is: the document, with identity and status filled in.
    pub fn whole(&self) -> Value {
        let mut document = self.document();
        let Some(fields) = document.as_object_mut() else { return document };
        fields.remove("status");
        if let Some(metadata) = fields.get_mut("metadata").and_then(Value::as_object_mut) {
            if let Some(namespace) = &self.object().namespace {
                metadata.insert("namespace".into(), json!(namespace));
            }
            metadata.insert("uid".into(), json!(self.record.admission.uid));
            metadata.insert("generation".into(), json!(self.record.admission.generation));
        }
        if let Some((status, _)) = &self.status {
            fields.insert("status".into(), status.clone());
        }
        document
    }
}

/// Several objects as one: `kind: List`.
pub fn list(items: Vec<Value>) -> Value {
    let mut list = Map::new();
    list.insert("apiVersion".into(), json!(crate::resource::API_VERSION));
    list.insert("kind".into(), json!("List"));
    list.insert("items".into(), Value::Array(items));
    Value::Object(list)
}

/// All objects, deleted ones too, in the order in which they are listed.
pub async fn all(ledger: &dyn Ledger) -> Result<Vec<View>, Failure> {
    let mut statuses = ledger.statuses().await?;
    let mut views: Vec<View> = ledger
        .records()
        .await?
        .into_iter()
        .filter(|record| record.object.kind != Kind::Namespace)
        .map(|record| {
            let status = statuses.remove(&record.object);
            View { record, status }
        })
        .collect();
    views.sort_by(|a, b| a.object().cmp(b.object()));
    Ok(views)
}

/// Those that were asked for, of those that live. An object that was named and does not exist is an error; of kinds there may be none.
/// `namespace` is looked at for kinds alone; `None`: all.
pub fn select(views: Vec<View>, wanted: &Wanted, namespace: Option<&str>) -> Result<Vec<View>, Failure> {
    match wanted {
        Wanted::Kinds(kinds) => {
            let here = |view: &View| view.object().kind.is_cluster() || namespace.is_none_or(|namespace| namespace == view.object().ns());
            Ok(views.into_iter().filter(|view| view.record.tombstone.is_none() && kinds.contains(&view.object().kind) && here(view)).collect())
        }
        Wanted::Objects(objects) => objects.iter().map(|object| find(&views, object).cloned()).collect(),
    }
}

/// The living object of that key, or the words that say what there is instead.
pub fn find<'a>(views: &'a [View], object: &ObjectRef) -> Result<&'a View, Failure> {
    match views.iter().find(|view| view.object() == object) {
        Some(View { record: Record { tombstone: Some(tombstone), .. }, .. }) => Err(Failure::new(format!(
            "{} was deleted; its data is kept until {}: `dockmaster undelete {object}` brings it back",
            object.short(),
            table::instant(tombstone.until)
        ))),
        Some(view) => Ok(view),
        None => Err(Failure::new(not_found(object, views.iter().filter(|view| view.record.tombstone.is_none()).map(View::object).collect::<Vec<_>>()))),
    }
}

impl Context<'_> {
    /// Opens the ledger and reads everything.
    pub async fn read_quietly(&self) -> Result<(Arc<dyn Ledger>, Vec<View>), Failure> {
        let ledger = self.ledger(Access::Read).await?;
        self.settings(&*ledger).await?;
        let views = all(&*ledger).await?;
        Ok((ledger, views))
    }

    /// The same; says "as of" when no operator keeps it fresh.
    pub async fn read(&mut self) -> Result<(Arc<dyn Ledger>, Vec<View>), Failure> {
        let (ledger, views) = self.read_quietly().await?;
        if self.operator().await?.is_none() {
            let latest = views.iter().filter_map(|view| view.status.as_ref().map(|(_, at)| *at)).max();
            let dir = self.state_dir.display();
            match latest {
                Some(at) => self.out.note(format_args!("as of {} ({} ago): no operator runs on {dir}", table::instant(at), table::age(self.now, at)))?,
                None => self.out.note(format_args!("no operator runs on {dir}, and none has seen anything yet"))?,
            }
        }
        Ok((ledger, views))
    }
}

/// `Ready` of a status: its truth and its reason.
pub fn ready(status: Option<&Status>) -> (&'static str, &'static str) {
    match status.and_then(|status| status.condition(ConditionType::Ready)) {
        Some(condition) => (condition.status.as_str(), condition.reason.as_str()),
        None => ("Unknown", "NotYetObserved"),
    }
}
