//! The controller behind the control socket.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt};
use jiff::Timestamp;
use tokio_stream::wrappers::BroadcastStream;

use super::control::{ControlHandle, Ping, WatchFilter, WatchItem};
use crate::controller::{Announcement, Controller};
use crate::resource::{ObjectRef, Status};

/// Answers in the name of a running controller.
pub struct Handle {
    controller: Arc<Controller>,
    since: Timestamp,
}

impl Handle {
    /// A handle on a controller that has run since then.
    pub fn new(controller: Arc<Controller>, since: Timestamp) -> Self {
        Self { controller, since }
    }
}

impl ControlHandle for Handle {
    fn ping(&self) -> Ping {
        Ping { version: env!("CARGO_PKG_VERSION").to_owned(), pid: std::process::id(), since: self.since }
    }

    fn engine(&self) -> Option<Vec<u8>> {
        self.controller.known_engine()
    }

    fn nudge(&self, object: Option<ObjectRef>) -> BoxFuture<'_, ()> {
        Box::pin(self.controller.nudge(object))
    }

    fn watch(&self, filter: WatchFilter) -> BoxStream<'static, WatchItem> {
        // Subscribed before the present state is read, so that nothing falls between the two.
        let news = BroadcastStream::new(self.controller.subscribe());
        let present: Vec<WatchItem> = self
            .controller
            .statuses()
            .into_iter()
            .filter(|(key, ..)| filter.matches(key))
            .map(|(key, generation, status)| of_status(key, generation, &status))
            .collect();
        let controller = self.controller.clone();
        // A reader that lags has missed something: its stream ends, and it asks again.
        let news = news
            .take_while(|news| futures::future::ready(news.is_ok()))
            .filter_map(move |news| futures::future::ready(news.ok().and_then(|news| of_news(&controller, &filter, news))));
        stream::iter(present).chain(stream::iter([WatchItem::Synced])).chain(news).boxed()
    }
}

fn of_status(object: ObjectRef, generation: u64, status: &Status) -> WatchItem {
    WatchItem::Status { object, generation, status: serde_json::to_value(status).unwrap_or_default() }
}

fn of_news(controller: &Controller, filter: &WatchFilter, news: Announcement) -> Option<WatchItem> {
    match news {
        Announcement::Status(object, status) => filter.matches(&object).then(|| {
            let generation = controller.generation(&object).unwrap_or(status.observed_generation);
            of_status(object, generation, &status)
        }),
        Announcement::Event(event) => {
            let matches = event.object.as_ref().map_or(filter.name.is_none(), |object| filter.matches(object));
            matches.then_some(WatchItem::Event { event })
        }
        Announcement::Deleted(object) => filter.matches(&object).then_some(WatchItem::Deleted { object }),
    }
}
