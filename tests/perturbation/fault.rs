//! Faults: each at a call, or an event, that is counted from the start of a run.

use std::fmt;

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// The operator dies as it makes the call; the call is carried out or not. A start that is not is given up by the newer engine.
    Crash { at: u64, applied: bool },
    /// The engine answers that, and does nothing.
    Refuse { at: u64, class: Class },
    /// No answer ever comes.
    Silence { at: u64, applied: bool },
    /// The connection breaks before an answer.
    Reset { at: u64, applied: bool },
    /// The answer is cut.
    Truncate { at: u64 },
    /// A read is answered as it was so many changes ago.
    Stale { at: u64, age: u64 },
    /// An event is lost, comes twice, or after the next.
    Event { index: u64, how: Delivery },
    /// The engine ends in order just before the call, or is killed in the middle of it; and starts again.
    EngineRestart { at: u64, killed: bool },
    /// The engine stands still for a while from just before the call, and then does what it was asked meanwhile, whoever gave up.
    Suspend { at: u64 },
    /// The wall clock jumps by so many seconds just before the call.
    Jump { at: u64, seconds: i64 },
    /// The state directory is deleted, and the operator dies.
    LoseState { at: u64 },
}

/// Answers that refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// 500, something failed.
    Internal,
    /// 503, busy.
    Unavailable,
    /// 409, in progress.
    Conflict,
    /// 500, the disk is full.
    DiskFull,
    /// 429, too many requests.
    TooMany,
    /// 400, the engine does not like what it was asked.
    BadRequest,
    /// 403, it may not do that.
    Forbidden,
}

impl Class {
    pub fn reply(self) -> (u16, &'static str) {
        match self {
            Class::Internal => (500, "injected failure"),
            Class::Unavailable => (503, "injected: the engine is busy"),
            Class::Conflict => (409, "removal of container injected is already in progress"),
            Class::DiskFull => (500, "mkdir /var/lib/docker: no space left on device"),
            Class::TooMany => (429, "toomanyrequests: injected"),
            Class::BadRequest => (400, "injected: invalid parameter"),
            Class::Forbidden => (403, "injected: authorization denied by plugin"),
        }
    }
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Delivery {
    Lost,
    Twice,
    Late,
}

impl Fault {
    /// The call at which it happens.
    pub fn at(self) -> Option<u64> {
        match self {
            Fault::Crash { at, .. }
            | Fault::Refuse { at, .. }
            | Fault::Silence { at, .. }
            | Fault::Reset { at, .. }
            | Fault::Truncate { at }
            | Fault::Stale { at, .. }
            | Fault::EngineRestart { at, .. }
            | Fault::Suspend { at }
            | Fault::Jump { at, .. }
            | Fault::LoseState { at } => Some(at),
            Fault::Event { .. } => None,
        }
    }

    /// How many creations or removals more than the undisturbed run has may come of it, for each container.
    pub fn excuses(self) -> u64 {
        match self {
            // What is half done when it strikes may be done again.
            Fault::Crash { .. } | Fault::LoseState { .. } | Fault::EngineRestart { .. } => 1,
            Fault::Refuse { .. } | Fault::Silence { .. } | Fault::Reset { .. } | Fault::Truncate { .. } => 1,
            Fault::Stale { .. } | Fault::Suspend { .. } => 1,
            Fault::Event { .. } | Fault::Jump { .. } => 0,
        }
    }

    /// All that can happen to the delivery of an event.
    pub fn at_event(index: u64) -> Vec<Fault> {
        [Delivery::Lost, Delivery::Twice, Delivery::Late].map(|how| Fault::Event { index, how }).to_vec()
    }

    /// How many of [`Fault::at_call`] can happen at any call; the others only where containers are listed.
    pub const AT_ANY: usize = 21;

    /// All that can happen at a call; `applied` makes a difference only where something is changed.
    pub fn at_call(at: u64) -> Vec<Fault> {
        vec![
            Fault::Crash { at, applied: false },
            Fault::Crash { at, applied: true },
            Fault::Refuse { at, class: Class::Internal },
            Fault::Silence { at, applied: true },
            Fault::Reset { at, applied: true },
            Fault::Reset { at, applied: false },
            Fault::EngineRestart { at, killed: false },
            Fault::Suspend { at },
            Fault::Refuse { at, class: Class::Unavailable },
            Fault::Silence { at, applied: false },
            Fault::Truncate { at },
            Fault::Refuse { at, class: Class::DiskFull },
            Fault::Jump { at, seconds: -86_400 },
            Fault::LoseState { at },
            Fault::Refuse { at, class: Class::Conflict },
            Fault::Jump { at, seconds: 1 },
            Fault::Refuse { at, class: Class::TooMany },
            Fault::EngineRestart { at, killed: true },
            Fault::Refuse { at, class: Class::BadRequest },
            Fault::Jump { at, seconds: 86_400 },
            Fault::Refuse { at, class: Class::Forbidden },
            // A list of containers is of a snapshot that may lag behind; all else is read from where it is kept.
            Fault::Stale { at, age: 1 },
            Fault::Stale { at, age: 3 },
            Fault::Stale { at, age: 8 },
        ]
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let applied = |applied: bool| if applied { "after" } else { "before" };
        match *self {
            Fault::Crash { at, applied: is } => write!(f, "crash-{}@{at}", applied(is)),
            Fault::Refuse { at, class } => write!(f, "refuse-{class:?}@{at}"),
            Fault::Silence { at, applied: is } => write!(f, "silence-{}@{at}", applied(is)),
            Fault::Reset { at, applied: is } => write!(f, "reset-{}@{at}", applied(is)),
            Fault::Truncate { at } => write!(f, "truncate@{at}"),
            Fault::Stale { at, age } => write!(f, "stale-{age}@{at}"),
            Fault::Event { index, how } => write!(f, "event-{how:?}@{index}"),
            Fault::EngineRestart { at, killed } => write!(f, "engine-{}@{at}", if killed { "kill" } else { "restart" }),
            Fault::Suspend { at } => write!(f, "suspend@{at}"),
            Fault::Jump { at, seconds } => write!(f, "jump-{seconds}@{at}"),
            Fault::LoseState { at } => write!(f, "lose-state@{at}"),
        }
    }
}

/// Reads what [`fmt::Display`] writes.
impl std::str::FromStr for Fault {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not a fault");
        let (what, at) = text.rsplit_once('@').ok_or_else(bad)?;
        let at: u64 = at.parse().map_err(|_| bad())?;
        if let Some(seconds) = what.strip_prefix("jump-") {
            return Ok(Fault::Jump { at, seconds: seconds.parse().map_err(|_| bad())? });
        }
        let (word, detail) = what.split_once('-').unwrap_or((what, ""));
        let applied = detail == "after";
        Ok(match (word, detail) {
            ("crash", _) => Fault::Crash { at, applied },
            ("silence", _) => Fault::Silence { at, applied },
            ("reset", _) => Fault::Reset { at, applied },
            ("truncate", _) => Fault::Truncate { at },
            ("stale", age) => Fault::Stale { at, age: age.parse().map_err(|_| bad())? },
            ("engine", how) => Fault::EngineRestart { at, killed: how == "kill" },
            ("suspend", _) => Fault::Suspend { at },
            ("lose", _) => Fault::LoseState { at },
            ("refuse", class) => {
                let all = [Class::Internal, Class::Unavailable, Class::Conflict, Class::DiskFull, Class::TooMany, Class::BadRequest, Class::Forbidden];
                Fault::Refuse { at, class: all.into_iter().find(|known| format!("{known:?}") == class).ok_or_else(bad)? }
            }
            ("event", how) => {
                let all = [Delivery::Lost, Delivery::Twice, Delivery::Late];
                Fault::Event { index: at, how: all.into_iter().find(|known| format!("{known:?}") == how).ok_or_else(bad)? }
            }
            _ => return Err(bad()),
        })
    }
}
