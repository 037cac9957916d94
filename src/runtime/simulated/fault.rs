//! Faults from outside: every call can be refused, lost, cut or answered from the past, every event dropped, doubled or held back.

use std::sync::Arc;

use super::events::Event;
use super::state::Engine;

/// A call that has arrived and was not served yet.
#[derive(Clone, Debug)]
pub struct Call {
    /// Counts all calls of this engine, from 0.
    pub index: u64,
    /// Whose connection it came on: the number given to `connect_as`, else 0.
    pub caller: u64,
    /// `POST`.
    pub method: String,
    /// Without the version, with the query.
    pub path: String,
    /// With what names an object replaced: `POST /containers/{id}/start`; empty where there is no such endpoint.
    pub endpoint: String,
    /// Whether it may change something.
    pub mutating: bool,
    /// What was sent with it.
    pub body: bytes::Bytes,
}

/// What becomes of a call.
#[derive(Clone)]
pub enum Verdict {
    /// It is served.
    Pass,
    /// It is refused and changes nothing.
    Error {
        /// The status.
        status: u16,
        /// The engine's words.
        message: String,
    },
    /// Who asks goes away: it is not served. A start that the newer engine has begun by then is given up, and the container's state says so.
    Abandon,
    /// The reply never comes.
    Silence {
        /// Whether it took effect.
        applied: bool,
    },
    /// The connection breaks before the reply.
    Reset {
        /// Whether it took effect.
        applied: bool,
    },
    /// It takes effect, and the connection breaks within the reply.
    Truncate,
    /// A read is answered from that state. Streams and changes are not: they are served.
    Stale(Arc<Engine>),
    /// The engine stands still from now on, as a process that was sent SIGSTOP; the call is served when it goes on.
    Suspend,
}

/// Decides about calls.
pub trait Interceptor: Send + Sync {
    /// Before the call takes effect. The engine's state may be looked at here.
    fn before(&self, call: &Call) -> Verdict;
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// It is told.
    Pass,
    /// Nobody hears of it, now or later.
    Drop,
    /// It is told twice.
    Twice,
    /// It is told after the next one.
    Hold,
}

/// Decides about events.
pub trait EventTap: Send + Sync {
    /// As the event happens. The engine's state cannot be looked at here.
    fn on(&self, event: &Event) -> Delivery;
}
