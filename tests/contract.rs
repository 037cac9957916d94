//! What the rest relies on, checked on a real engine: every operation, that each may be repeated, each known trap of Docker, whose is
//! what, events and tasks. Runs against any engine from Docker 20.10 on; see `support`.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm, reason = "in a test a surprise is to be loud")]

mod support;

#[path = "contract/changes.rs"]
mod changes;
#[path = "contract/containers.rs"]
mod containers;
#[path = "contract/fixture.rs"]
mod fixture;
#[path = "contract/identity.rs"]
mod identity;
#[path = "contract/networks.rs"]
mod networks;
#[path = "contract/observe.rs"]
mod observe;
#[path = "contract/registry.rs"]
mod registry;
#[path = "contract/tasks.rs"]
mod tasks;
#[path = "contract/volumes.rs"]
mod volumes;
