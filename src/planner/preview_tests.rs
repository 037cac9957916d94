//! A preview and its workspace over one small engine: the copy, its end, and that both end right wherever the operator is interrupted.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::model::{INSTALLATION, Model};
use super::tests::{intent, model, uid};
use super::{Plan, SourceStanding};
use crate::desired::lower::{Surroundings, claims, namespace_claim};
use crate::desired::merge::{Tenants, resolve};
use crate::desired::preview::{PreviewInput, lower_preview, pin, resolve_preview};
use crate::desired::{Intent, NetworkWant, naming};
use crate::observed::State;
use crate::resource::status::Phase;
use crate::resource::{ConditionType, Kind, Object, ObjectRef, PreviewSpec, Reason, Uid, WorkspaceSpec};
use crate::state::{Admission, Claim, Consent, Facts, Farewell, Grant, Tombstone};

fn uid_of_demo() -> Uid {
    Uid("01936f2e-7b7c-7000-8000-000000000002".to_owned())
}

pub(super) fn spec() -> Value {
    json!({"image": "web:1", "mounts": [{"volume": "data", "path": "/data"}], "services": {"db": {"image": "db:1", "volume": {"path": "/db"}}}})
}

/// The preview `demo` of a workspace `shop` with this spec, every claim granted.
fn demo(spec: Value, mode: &str) -> Intent {
    let all = BTreeMap::new();
    let tenants = Tenants { all: &all, namespace: "alice" };
    let source: WorkspaceSpec = serde_json::from_value(spec).unwrap();
    let shop = ObjectRef::new(Kind::Workspace, "alice", "shop");
    let pinned = pin(&resolve(&source, &BTreeMap::new(), tenants).spec, &shop, &uid(), "/specs/alice");
    let document = json!({
        "apiVersion": "dockmaster/v1", "kind": "Preview", "metadata": {"name": "demo", "namespace": "alice"},
        "spec": {"workspace": "shop", "copyMode": mode, "ttl": "24h"},
    });
    let resource: Object<PreviewSpec> = serde_json::from_value(document).unwrap();
    let resolved = resolve_preview(&resource.spec, Some(&pinned), tenants);
    let object = ObjectRef::new(Kind::Preview, "alice", "demo");
    let grant = |claim: &Claim| match claim {
        Claim::Port { name, fixed } => Grant::Port { name: name.clone(), host: fixed.unwrap_or(10_009) },
        Claim::Subnet { network, .. } => Grant::Subnet { network: network.clone(), cidr: "10.213.2.0/28".to_owned() },
    };
    let grants: Vec<Grant> = claims(INSTALLATION, &object, &resolved).unwrap().iter().map(grant).collect();
    let intent = lower_preview(&PreviewInput {
        around: Surroundings {
            installation: INSTALLATION,
            host_paths: &[],
            links: &BTreeMap::new(),
            publish_address: "127.0.0.1",
            disk_limit: false,
            nano_cpus: 8_000_000_000,
        },
        resource: &resource,
        resolved: &resolved,
        pinned: Some(&pinned),
        tenants,
        admission: &Admission { uid: uid_of_demo(), generation: 1, created: "2026-03-02T10:00:00Z".parse().unwrap() },
        grants: &grants,
        directory: "/specs/alice",
        own_digest: "digest",
        hash: "00112233445566778899aabbccddeeff",
    });
    let Intent::Present(mut desired) = intent else { panic!("{intent:?}") };
    assert!(desired.fatal.is_empty(), "{:?}", desired.fatal);
    let Claim::Subnet { network: name, .. } = namespace_claim(INSTALLATION, "alice") else { unreachable!() };
    desired.networks.insert(0, NetworkWant { name, subnet: "10.213.0.0/26".to_owned(), labels: naming::namespace_labels(INSTALLATION, "alice") });
    Intent::Present(desired)
}

fn stone(of: Uid, m: &Model) -> Intent {
    let until = m.now + SignedDuration::from_hours(168);
    Intent::Absent(Tombstone { uid: of, at: m.now, until, consent: Consent::None, purge: false, farewell: Farewell::default() })
}

/// A workspace that runs, and its preview; each with facts of its own.
pub(super) struct Pair {
    pub(super) m: Model,
    pub(super) shop: Intent,
    pub(super) demo: Intent,
    /// The facts and the key of the one that is not being planned.
    pub(super) other: (ObjectRef, Facts),
}

impl Pair {
    pub(super) fn new(mode: &str) -> Self {
        Self::of(spec(), mode)
    }

    pub(super) fn of(spec: Value, mode: &str) -> Self {
        let (mut m, shop) = (model(), intent(spec.clone(), 1));
        m.settle(&shop);
        Self { m, shop, demo: demo(spec, mode), other: (ObjectRef::new(Kind::Preview, "alice", "demo"), Facts::default()) }
    }

    fn swap(&mut self) {
        std::mem::swap(&mut self.m.object, &mut self.other.0);
        std::mem::swap(&mut self.m.facts, &mut self.other.1);
    }

    /// A turn of the workspace.
    fn step_shop(&mut self) -> Plan {
        let plan = self.m.plan(&self.shop);
        self.m.apply(&plan, usize::MAX);
        plan
    }

    /// The plan of the preview now.
    pub(super) fn plan_demo(&mut self) -> Plan {
        self.swap();
        let plan = self.m.plan(&self.demo);
        self.swap();
        plan
    }

    /// A turn of the preview, after so many operations of which the operator is gone.
    pub(super) fn step_demo(&mut self, crash: usize) -> Plan {
        self.swap();
        let plan = self.m.plan(&self.demo);
        self.m.apply(&plan, crash);
        self.swap();
        plan
    }

    /// What runs to its end ends; a second passes.
    pub(super) fn go_on(&mut self) {
        self.m.finish_tasks();
        self.m.finish_helpers();
        self.m.now += SignedDuration::from_secs(1);
    }

    /// Both take turns until neither has anything to do. Gives the last plan of the preview.
    pub(super) fn settle(&mut self) -> Plan {
        for _ in 0..200 {
            let (shop, demo) = (self.step_shop(), self.step_demo(usize::MAX));
            if shop.is_settled() && demo.is_empty() && (demo.waiting.is_empty() || demo.verdict.stalled) {
                return demo;
            }
            self.go_on();
        }
        panic!("does not settle: {:?}", self.m.log);
    }

    fn paused(&self) -> Vec<String> {
        self.m.world.containers.values().filter(|c| c.state == State::Paused).map(|c| c.name.clone()).collect()
    }
}

pub(super) const BOTH: [&str; 4] = ["dm-pv-alice.demo running", "dm-pv-alice.demo.db running", "dm-ws-alice.shop running", "dm-ws-alice.shop.db running"];

#[test]
fn a_copy_that_is_interrupted_at_any_step_ends_right() {
    for mode in ["Pause", "Stop", "Live"] {
        for rounds in 0..8 {
            for crash in 0..9 {
                let mut pair = Pair::new(mode);
                for round in 0..=rounds {
                    pair.step_demo(if round == rounds { crash } else { usize::MAX });
                    pair.go_on();
                }
                pair.m.world.tasks.clear();
                pair.settle();
                let at = format!("{mode}, round {rounds}, after {crash}: {:?}", pair.m.log);
                assert_eq!(pair.m.states(), BOTH, "{at}");
                assert!(pair.other.1.copied.is_some(), "{at}");
                assert_eq!(pair.m.world.volumes.len(), 4, "{at}");
                let touched = pair.m.log.iter().any(|line| line.starts_with("pause ") || line == "stop dm-ws-alice.shop");
                assert_eq!(touched, mode != "Live", "{at}");
            }
        }
    }
}

#[test]
fn a_preview_that_goes_at_any_step_of_its_copy_leaves_its_workspace_as_it_was() {
    for mode in ["Pause", "Stop"] {
        for expires in [false, true] {
            for rounds in 0..8 {
                for crash in 0..5 {
                    let mut pair = Pair::new(mode);
                    for _ in 0..rounds {
                        pair.step_demo(usize::MAX);
                        pair.go_on();
                    }
                    if expires {
                        pair.m.now += SignedDuration::from_hours(25);
                    } else {
                        pair.demo = stone(uid_of_demo(), &pair.m);
                    }
                    // The deletion itself is interrupted too.
                    pair.step_demo(crash);
                    pair.m.world.tasks.clear();
                    pair.m.now += SignedDuration::from_secs(1);
                    let last = pair.settle();
                    let at = format!("{mode}, expires: {expires}, round {rounds}, after {crash}: {:?}", pair.m.log);
                    assert_eq!(pair.m.states(), BOTH[2..], "{at}");
                    assert!(pair.paused().is_empty(), "{at}");
                    let own = pair.m.world.volumes.values().filter_map(|v| v.owner.as_ref()).filter(|o| o.object.kind == Kind::Preview && !o.expired_marker);
                    // Its tombstone keeps what was copied until it ends; expired, only the marker stays.
                    assert_eq!((expires, own.count()), if expires { (true, 0) } else { (false, if rounds == 0 { 0 } else { 2 }) }, "{at}");
                    assert_eq!(last.verdict.phase, if expires { Phase::Expired } else { Phase::Deleting }, "{at}");
                }
            }
        }
    }
}

#[test]
fn a_suspended_workspace_is_not_touched_for_a_copy() {
    let waits = |pair: &mut Pair| {
        let before = pair.m.log.len();
        let last = pair.settle();
        assert_eq!((last.verdict.phase, last.verdict.reason, last.verdict.stalled), (Phase::Creating, Reason::WaitingOn, true));
        assert!(last.verdict.message.contains("dockmaster resume workspace/shop"), "{}", last.verdict.message);
        let log = &pair.m.log[before..];
        assert!(!log.iter().any(|line| line.starts_with("pause ") || line.starts_with("stop ")), "{log:?}");
        assert!(pair.paused().is_empty());
    };
    // Suspended before each step: what was begun is taken back, or ends.
    for mode in ["Pause", "Stop"] {
        for rounds in 0..7 {
            let mut pair = Pair::new(mode);
            for _ in 0..rounds {
                pair.step_demo(usize::MAX);
                pair.go_on();
            }
            pair.m.standing.source = SourceStanding::Suspended;
            if pair.other.1.copied.is_none() && !pair.m.world.containers.values().any(|c| c.name.ends_with("_delta") && c.state != State::Created) {
                waits(&mut pair);
            }
            pair.m.standing.source = SourceStanding::Declared;
            pair.settle();
            assert_eq!(pair.m.states(), BOTH, "{mode}, round {rounds}: {:?}", pair.m.log);
        }
    }
    // A pause that a crash left is taken back even then.
    let mut pair = Pair::new("Pause");
    while !pair.m.world.containers.values().any(|c| c.name.ends_with("_delta")) {
        pair.step_demo(usize::MAX);
        pair.go_on();
    }
    pair.step_demo(1);
    assert_eq!(pair.paused().len(), 1, "{:?}", pair.m.log);
    pair.m.standing.source = SourceStanding::Suspended;
    waits(&mut pair);
    // One that does not run is copied as it is, and with `Live` nothing needs to stand still.
    for mode in ["Pause", "Live"] {
        let mut pair = Pair::new(mode);
        pair.m.standing.source = SourceStanding::Suspended;
        if mode == "Pause" {
            let mut stopped = spec();
            stopped["state"] = json!("Stopped");
            pair.shop = intent(stopped, 2);
            pair.m.settle(&pair.shop);
        }
        pair.settle();
        assert!(pair.other.1.copied.is_some(), "{mode}: {:?}", pair.m.log);
    }
}

#[test]
fn a_workspace_that_goes_before_its_copy_leaves_its_volumes_or_the_preview_says_that_they_are_gone() {
    for rounds in 0..8 {
        let mut pair = Pair::new("Pause");
        for _ in 0..rounds {
            pair.step_demo(usize::MAX);
            pair.go_on();
        }
        pair.shop = stone(uid(), &pair.m);
        pair.m.standing.source = SourceStanding::Gone;
        pair.settle();
        assert!(pair.other.1.copied.is_some(), "round {rounds}: {:?}", pair.m.log);
        assert_eq!(pair.m.states(), BOTH[..2], "round {rounds}");
    }
    let mut pair = Pair::new("Pause");
    pair.shop = stone(uid(), &pair.m);
    pair.m.standing.source = SourceStanding::Gone;
    let first = pair.m.world.volumes.keys().next().unwrap().clone();
    pair.m.world.volumes.remove(&first);
    let last = pair.settle();
    assert_eq!((last.verdict.phase, last.verdict.reason, last.verdict.stalled), (Phase::Error, Reason::CopyFailed, true));
    assert!(last.verdict.message.contains("dockmaster undelete workspace/shop"), "{}", last.verdict.message);
    assert!(last.verdict.conditions.iter().any(|c| c.type_ == ConditionType::CopyFailed) && !last.verdict.reconciling);
    assert!(!pair.m.log.iter().any(|line| line.contains("pv-alice")), "nothing is made of it: {:?}", pair.m.log);
    // When it comes back, the copy goes on.
    (pair.shop, pair.m.standing.source) = (intent(spec(), 1), SourceStanding::Declared);
    pair.settle();
    assert_eq!(pair.m.states(), BOTH);
}
