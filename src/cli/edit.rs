//! What every verb that changes something does: edit one document through its source, leave facts and settings, and tell the operator.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::objects::{View, all};
use super::out::Failure;
use super::wait::is_deleted;
use super::{Access, Context};
use crate::config::RunSettings;
use crate::http::control::{WatchFilter, WatchItem};
use crate::resource::{ObjectRef, Origin};
use crate::source::{Edit, SourceError, splice};
use crate::state::{Fact, Ledger, Record};

/// How long a verb waits for the operator to have read its edit, so that a `wait` behind it does not see the state before.
const READ_BY_OPERATOR: Duration = Duration::from_secs(5);

/// The ledger opened for writing, with all that is in it.
pub struct Editor {
    /// The ledger.
    pub ledger: Arc<dyn Ledger>,
    /// What `run` was told.
    pub settings: RunSettings,
    /// All objects, deleted ones too.
    pub views: Vec<View>,
    /// Whether an operator runs.
    pub running: bool,
}

impl Editor {
    /// Opens the ledger and looks for the operator.
    pub async fn open(context: &Context<'_>) -> Result<Self, Failure> {
        let ledger = context.ledger(Access::Write).await?;
        let settings = context.settings(&*ledger).await?;
        let views = all(&*ledger).await?;
        let running = context.operator().await?.is_some();
        Ok(Self { ledger, settings, views, running })
    }

    /// Changes one document and tells the operator; returns when the operator has read it, or after some seconds.
    pub async fn edit(&self, context: &Context<'_>, object: &ObjectRef, at: Option<&Origin>, edit: Edit) -> Result<Origin, Failure> {
        let root = match at {
            Some(origin) => self.settings.root_of(origin).ok_or_else(|| {
                Failure::new(format!("{} lies in {origin}, and the last `run` did not watch {}; edit the file by hand", object.short(), origin.source))
            })?,
            None => self.settings.roots.first().ok_or_else(|| Failure::new("the last `run` watched no directory; nothing can be written"))?,
        };
        let source = context.adapters.source(root)?;
        // What is removed takes its time to go; `wait --for delete` waits for it.
        let news = if self.running && edit != Edit::Remove { Some(context.client().watch(&WatchFilter::of(object)).await?) } else { None };
        let known = self.views.iter().map(|view| &view.record).find(|record| record.object == *object);
        let (before, was_deleted) = known.map_or((0, false), |record| (record.admission.generation, record.tombstone.is_some()));
        let by_hand = by_hand(&edit);
        let origin = source.edit(object, at, edit).await.map_err(|error| match error {
            SourceError::Refused(_) => Failure::from(error),
            SourceError::Io { .. } => {
                let Failure { code, message } = Failure::from(error);
                Failure { code, message: format!("{message}; make the change by hand: {by_hand}") }
            }
        })?;
        self.nudge(context, None).await?;
        if let Some(mut news) = news {
            let read = async {
                while let Some(Ok(item)) = news.next().await {
                    match item {
                        // What came back from its grave has the generation that it had.
                        WatchItem::Status { status, .. } if was_deleted => {
                            if serde_json::from_value(status).is_ok_and(|status| !is_deleted(&status)) {
                                return;
                            }
                        }
                        WatchItem::Status { generation, .. } if generation > before => return,
                        WatchItem::Status { .. } | WatchItem::Deleted { .. } | WatchItem::Event { .. } | WatchItem::Synced => {}
                    }
                }
            };
            // Late is no failure: the edit is made, and the operator will see it.
            drop(tokio::time::timeout(READ_BY_OPERATOR, read).await);
        }
        Ok(origin)
    }

    /// Whether the file that declared it is gone, or declares it no more, and the operator has not noticed yet.
    pub fn is_removed(&self, record: &Record) -> bool {
        let Some(root) = self.settings.root_of(&record.origin).filter(|root| root.path.is_dir()) else { return false };
        match std::fs::read_to_string(root.path.join(&record.origin.path)) {
            Ok(text) => {
                let declares = |value: &serde_json::Value| root.identify(&record.origin.path, value).as_ref() == Some(&record.object);
                !splice::documents(&text).iter().any(|piece| piece.value.as_ref().is_some_and(declares))
            }
            Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        }
    }

    /// Leaves facts about an object for its next reconcile, and asks for that now.
    pub async fn record(&self, context: &Context<'_>, view: &View, facts: &[Fact]) -> Result<(), Failure> {
        self.ledger.record(&view.record.admission.uid, facts).await?;
        self.nudge(context, Some(view.object())).await
    }

    /// Asks the operator to look now, if one runs.
    pub async fn nudge(&self, context: &Context<'_>, object: Option<&ObjectRef>) -> Result<(), Failure> {
        if self.running { Ok(context.client().nudge(object).await?) } else { Ok(()) }
    }

    /// Says at the end of a verb that its effect waits for an operator, where none runs.
    pub fn later(&self, context: &mut Context<'_>) -> Result<(), Failure> {
        if !self.running {
            let dir = context.state_dir.display().to_string();
            context.out.note(format_args!("no operator runs on {dir}; this takes effect when one does"))?;
        }
        Ok(())
    }
}

/// The edit in words, for files that cannot be written.
fn by_hand(edit: &Edit) -> String {
    match edit {
        Edit::Set { path, value: Some(value) } => format!("set {} to {value}", path.join(".")),
        Edit::Set { path, value: None } => format!("remove {}", path.join(".")),
        Edit::Remove => "remove the document".to_owned(),
        Edit::Put(text) | Edit::PutBack(text) => format!("write\n\n{text}"),
    }
}
