//! All scenarios.

mod change;
mod field;
mod life;
mod lost;
mod swarm;
mod two;

use super::scenario::Scenario;

pub use swarm::swarm;

/// Every scenario, in a fixed order.
pub fn all() -> Vec<Scenario> {
    [change::all(), field::all(), life::all(), lost::all(), two::all()].concat()
}
