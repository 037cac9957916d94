//! Healing, stopping, waking, the engine's own troubles, and what strangers do.

use std::time::Duration;

use jiff::SignedDuration;

use super::super::scenario::{Human, Scenario, Step, Verb, edit, human, pass, port_taken_between, workspace, write};

const SHOP: &str = "alice/shop.yaml";
const MAIN: &str = "dm-ws-alice.shop";
const RICH: &str = "mounts: [{volume: data, path: /data}], ports: [{name: http, container: 80, publish: Pool}], \
                    services: {db: {image: \"db:1\", command: [sleep, \"1000000\"], volume: {path: /var/db}}}";

/// A rich workspace, and what somebody does to it.
fn hurt(name: &'static str, acts: &[Human]) -> Scenario {
    let mut steps = vec![write(SHOP, workspace("shop", RICH))];
    steps.extend(acts.iter().cloned().map(Step::Human));
    Scenario::new(name, steps).must(&["container dm-ws-alice.shop running", "container dm-ws-alice.shop.db running"])
}

/// A workspace that is stopped, what somebody does meanwhile, and its start.
fn asleep(name: &'static str, spec: &'static str, acts: &[Human]) -> Scenario {
    let mut steps = vec![write(SHOP, workspace("shop", spec)), edit(SHOP, "{image:", "{state: Stopped, image:")];
    steps.extend(acts.iter().cloned().map(Step::Human));
    steps.push(edit(SHOP, "state: Stopped, ", ""));
    Scenario::new(name, steps)
}

/// A rich workspace, and what a stranger does so many milliseconds after its spec came: between the look at the engine and what follows from it.
fn amid(name: &'static str, after: u64, act: Human) -> Scenario {
    let first = [write(SHOP, workspace("shop", RICH)), Step::AtOnce];
    let then = [Step::Pass(Duration::from_millis(after)), Step::AtOnce, human(act)];
    Scenario::new(name, first.into_iter().chain(then).collect())
}

pub fn all() -> Vec<Scenario> {
    let idle = "idle: {timeout: 30m}";
    vec![
        hurt("killed", &[Human::Kill(MAIN)]),
        hurt("stranded", &[Human::Strand(MAIN)]),
        hurt("removed", &[Human::Remove(MAIN)]),
        hurt("service-removed", &[Human::Remove("dm-ws-alice.shop.db")]),
        hurt("stopped-by-hand", &[Human::Stop(MAIN)]),
        hurt("renamed", &[Human::Rename(MAIN, "something-else")]),
        Scenario::new(
            "renamed-while-the-operator-is-down",
            vec![
                write(SHOP, workspace("shop", RICH)),
                Step::OperatorDown,
                human(Human::Rename(MAIN, "something-else")),
                human(Human::Rename("dm-ws-alice.shop.db", "another-thing")),
                Step::OperatorUp,
            ],
        )
        .must(&["container dm-ws-alice.shop running", "container dm-ws-alice.shop.db running"])
        .must_not(&["something-else", "another-thing"]),
        hurt("disconnected", &[Human::Disconnect(MAIN, "dm-ns-alice")]),
        hurt("alias-lost", &[Human::LoseAlias(MAIN, "dm-ns-alice")]),
        hurt("limited-by-hand", &[Human::Limit(MAIN)]),
        Scenario::new(
            "volume-removed",
            vec![
                write(SHOP, workspace("shop", RICH)),
                Step::OperatorDown,
                human(Human::Remove(MAIN)),
                human(Human::RemoveVolume("dm-vol-alice.shop.data")),
                Step::OperatorUp,
            ],
        )
        .must(&["container dm-ws-alice.shop running", "volume dm-vol-alice.shop.data"]),
        hurt("pruned", &[Human::Stop(MAIN), Human::Prune]),
        hurt("pruned-helper", &[Human::RemoveImage("dockmaster/helper:test")]),
        Scenario::new("paused-by-hand", vec![write(SHOP, workspace("shop", "")), human(Human::Pause(MAIN)), Step::Verb(Verb::Start("shop"))])
            .must(&["container dm-ws-alice.shop running"]),
        asleep("pruned-while-asleep", RICH, &[Human::Prune]).must(&["container dm-ws-alice.shop running"]),
        // The container that held the volume is gone: an old client's prune takes what nothing names. What is declared is there again, and empty.
        asleep("both-prunes-while-asleep", RICH, &[Human::Prune, Human::OldVolumePrune])
            .must(&["container dm-ws-alice.shop running", "volume dm-vol-alice.shop.data"]),
        asleep("old-volume-prune-while-asleep", RICH, &[Human::OldVolumePrune]).must(&["volume dm-vol-alice.shop.data seeded"]),
        asleep("network-recreated-while-asleep", "", &[Human::RemoveNetwork("dm-ns-alice")]).must(&["container dm-ws-alice.shop running"]),
        Scenario::new("foreign-on-our-network", vec![write(SHOP, workspace("shop", "")), human(Human::Join("dm-ns-alice")), edit(SHOP, "1000000", "1000001")])
            .must(&["container dm-ws-alice.shop running", "foreign joined"]),
        Scenario::new("foreign-has-the-name", vec![human(Human::Foreign(MAIN)), write(SHOP, workspace("shop", ""))])
            .must(&["workspace/alice/shop NameConflict", "foreign dm-ws-alice.shop"]),
        Scenario::new(
            "foreign-volume",
            vec![human(Human::ForeignVolume("dm-vol-alice.shop.data")), write(SHOP, workspace("shop", "mounts: [{volume: data, path: /data}]"))],
        )
        .must(&["workspace/alice/shop VolumeConflict"])
        .must_not(&["container dm-ws-alice.shop running"]),
        amid("foreign-takes-the-name", 20, Human::Foreign(MAIN)).must(&["workspace/alice/shop NameConflict", "foreign dm-ws-alice.shop"]),
        amid("foreign-takes-the-volume", 2, Human::ForeignVolume("dm-vol-alice.shop.data")).must(&["workspace/alice/shop VolumeConflict"]),
        Scenario::new("foreign-subnet", vec![human(Human::ForeignNetwork("theirs", "10.213.0.0/24")), write(SHOP, workspace("shop", RICH))])
            .must(&["container dm-ws-alice.shop running"]),
        Scenario::new(
            "route-appears",
            vec![write(SHOP, workspace("shop", RICH)), Step::Route("10.213.0.0/20"), write("bob/shop.yaml", workspace("shop", RICH))],
        )
        .must(&["container dm-ws-alice.shop running", "container dm-ws-bob.shop running", "network dm-ns-bob [\"10.213.16."]),
        Scenario::new("port-taken-between", port_taken_between(SHOP)).must(&["container dm-ws-alice.shop running"]).may_differ(&["ports ", "port "]),
        // The end is far from the next stop, whatever a fault takes.
        Scenario::new("idle-stop-and-start", vec![write(SHOP, workspace("shop", "idle: {timeout: 60m}")), pass(4200), Step::Verb(Verb::Start("shop"))])
            .must(&["container dm-ws-alice.shop running"]),
        Scenario::new("idle-stop", vec![write(SHOP, workspace("shop", idle)), pass(2400)]).must(&["workspace/alice/shop phase Stopped"]),
        Scenario::new("idle-touched", vec![write(SHOP, workspace("shop", "idle: {timeout: 60m}")), pass(3000), Step::Verb(Verb::Touch("shop")), pass(900)])
            .must(&["container dm-ws-alice.shop running"]),
        Scenario::new("idle-extended", vec![write(SHOP, workspace("shop", idle)), pass(600), Step::Verb(Verb::Extend("shop", 7200)), pass(2400)])
            .must(&["container dm-ws-alice.shop running"]),
        Scenario::new("lifetime", vec![write(SHOP, workspace("shop", "maxLifetime: 20m")), pass(1500)]).must(&["workspace/alice/shop phase Stopped"]),
        Scenario::new("healed-is-no-activity", vec![write(SHOP, workspace("shop", "maxLifetime: 20m")), pass(600), human(Human::Kill(MAIN)), pass(900)])
            .must(&["workspace/alice/shop phase Stopped"]),
        Scenario::new(
            "dst-night",
            vec![
                // From 10:00 UTC on the day before the clocks go forward in Berlin, at 01:00 UTC of the 29th of March 2026.
                Step::Jump(SignedDuration::from_hours(26 * 24)),
                write(SHOP, workspace("shop", "runningHours: {days: Mon-Sun, from: \"04:00\", to: \"07:00\", timeZone: Europe/Berlin}")),
                Step::Jump(SignedDuration::from_mins(16 * 60 + 30)),
                pass(120),
            ],
        )
        // The hours of the day before come again.
        .restless_when_set_back()
        .must(&["container dm-ws-alice.shop running"]),
        Scenario::new(
            "clock-a-day-back",
            vec![write(SHOP, workspace("shop", RICH)), Step::Jump(SignedDuration::from_hours(-24)), edit(SHOP, "1000000\"]", "1000001\"]")],
        )
        .must(&["container dm-ws-alice.shop running"]),
        Scenario::new("completed", vec![write(SHOP, workspace("shop", "restart: \"no\"").replace("sleep, \"1000000\"", "sleep, \"5\"")), pass(60)])
            .must(&["workspace/alice/shop phase Stopped"])
            .ends_with_the_engine(),
        Scenario::new(
            "suspended",
            vec![
                write(SHOP, workspace("shop", "").replace("{name: shop}", "{name: shop, annotations: {dockmaster/suspend: \"true\"}}")),
                edit(SHOP, ", annotations: {dockmaster/suspend: \"true\"}", ""),
            ],
        )
        .must(&["container dm-ws-alice.shop running"]),
        Scenario::new(
            "restart-annotation",
            vec![write(SHOP, workspace("shop", RICH)), edit(SHOP, "{name: shop}", "{name: shop, annotations: {dockmaster/restart: \"1\"}}")],
        )
        .must(&["container dm-ws-alice.shop running"]),
        Scenario::new("restart-asked", vec![write(SHOP, workspace("shop", RICH)), Step::Verb(Verb::Restart("shop"))])
            .must(&["container dm-ws-alice.shop running"]),
        Scenario::new("crash-in-start", vec![write(SHOP, workspace("shop", "")), Step::CrashInStart, edit(SHOP, "1000000\"]", "1000001\"]")])
            .must(&["container dm-ws-alice.shop running", "workspace/alice/shop generation 2"])
            .must_not(&["workspace/alice/shop UpdateFailed"]),
        Scenario::new(
            "status-undone",
            vec![write(SHOP, workspace("shop", "deletionPolicy: Retain")), Step::UndoStatuses(2), edit(SHOP, "Retain", "Delete"), pass(60)],
        )
        .must(&["workspace/alice/shop generation 2", "workspace/alice/shop phase Running"]),
        Scenario::new("engine-restarts", vec![write(SHOP, workspace("shop", RICH)), Step::EngineRestart { in_order: true, seconds: 5 }])
            .must(&["container dm-ws-alice.shop running"]),
        Scenario::new("engine-killed", vec![write(SHOP, workspace("shop", RICH)), Step::EngineRestart { in_order: false, seconds: 5 }])
            .must(&["container dm-ws-alice.shop running", "container dm-ws-alice.shop.db running"]),
        Scenario::new(
            "engine-killed-while-changed",
            vec![
                write(SHOP, workspace("shop", RICH)),
                edit(SHOP, "1000000\"]", "1000001\"]"),
                Step::AtOnce,
                Step::EngineRestart { in_order: false, seconds: 5 },
            ],
        )
        .must(&["container dm-ws-alice.shop running", "container dm-ws-alice.shop.db running"]),
        Scenario::new(
            "engine-away-while-changed",
            vec![write(SHOP, workspace("shop", "")), Step::EngineDown, edit(SHOP, "1000000", "1000001"), Step::EngineUp],
        )
        .must(&["container dm-ws-alice.shop running"]),
        Scenario::new("crash-while-changing", vec![write(SHOP, workspace("shop", RICH)), edit(SHOP, "1000000\"]", "1000001\"]"), Step::AtOnce, Step::Crash])
            .must(&["container dm-ws-alice.shop running"]),
    ]
}
