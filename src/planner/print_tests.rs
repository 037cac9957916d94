//! Plans as text.

use super::print;
use super::tests::{intent, model, web};

#[test]
fn an_instant_is_told_to_the_second() {
    for at in ["2026-03-02T10:00:00Z", "2026-03-02T10:00:00.999Z"] {
        assert_eq!(print::instant(at.parse().unwrap()), "2026-03-02T10:00:00Z");
    }
}

#[test]
fn a_plan_is_counted_by_what_its_operations_mean() {
    let mut m = model();
    let want = intent(web("web:1"), 1);
    let count = |m: &super::model::Model, want| print::count(&print::items(&m.object, &m.plan(want)));
    assert_eq!(count(&m, &want), "Plan: 3 to create, 1 to start.");
    m.settle(&want);
    assert_eq!(count(&m, &want), "Plan: nothing now.");
    assert_eq!(count(&m, &intent(web("web:2"), 2)), "Plan: 3 to replace.");
}
