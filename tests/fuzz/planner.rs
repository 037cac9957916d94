//! The planner, with the small engine of its own tests, which names the crate as it is named inside of it.

pub use dockmaster::planner::*;

#[allow(dead_code, reason = "what only the tests of the planner use")]
#[path = "../../src/planner/model.rs"]
pub mod model;
