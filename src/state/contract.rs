//! One suite for every adapter of the ledger, and what each of them promises besides.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use super::backup::{BackupError, REPLACED, backup, restore};
use super::directory_lock::StateDirLock;
use super::memory::MemoryLedger;
use super::overlay::OverlayLedger;
use super::sqlite::{FILE, SqliteLedger, tamper};
use super::*;
use crate::resource::Kind;

type Shared = Arc<dyn Ledger>;

/// Runs every named behaviour on every adapter.
macro_rules! contract {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $name() { super::$name(std::sync::Arc::new(super::MemoryLedger::default())).await; })+
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)] async fn $name() {
                let dir = tempfile::tempdir().unwrap();
                super::$name(std::sync::Arc::new(super::SqliteLedger::open(dir.path()).await.unwrap())).await;
            })+
        }
        mod overlay {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)] async fn $name() {
                let dir = tempfile::tempdir().unwrap();
                let base = std::sync::Arc::new(super::SqliteLedger::open(dir.path()).await.unwrap());
                super::$name(std::sync::Arc::new(super::OverlayLedger::new(base))).await;
            })+
        }
    };
}

contract!(
    admits_and_counts_generations,
    recovers_identity_and_never_falls_back,
    buries_and_brings_back,
    two_objects_never_share_an_identity,
    leases_are_kept_revoked_and_released,
    facts_survive_eight_writers,
    ports_are_granted_once_under_concurrency,
    equal_events_are_counted_up_and_all_are_bounded,
    the_journal_keeps_the_latest_of_each_object,
    statuses_and_settings_are_what_was_written_last,
);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).unwrap()
}
fn shop() -> ObjectRef {
    ObjectRef::new(Kind::Workspace, "alice", "shop")
}
fn uid(n: u32) -> Uid {
    Uid(format!("01980000-0000-7000-8000-{n:012}"))
}
fn fresh(n: u32) -> Admission {
    Admission { uid: uid(n), generation: 1, created: at(i64::from(n)) }
}
fn document(object: ObjectRef, digest: &str) -> Document {
    let origin = Origin { source: "./specs".to_owned(), path: "alice/shop.yaml".to_owned(), document: 0 };
    Document { object, text: format!("kind: Workspace # {digest}\n"), digest: digest.to_owned(), origin }
}
fn tombstone(n: u32) -> Tombstone {
    Tombstone { uid: uid(n), at: at(10), until: at(20), consent: Consent::None, purge: false, farewell: Farewell::default() }
}
fn event(object: Option<ObjectRef>, second: i64, message: &str) -> Event {
    Event { time: at(second), type_: EventType::Normal, reason: EventReason::Started, object, message: message.to_owned(), count: 1 }
}
fn entry(object: ObjectRef, second: i64) -> JournalEntry {
    let (changes, operations, skipped) = (Vec::new(), Vec::new(), Vec::new());
    JournalEntry { time: at(second), object, generation: 1, trigger: Trigger::Spec, changes, operations, skipped, next: None }
}
fn http() -> [Claim; 1] {
    [Claim::Port { name: "http".to_owned(), fixed: None }]
}
fn pools(high: u16) -> Pools {
    Pools { ports: (10_000, high), network: "10.213.0.0/16".to_owned(), ..Pools::default() }
}

async fn admits_and_counts_generations(ledger: Shared) {
    let first = ledger.admit(&document(shop(), "a"), fresh(1), None).await.unwrap();
    assert_eq!(first, Admitted { admission: fresh(1), how: AdmittedAs::New });
    let same = ledger.admit(&document(shop(), "a"), fresh(2), None).await.unwrap();
    assert_eq!(same, Admitted { admission: fresh(1), how: AdmittedAs::Known });
    let changed = ledger.admit(&document(shop(), "b"), fresh(3), None).await.unwrap();
    assert_eq!(changed, Admitted { admission: Admission { generation: 2, ..fresh(1) }, how: AdmittedAs::Changed });

    let mut moved = document(shop(), "b");
    moved.origin.path = "alice/all.yaml".to_owned();
    moved.text = "# moved\n".to_owned();
    assert_eq!(ledger.admit(&moved, fresh(4), None).await.unwrap().how, AdmittedAs::Known);
    let record = ledger.records().await.unwrap().remove(0);
    assert_eq!((record.origin, record.text, record.admission.generation), (moved.origin, moved.text, 2));
}

async fn recovers_identity_and_never_falls_back(ledger: Shared) {
    let labels = Admission { generation: 7, ..fresh(1) };
    let found = ledger.admit(&document(shop(), "a"), fresh(2), Some(labels.clone())).await.unwrap();
    assert_eq!(found, Admitted { admission: labels.clone(), how: AdmittedAs::Recovered });
    let other_life = Admission { generation: 30, ..fresh(9) };
    let same = ledger.admit(&document(shop(), "a"), fresh(2), Some(other_life)).await.unwrap();
    assert_eq!(same, Admitted { admission: labels, how: AdmittedAs::Known }, "labels count where nothing is known");
    let newer = Admission { generation: 12, ..fresh(1) };
    let lifted = ledger.admit(&document(shop(), "b"), fresh(2), Some(newer.clone())).await.unwrap();
    assert_eq!(lifted, Admitted { admission: newer, how: AdmittedAs::Changed });
}

async fn buries_and_brings_back(ledger: Shared) {
    ledger.admit(&document(shop(), "a"), fresh(1), None).await.unwrap();
    ledger.record(&uid(1), &[Fact::VolumeMade("data".to_owned())]).await.unwrap();
    ledger.bury(&shop(), &tombstone(1)).await.unwrap();
    let purged = Tombstone { purge: true, ..tombstone(1) };
    ledger.bury(&shop(), &purged).await.unwrap();
    assert_eq!(ledger.records().await.unwrap()[0].tombstone, Some(purged));
    let other_life = ledger.bury(&shop(), &tombstone(2)).await;
    assert!(matches!(other_life, Err(LedgerError::Unknown { .. })), "{other_life:?}");

    let back = ledger.admit(&document(shop(), "a"), fresh(2), None).await.unwrap();
    assert_eq!(back, Admitted { admission: fresh(1), how: AdmittedAs::Undeleted });
    assert_eq!(ledger.records().await.unwrap()[0].tombstone, None);
    assert!(ledger.facts(&uid(1)).await.unwrap().volumes_made.contains("data"));
    ledger.bury(&shop(), &tombstone(1)).await.unwrap();
    let changed = ledger.admit(&document(shop(), "b"), fresh(2), None).await.unwrap();
    assert_eq!(changed, Admitted { admission: Admission { generation: 2, ..fresh(1) }, how: AdmittedAs::Undeleted });

    ledger.release(&shop()).await.unwrap();
    assert_eq!(ledger.facts(&uid(1)).await.unwrap(), Facts::default());
    assert_eq!(ledger.admit(&document(shop(), "b"), fresh(3), None).await.unwrap().how, AdmittedAs::New);
}

async fn two_objects_never_share_an_identity(ledger: Shared) {
    ledger.admit(&document(shop(), "a"), fresh(1), None).await.unwrap();
    let other = document(ObjectRef::new(Kind::Workspace, "bob", "shop"), "a");
    let refused = ledger.admit(&other, fresh(2), Some(fresh(1))).await;
    assert!(matches!(refused, Err(LedgerError::Identity { .. })), "{refused:?}");
    assert_eq!(ledger.records().await.unwrap().len(), 1);
}

async fn leases_are_kept_revoked_and_released(ledger: Shared) {
    let claims = &[http()[0].clone(), Claim::Subnet { network: "n".to_owned(), prefix: 28 }];
    let granted = ledger.grant(&shop(), &uid(1), claims, &[], &pools(10_009)).await.unwrap();
    let again = ledger.grant(&shop(), &uid(1), claims, &[], &pools(10_009)).await.unwrap();
    assert_eq!((&again.grants, &again.leased[..], &granted.leased[..]), (&granted.grants, &[][..], &granted.grants[..1]));
    let Grant::Port { host, .. } = granted.grants[0].clone() else { panic!("{granted:?}") };
    let leases = ledger.leases().await.unwrap();
    assert_eq!(leases.iter().map(|lease| &lease.grant).collect::<Vec<_>>(), granted.grants.iter().collect::<Vec<_>>());
    assert!(leases.iter().all(|lease| lease.object == shop() && lease.uid == uid(1) && !lease.fixed));

    ledger.revoke(&uid(1), host).await.unwrap();
    let mut quarantine = pools(10_009);
    quarantine.ports_taken.insert(host);
    let next = ledger.grant(&shop(), &uid(1), claims, &granted.grants, &quarantine).await.unwrap();
    assert_ne!(next.grants[0], granted.grants[0]);
    assert_eq!(next.grants[1], granted.grants[1]);

    ledger.grant(&shop(), &uid(1), &http(), &[], &pools(10_009)).await.unwrap();
    assert_eq!(ledger.leases().await.unwrap().len(), 1, "the subnet is given back");
    let namespace = ObjectRef::new(Kind::Namespace, "", "alice");
    let synthetic = Uid("namespace/alice".to_owned());
    let subnet = [Claim::Subnet { network: "dm-ns-alice".to_owned(), prefix: 26 }];
    ledger.grant(&namespace, &synthetic, &subnet, &[], &pools(10_009)).await.unwrap();
    assert_eq!(ledger.leases().await.unwrap().len(), 2);
    ledger.release(&namespace).await.unwrap();
    ledger.release(&shop()).await.unwrap();
    assert_eq!(ledger.leases().await.unwrap(), []);
}

/// Runs this on eight tasks and waits for all of them.
async fn on_eight_tasks<F: Future<Output = ()> + Send + 'static>(work: impl Fn(u32) -> F) {
    let tasks: Vec<_> = (0..8).map(|n| tokio::spawn(work(n))).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn facts_survive_eight_writers(ledger: Shared) {
    on_eight_tasks(|task| {
        let ledger = ledger.clone();
        async move {
            for n in 0..100 {
                let volume = Fact::VolumeMade(format!("{task}-{n}"));
                ledger.record(&uid(1), &[volume, Fact::Failures(n)]).await.unwrap();
                ledger.record(&uid(2 + task), &[Fact::Activity { at: at(i64::from(n)), by: "touch".to_owned() }]).await.unwrap();
                ledger.facts(&uid(1)).await.unwrap();
            }
        }
    })
    .await;
    assert_eq!(ledger.facts(&uid(1)).await.unwrap().volumes_made.len(), 800, "no write is lost");
    assert_eq!(ledger.facts(&uid(9)).await.unwrap().activity, Some((at(99), "touch".to_owned())));
    assert_eq!(ledger.facts(&uid(99)).await.unwrap(), Facts::default());
}

async fn ports_are_granted_once_under_concurrency(ledger: Shared) {
    on_eight_tasks(|task| {
        let ledger = ledger.clone();
        async move {
            for n in 0..10 {
                let object = ObjectRef::new(Kind::Workspace, "alice", &format!("w{task}-{n}"));
                let granted = ledger.grant(&object, &uid(task * 10 + n), &http(), &[], &pools(10_079)).await.unwrap();
                assert!(matches!(granted.grants[0], Grant::Port { .. }), "{granted:?}");
            }
        }
    })
    .await;
    let ports: BTreeSet<String> = ledger.leases().await.unwrap().iter().map(|lease| format!("{:?}", lease.grant)).collect();
    assert_eq!(ports.len(), 80);
    let refused = ledger.grant(&shop(), &uid(80), &http(), &[], &pools(10_079)).await.unwrap();
    assert!(matches!(&refused.grants[0], Grant::Refused { holders, .. } if holders.len() == 80), "{refused:?}");
    let stopped = Pools { reclaimable: vec![uid(42)], ..pools(10_079) };
    let granted = ledger.grant(&shop(), &uid(80), &http(), &[], &stopped).await.unwrap();
    assert_eq!(granted.displaced.iter().map(|lost| lost.uid.clone()).collect::<Vec<_>>(), [uid(42)]);
    assert!(ledger.leases().await.unwrap().iter().all(|lease| lease.uid != uid(42)));
}

async fn equal_events_are_counted_up_and_all_are_bounded(ledger: Shared) {
    let (mine, source) = (Some(shop()), None);
    for (object, second, message) in [(&mine, 1, "x"), (&source, 2, "s"), (&mine, 3, "x"), (&mine, 4, "y"), (&mine, 5, "x"), (&source, 6, "s")] {
        ledger.event(&event(object.clone(), second, message)).await.unwrap();
    }
    let seen = |events: Vec<Event>| events.into_iter().map(|e| (e.message, e.time, e.count)).collect::<Vec<_>>();
    let of_shop = [("x".to_owned(), at(3), 2), ("y".to_owned(), at(4), 1), ("x".to_owned(), at(5), 1)];
    assert_eq!(seen(ledger.events(Some(&shop()), 10).await.unwrap()), of_shop);
    assert_eq!(seen(ledger.events(None, 2).await.unwrap()), [of_shop[2].clone(), ("s".to_owned(), at(6), 2)]);
    for n in 0..10_100 {
        ledger.event(&event(mine.clone(), n, &n.to_string())).await.unwrap();
    }
    let kept = ledger.events(None, u32::MAX).await.unwrap();
    assert_eq!((kept.len(), kept[0].message.as_str()), (EVENTS_KEPT as usize, "100"));
}

async fn the_journal_keeps_the_latest_of_each_object(ledger: Shared) {
    let other = ObjectRef::new(Kind::Workspace, "bob", "shop");
    ledger.journal(&entry(other.clone(), 0)).await.unwrap();
    for second in 0..210 {
        ledger.journal(&entry(shop(), second)).await.unwrap();
    }
    let kept = ledger.journal_of(&shop(), u32::MAX).await.unwrap();
    assert_eq!((kept.len(), kept[0].time, kept[199].time), (JOURNAL_KEPT as usize, at(10), at(209)));
    assert_eq!(ledger.journal_of(&shop(), 1).await.unwrap(), [entry(shop(), 209)]);
    ledger.release(&other).await.unwrap();
    assert_eq!(ledger.journal_of(&other, 5).await.unwrap(), [entry(other, 0)], "it stays when the object goes");
}

async fn statuses_and_settings_are_what_was_written_last(ledger: Shared) {
    ledger.save_status(&shop(), &serde_json::json!({"phase": "Pending"}), at(1)).await.unwrap();
    ledger.save_status(&shop(), &serde_json::json!({"phase": "Running"}), at(2)).await.unwrap();
    let running = BTreeMap::from([(shop(), (serde_json::json!({"phase": "Running"}), at(2)))]);
    assert_eq!(ledger.statuses().await.unwrap(), running);
    ledger.release(&shop()).await.unwrap();
    assert_eq!(ledger.statuses().await.unwrap(), BTreeMap::new());
    assert_eq!(ledger.setting("engine").await.unwrap(), None);
    ledger.set_setting("engine", Some("A")).await.unwrap();
    ledger.set_setting("engine", Some("B")).await.unwrap();
    assert_eq!(ledger.setting("engine").await.unwrap().as_deref(), Some("B"));
    ledger.set_setting("engine", None).await.unwrap();
    assert_eq!(ledger.setting("engine").await.unwrap(), None);
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Step {
    Admit(u32, u8, Option<u64>),
    Bury(u32),
    Release(u32),
    Grant(u32, Vec<Claim>, Vec<u32>),
    Revoke(u32, u16),
    Record(u32, Fact),
    Event(u32, u8),
    Status(u32, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let n = || 0u32..4;
    let claim = prop_oneof![
        (0u8..3, prop::option::of(10_000u16..10_003)).prop_map(|(name, fixed)| Claim::Port { name: name.to_string(), fixed }),
        (0u8..2).prop_map(|network| Claim::Subnet { network: network.to_string(), prefix: 28 }),
    ];
    let fact = prop_oneof![(0i64..9).prop_map(|s| Fact::StartAsked(at(s))), (0i64..9).prop_map(|s| Fact::Exited(at(s))), Just(Fact::Unstopped)];
    prop_oneof![
        (n(), 0u8..3, prop::option::of(1u64..5)).prop_map(|(n, digest, label)| Step::Admit(n, digest, label)),
        n().prop_map(Step::Bury),
        n().prop_map(Step::Release),
        (n(), prop::collection::btree_set(claim, 0..4), prop::collection::vec(n(), 0..2)).prop_map(|(n, claims, stopped)| Step::Grant(
            n,
            claims.into_iter().collect(),
            stopped
        )),
        (n(), 10_000u16..10_004).prop_map(|(n, port)| Step::Revoke(n, port)),
        (n(), fact).prop_map(|(n, fact)| Step::Record(n, fact)),
        (n(), 0u8..2).prop_map(|(n, message)| Step::Event(n, message)),
        (n(), 0u8..3).prop_map(|(n, status)| Step::Status(n, status)),
    ]
}

/// What the step answers, and everything that the ledger holds afterwards.
async fn take(ledger: &dyn Ledger, step: &Step) -> String {
    let object = |n: u32| ObjectRef::new(Kind::Workspace, "alice", &format!("w{n}"));
    let answer = match step {
        Step::Admit(n, digest, label) => {
            let labels = label.map(|generation| Admission { generation, ..fresh(*n) });
            format!("{:?}", ledger.admit(&document(object(*n), &digest.to_string()), fresh(*n), labels).await)
        }
        Step::Bury(n) => format!("{:?}", ledger.bury(&object(*n), &tombstone(*n)).await),
        Step::Release(n) => format!("{:?}", ledger.release(&object(*n)).await),
        Step::Grant(n, claims, stopped) => {
            let pools = Pools { reclaimable: stopped.iter().map(|n| uid(*n)).collect(), ..pools(10_003) };
            format!("{:?}", ledger.grant(&object(*n), &uid(*n), claims, &[], &pools).await)
        }
        Step::Revoke(n, port) => format!("{:?}", ledger.revoke(&uid(*n), *port).await),
        Step::Record(n, fact) => format!("{:?}", ledger.record(&uid(*n), std::slice::from_ref(fact)).await),
        Step::Event(n, message) => format!("{:?}", ledger.event(&event(Some(object(*n)), 1, &message.to_string())).await),
        Step::Status(n, status) => format!("{:?}", ledger.save_status(&object(*n), &serde_json::json!(status), at(1)).await),
    };
    let mut leases: Vec<String> = ledger.leases().await.unwrap().iter().map(|lease| format!("{lease:?}")).collect();
    leases.sort();
    let mut facts = Vec::new();
    for n in 0..4 {
        facts.push(ledger.facts(&uid(n)).await.unwrap());
    }
    let (records, statuses, events) = (ledger.records().await.unwrap(), ledger.statuses().await.unwrap(), ledger.events(None, 100).await.unwrap());
    format!("{answer}\n{records:#?}\n{leases:#?}\n{facts:#?}\n{statuses:?}\n{events:#?}")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// The file, the memory and an overlay begun in the middle of a history answer alike, and the overlay leaves its base as it was.
    #[test]
    fn all_adapters_agree(before in prop::collection::vec(step(), 0..15), after in prop::collection::vec(step(), 1..15)) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let file = Arc::new(SqliteLedger::open(dir.path()).await.unwrap());
            let memory = MemoryLedger::default();
            for step in &before {
                assert_eq!(take(&*file, step).await, take(&memory, step).await, "{step:?}");
            }
            let untouched = take(&*file, &Step::Revoke(9, 1)).await;
            let overlay = OverlayLedger::new(file.clone());
            for step in &after {
                assert_eq!(take(&overlay, step).await, take(&memory, step).await, "{step:?}");
            }
            assert_eq!(take(&*file, &Step::Revoke(9, 1)).await, untouched);
            for step in &after {
                take(&*file, step).await;
            }
            assert_eq!(take(&*file, &Step::Revoke(9, 1)).await, take(&memory, &Step::Revoke(9, 1)).await);
        });
    }
}

/// Its size, for telling whether something was written.
fn written(dir: &Path) -> u64 {
    std::fs::metadata(dir.join(format!("{FILE}-wal"))).map(|journal| journal.len()).unwrap_or(0)
}

#[tokio::test]
async fn what_is_unchanged_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(dir.path()).await.unwrap();
    ledger.admit(&document(shop(), "a"), fresh(1), None).await.unwrap();
    ledger.grant(&shop(), &uid(1), &http(), &[], &pools(10_009)).await.unwrap();
    ledger.record(&uid(1), &[Fact::Failures(1)]).await.unwrap();
    let before = written(dir.path());
    ledger.admit(&document(shop(), "a"), fresh(2), None).await.unwrap();
    ledger.grant(&shop(), &uid(1), &http(), &[], &pools(10_009)).await.unwrap();
    ledger.record(&uid(1), &[Fact::Failures(1)]).await.unwrap();
    assert_eq!(written(dir.path()), before);
    ledger.record(&uid(1), &[Fact::Failures(2)]).await.unwrap();
    assert!(written(dir.path()) > before);
}

#[tokio::test]
async fn the_file_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = SqliteLedger::open(dir.path()).await.unwrap();
    ledger.set_setting("engine", Some("A")).await.unwrap();
    for name in [FILE.to_owned(), format!("{FILE}-wal"), format!("{FILE}-shm")] {
        let mode = std::fs::metadata(dir.path().join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_committed_survives_an_operator_that_is_gone_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let path = dir.path().to_owned();
    let (tell, told) = tokio::sync::oneshot::channel();
    runtime.spawn(async move {
        let ledger = SqliteLedger::open(&path).await.unwrap();
        let mut tell = Some(tell);
        for n in 0.. {
            ledger.record(&uid(1), &[Fact::VolumeMade(n.to_string()), Fact::Failures(n + 1)]).await.unwrap();
            if n == 20
                && let Some(tell) = tell.take()
            {
                tell.send(()).unwrap();
            }
        }
    });
    told.await.unwrap();
    runtime.shutdown_background();
    let ledger = SqliteLedger::open(dir.path()).await.unwrap();
    let facts = ledger.facts(&uid(1)).await.unwrap();
    assert!(facts.volumes_made.len() > 20);
    assert_eq!(facts.volumes_made.len(), facts.failures as usize, "a record is whole or absent");
    ledger.record(&uid(1), &[Fact::VolumeMade("after".to_owned())]).await.unwrap();
}

#[tokio::test]
async fn readers_come_in_while_an_operator_writes_and_cannot_write() {
    let dir = tempfile::tempdir().unwrap();
    let absent = SqliteLedger::open_read_only(dir.path()).await;
    assert!(matches!(absent, Err(LedgerError::Absent { .. })), "{absent:?}");
    assert!(!dir.path().join(FILE).exists());
    let operator = SqliteLedger::open(dir.path()).await.unwrap();
    operator.set_setting("engine", Some("A")).await.unwrap();
    let reader = SqliteLedger::open_read_only(dir.path()).await.unwrap();
    assert_eq!(reader.setting("engine").await.unwrap().as_deref(), Some("A"));
    assert!(reader.set_setting("engine", Some("B")).await.is_err());
    operator.set_setting("engine", Some("C")).await.unwrap();
    assert_eq!(reader.setting("engine").await.unwrap().as_deref(), Some("C"));
    operator.close().await;
    let later = SqliteLedger::open_read_only(dir.path()).await.unwrap();
    assert_eq!(later.setting("engine").await.unwrap().as_deref(), Some("C"));
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    SqliteLedger::open(dir.path()).await.unwrap().close().await;
    tamper(dir.path(), "UPDATE _sqlx_migrations SET version = 9000").await;
    let before = std::fs::read(dir.path().join(FILE)).unwrap();
    for opened in [SqliteLedger::open(dir.path()).await, SqliteLedger::open_read_only(dir.path()).await] {
        assert!(matches!(opened, Err(LedgerError::TooNew { found: 9000, known: 1 })), "{opened:?}");
    }
    assert_eq!(std::fs::read(dir.path().join(FILE)).unwrap(), before);
}

#[tokio::test]
async fn a_damaged_file_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let ledger = SqliteLedger::open(dir.path()).await.unwrap();
    for n in 0..200 {
        ledger.event(&event(None, n, &n.to_string().repeat(50))).await.unwrap();
    }
    ledger.close().await;
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    let middle = whole.len() / 2;
    flipped[middle..middle + 4096].fill(0xa5);
    for damaged in [b"this is not a database, but it is long enough to look like one".to_vec(), flipped, whole[..whole.len() / 2].to_vec()] {
        std::fs::write(&path, &damaged).unwrap();
        let opened = SqliteLedger::open(dir.path()).await;
        let Err(error @ LedgerError::Corrupt { .. }) = opened else { panic!("{opened:?}") };
        let text = error.to_string();
        assert!(text.contains("state restore") && text.contains("away") && text.contains("nothing but history is lost"), "{text}");
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
    }
}

#[tokio::test]
async fn fields_that_a_newer_version_wrote_stay() {
    let dir = tempfile::tempdir().unwrap();
    SqliteLedger::open(dir.path()).await.unwrap().close().await;
    tamper(dir.path(), r#"INSERT INTO facts VALUES ('u', '{"failures": 3, "colour": "green"}')"#).await;
    let ledger = SqliteLedger::open(dir.path()).await.unwrap();
    let uid = Uid("u".to_owned());
    assert_eq!(ledger.facts(&uid).await.unwrap().failures, 3);
    ledger.record(&uid, &[Fact::Failures(4)]).await.unwrap();
    ledger.close().await;
    let text = tamper(dir.path(), "SELECT facts FROM facts").await.unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&value["failures"], &value["colour"]), (&serde_json::json!(4), &serde_json::json!("green")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_is_whole_while_an_operator_writes_and_comes_back() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = elsewhere.path().join("backup.db");
    let ledger = Arc::new(SqliteLedger::open(dir.path()).await.unwrap());
    ledger.admit(&document(shop(), "a"), fresh(1), None).await.unwrap();
    let (writer, stop) = (ledger.clone(), tokio_util::sync::CancellationToken::new());
    let stopped = stop.clone();
    let writing = tokio::spawn(async move {
        let mut n = 0;
        while !stopped.is_cancelled() {
            n += 1;
            writer.record(&uid(1), &[Fact::VolumeMade(n.to_string()), Fact::Failures(n)]).await.unwrap();
        }
    });
    backup(dir.path(), &copy, false).await.unwrap();
    stop.cancel();
    writing.await.unwrap();
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(matches!(backup(dir.path(), &copy, false).await, Err(BackupError::Exists(_))));
    backup(dir.path(), &elsewhere.path().join("second.db"), false).await.unwrap();
    backup(dir.path(), &elsewhere.path().join("second.db"), true).await.unwrap();

    ledger.admit(&document(shop(), "b"), fresh(1), None).await.unwrap();
    ledger.close().await;
    restore(dir.path(), &copy).await.unwrap();
    let restored = SqliteLedger::open(dir.path()).await.unwrap();
    let facts = restored.facts(&uid(1)).await.unwrap();
    assert_eq!(facts.volumes_made.len(), facts.failures as usize);
    assert_eq!(restored.records().await.unwrap()[0].digest, "a");
    restored.close().await;
    let names: BTreeSet<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, BTreeSet::from([FILE.to_owned(), REPLACED.to_owned(), "lock".to_owned()]), "nothing else is left behind");

    let lost = tempfile::tempdir().unwrap();
    std::fs::rename(dir.path().join(REPLACED), lost.path().join("replaced.db")).unwrap();
    let new = lost.path().join("state");
    restore(&new, &lost.path().join("replaced.db")).await.unwrap();
    assert_eq!(SqliteLedger::open(&new).await.unwrap().records().await.unwrap()[0].digest, "b", "the replaced ledger was kept whole");
}

#[tokio::test]
async fn a_ledger_that_was_not_closed_is_kept_with_its_journal() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = elsewhere.path().join("backup.db");
    let crashed = SqliteLedger::open(dir.path()).await.unwrap();
    backup(dir.path(), &copy, false).await.unwrap();
    crashed.set_setting("engine", Some("A")).await.unwrap();
    // What a killed operator leaves behind: the file, and its journal with what the file does not have yet.
    let left = elsewhere.path().join("left");
    std::fs::create_dir(&left).unwrap();
    for name in [FILE.to_owned(), format!("{FILE}-wal")] {
        std::fs::copy(dir.path().join(&name), left.join(&name)).unwrap();
    }
    restore(&left, &copy).await.unwrap();
    assert_eq!(SqliteLedger::open(&left).await.unwrap().setting("engine").await.unwrap(), None, "the old journal is not played into the backup");
    let kept = elsewhere.path().join("kept");
    std::fs::create_dir(&kept).unwrap();
    std::fs::rename(left.join(REPLACED), kept.join(FILE)).unwrap();
    std::fs::rename(left.join(format!("{REPLACED}-wal")), kept.join(format!("{FILE}-wal"))).unwrap();
    assert_eq!(SqliteLedger::open(&kept).await.unwrap().setting("engine").await.unwrap().as_deref(), Some("A"));
}

#[tokio::test]
async fn a_restore_refuses_what_is_no_backup_and_while_an_operator_holds_the_directory() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    SqliteLedger::open(dir.path()).await.unwrap().close().await;
    let before = std::fs::read(dir.path().join(FILE)).unwrap();
    let from = elsewhere.path().join("backup.db");
    assert!(matches!(restore(dir.path(), &from).await, Err(BackupError::Missing(_))));
    for text in ["", "not a database at all, but long enough to be taken for one"] {
        std::fs::write(&from, text).unwrap();
        let refused = restore(dir.path(), &from).await;
        let Err(BackupError::Ledger(LedgerError::Corrupt { path, .. })) = &refused else { panic!("{refused:?}") };
        assert_eq!(path, &from.display().to_string());
    }
    std::fs::write(&from, &before).unwrap();
    let lock = StateDirLock::acquire(dir.path()).unwrap();
    assert!(matches!(restore(dir.path(), &from).await, Err(BackupError::Busy(_))));
    drop(lock);
    tamper(dir.path(), "UPDATE _sqlx_migrations SET version = 9000").await;
    let newer = elsewhere.path().join("newer.db");
    std::fs::copy(dir.path().join(FILE), &newer).unwrap();
    assert!(matches!(restore(dir.path(), &newer).await, Err(BackupError::Ledger(LedgerError::TooNew { .. }))));
    assert!(!dir.path().join(REPLACED).exists());
}
