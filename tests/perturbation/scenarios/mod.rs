//! All scenarios.

mod change;
mod life;
mod lost;

use super::scenario::Scenario;

/// Every scenario, in a fixed order.
pub fn all() -> Vec<Scenario> {
    [change::all(), life::all(), lost::all()].concat()
}
