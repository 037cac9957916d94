//! One container over a small engine: volumes that only its image knows.

use jiff::SignedDuration;
use super::tests::{intent, model, web};

#[test]
fn volumes_that_only_the_image_declares_are_told_once_for_each_container() {
    let mut m = model();
    let want = intent(web("web:1"), 1);
    m.settle(&want);
    let declare = |m: &mut super::model::Model| {
        m.meddle("dm-ws-alice.shop", |c| {
            c.details.as_mut().unwrap().anonymous_volumes.insert("f".repeat(64), "/var/lib/Cache_1".to_owned());
        });
    };
    let told = |m: &super::model::Model| m.log.iter().filter(|line| *line == "record unnamed-volumes").count();
    declare(&mut m);
    m.settle(&want);
    m.settle(&want);
    assert_eq!(told(&m), 1);
    let found = m.facts.unnamed_volumes["dm-ws-alice.shop"].clone();
    assert_eq!(
        (found.paths.as_slice(), found.advice().as_str()),
        (&["/var/lib/Cache_1".to_owned()][..], "add `{volume: cache-1, path: /var/lib/Cache_1}` to spec.mounts to keep it")
    );
    // Another container of the same image has them too; one of another image none, and then nothing is said of them any more.
    let changed = intent(web("web:2"), 2);
    m.settle(&changed);
    assert!(m.facts.unnamed_volumes.is_empty());
    declare(&mut m);
    m.settle(&changed);
    assert_eq!(told(&m), 3);
}
