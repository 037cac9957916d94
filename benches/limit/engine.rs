//! The same work on a real engine by the floor, the operator and `docker compose`, one after the other in each round.
//!
//! All of them reach the engine through one recording proxy, so that each call costs each of them the same.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bollard::query_parameters::{EventsOptions, InspectContainerOptions, RemoveContainerOptions};
use dockmaster::cli::args::default_run;
use dockmaster::runtime::docker::connect::{Client, connect};
use futures::TryStreamExt;
use rustix::process::{Pid, Signal, kill_process};

use crate::compose::{self, Compose};
use crate::floor::Floor;
use crate::process::{Home, REST, Running};
use crate::recorder::Recorder;
use crate::support::{IMAGE, Sandbox, docker_host, until};
use crate::table::{Figure, Race, median, met, ms, of_engine};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Containers that are killed in a round, and then as many that are removed.
const HEALS: usize = 5;
/// Time between the passes that are watched.
const RESYNC: &str = "6s";
/// How many of them: one of ten plans everything anew, and inspects.
const PASSES: usize = 10;
/// How long an operator without passes is watched.
const STILL: Duration = Duration::from_secs(30);
/// The idle timeout of workspaces whose activity is sampled, the time between two samples that follows from it, and how many are watched.
const IDLE: &str = "5m";
const SAMPLE: Duration = Duration::from_secs(50);
const SAMPLES: u32 = 2;
/// Where the ports of each begin, below those that outgoing connections are given.
const PORTS: u16 = 26_000;
const FLOOR_PORTS: u16 = 27_000;
const COMPOSE_PORTS: u16 = 28_000;

/// What happened to containers, as the engine told it.
struct Watch(Arc<Mutex<Vec<(Instant, String, String)>>>);

impl Watch {
    fn start(client: &Client) -> Self {
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let (log, docker) = (seen.clone(), client.docker.clone());
        tokio::spawn(async move {
            let filters = [("type".to_owned(), vec!["container".to_owned()])];
            let mut events = Box::pin(docker.events(Some(EventsOptions { filters: Some(filters.into()), ..Default::default() })));
            while let Some(event) = events.try_next().await.unwrap() {
                let name = event.actor.and_then(|actor| actor.attributes?.remove("name")).unwrap_or_default();
                log.lock().unwrap().push((Instant::now(), event.action.unwrap_or_default(), name));
            }
        });
        Self(seen)
    }

    /// When that had happened to so many containers whose name begins so.
    async fn until(&self, since: Instant, action: &str, name: &str, count: usize) -> Instant {
        until(&format!("{count} × {action} of {name}"), PATIENCE, || async {
            let log = self.0.lock().unwrap();
            log.iter().filter(|(at, what, whom)| *at >= since && what == action && whom.starts_with(name)).nth(count - 1).map(|(at, ..)| *at)
        })
        .await
    }
}

/// What all contenders share.
struct Arena {
    sandbox: Sandbox,
    recorder: Recorder,
    watch: Watch,
    home: Home,
    objects: usize,
}

/// The races, in the order of a round.
struct Races {
    create: Race,
    change: Race,
    kill: Race,
    remove: Race,
    delete: Race,
    unchanged: Race,
}

/// Measures, and gives the version of the engine and the table.
pub async fn measure(objects: usize, rounds: usize) -> (String, String) {
    let sandbox = Sandbox::new().await;
    let version = sandbox.client.docker.version().await.unwrap().version.unwrap_or_default();
    let socket = docker_host();
    let recorder = Recorder::start(Path::new(socket.trim_start_matches("unix://"))).unwrap();
    let docker = connect(Some(&recorder.host())).await.unwrap().docker;
    let ports = format!("{PORTS}-{}", PORTS + u16::try_from(objects).unwrap() * 2);
    // Addresses of its own for each run, so that what a killed one left is not in the way.
    let subnet = |block: u8| format!("10.{}.{block}.0/20", 64 + std::process::id() % 128);
    let run = ["--port-range", &ports, "--network-pool", &subnet(0), "--tombstone", "1s"];
    let home = Home::new(&sandbox.installation, &recorder.host(), &run);
    let watch = Watch::start(&sandbox.client);
    let arena = Arena { sandbox, recorder, watch, home, objects };
    let operator = arena.home.start(&["--resync", "1h"]);
    // Warms all up, and shows what a container of the operator is like.
    arena.declare("warm", 1).await;
    let pattern = arena.inspect(&arena.name("warm", 0)).await;
    arena.delete("warm", 1).await;
    let in_flight = (2 * std::thread::available_parallelism().map_or(2, usize::from)).min(8);
    let prefix = arena.sandbox.foreign("floor");
    let floor = Arc::new(Floor::like(docker, prefix, subnet(64), FLOOR_PORTS, in_flight, &pattern));
    let compose = compose::version().map(|version| {
        let compose = Compose::new(arena.sandbox.foreign("compose"), arena.recorder.host(), COMPOSE_PORTS, subnet(80));
        (version, compose)
    });
    let mut races = Races {
        create: Race { beats_compose: true, ..Race::new(format!("converge {objects} new containers"), 1.05) },
        change: Race::new(format!("one of {objects} changed"), 1.1),
        kill: Race { tail: Some(1.25), ..Race::new("heal after kill -9", 1.08) },
        remove: Race::new("heal after rm -f", 1.08),
        delete: Race::new(format!("delete {objects}"), 1.05),
        unchanged: Race::default(),
    };
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        arena.floor(&floor, &mut races).await;
        arena.operator(&format!("team{round}"), &mut races).await;
        if let Some((_, compose)) = &compose {
            arena.compose(compose, &mut races).await;
        }
    }
    operator.stop();
    let mut figures = vec![unchanged(&races.unchanged)];
    arena.resident(&mut figures).await;
    let compose = compose.map_or("`docker compose` is not installed here".to_owned(), |(version, _)| format!("`docker compose` {version}"));
    let heading = format!(
        "## On Docker {version}\n\n{objects} containers, {rounds} rounds, {in_flight} calls in flight, {} cores; {compose}.",
        std::thread::available_parallelism().map_or(0, usize::from)
    );
    let Races { create, change, kill, remove, delete, .. } = races;
    (version, of_engine(&heading, &[create, delete, change, kill, remove], &figures))
}

impl Arena {
    fn name(&self, namespace: &str, number: usize) -> String {
        format!("{}-ws-{namespace}.w{number}", self.sandbox.installation)
    }

    async fn inspect(&self, name: &str) -> bollard::models::ContainerInspectResponse {
        self.sandbox.client.docker.inspect_container(name, None::<InspectContainerOptions>).await.unwrap()
    }

    fn spec(number: usize, greeting: &str) -> String {
        format!(
            "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: w{number}, labels: {{a: \"1\", b: \"2\", c: \"3\", d: \"4\"}}}}\nspec:\n  image: {IMAGE}\n  \
             command: [sleep, \"1000000\"]\n  env: [{{name: GREETING, value: {greeting}}}]\n  ports: [{{name: http, container: 8080, publish: Pool}}]\n  \
             resources: {{cpu: \"0.5\", memory: 64m}}\n"
        )
    }

    /// Waits until nobody has called the engine for a while.
    async fn quiet(&self) {
        until("quiet", PATIENCE, || async {
            let last = self.recorder.log().last().map(|(at, _)| *at);
            last.is_none_or(|last| last.elapsed() > Duration::from_millis(1500)).then_some(())
        })
        .await;
    }

    /// The first call since then that changes something.
    fn first(&self, since: Instant) -> Instant {
        self.recorder.log().into_iter().find(|(at, call)| *at >= since && !call.starts_with("GET ")).unwrap().0
    }

    /// Declares new workspaces at once; gives when, and when the last of them ran.
    async fn declare(&self, namespace: &str, count: usize) -> (Instant, Instant) {
        let aside = self.home.path("aside");
        std::fs::create_dir(&aside).unwrap();
        for number in 0..count {
            std::fs::write(aside.join(format!("w{number}.yaml")), Self::spec(number, "a")).unwrap();
        }
        let begun = Instant::now();
        std::fs::rename(aside, self.home.path(&format!("specs/{namespace}"))).unwrap();
        let end = self.watch.until(begun, "start", &self.name(namespace, 0).replace(".w0", ".w"), count).await;
        self.quiet().await;
        (begun, end)
    }

    /// Deletes them, and says when, and when the last was gone.
    async fn delete(&self, namespace: &str, count: usize) -> (Instant, Instant) {
        let names: Vec<String> = (0..count).map(|number| format!("w{number}")).collect();
        let begun = Instant::now();
        let words: Vec<&str> = ["delete", "-n", namespace].into_iter().chain(names.iter().map(String::as_str)).collect();
        assert!(self.home.succeeds(&words), "{}", self.home.log());
        let end = self.watch.until(begun, "destroy", &self.name(namespace, 0).replace(".w0", ".w"), count).await;
        self.quiet().await;
        (begun, end)
    }

    /// Kills some, then removes others; gives how long it took until each ran again.
    async fn harm(&self, name: impl Fn(usize) -> String, kill: &mut Vec<f64>, remove: &mut Vec<f64>) {
        for number in 0..HEALS.min(self.objects / 2) {
            let process = self.inspect(&name(number)).await.state.and_then(|state| state.pid).unwrap();
            let begun = Instant::now();
            kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), Signal::KILL).unwrap();
            kill.push(ms(self.watch.until(begun, "start", &name(number), 1).await - begun));
            self.quiet().await;
            let other = name(number + self.objects / 2);
            let begun = Instant::now();
            let options = RemoveContainerOptions { force: true, v: true, ..Default::default() };
            self.sandbox.client.docker.remove_container(&other, Some(options)).await.unwrap();
            remove.push(ms(self.watch.until(begun, "start", &other, 1).await - begun));
            self.quiet().await;
        }
    }

    async fn floor(&self, floor: &Arc<Floor>, races: &mut Races) {
        let begun = Instant::now();
        floor.create(self.objects).await;
        races.create.floor.push(ms(begun.elapsed()));
        self.quiet().await;
        for _ in 0..HEALS {
            let begun = Instant::now();
            floor.list().await;
            races.unchanged.floor.push(ms(begun.elapsed()));
        }
        let begun = Instant::now();
        floor.replace(0).await;
        races.change.floor.push(ms(begun.elapsed()));
        floor.replaced(0).await;
        let healer = tokio::spawn({
            let floor = floor.clone();
            async move { floor.heal().await }
        });
        self.quiet().await;
        self.harm(|number| floor.name(number), &mut races.kill.floor, &mut races.remove.floor).await;
        healer.abort();
        let begun = Instant::now();
        floor.delete(self.objects).await;
        races.delete.floor.push(ms(begun.elapsed()));
        self.quiet().await;
    }

    async fn operator(&self, namespace: &str, races: &mut Races) {
        let mut note = |race: fn(&mut Races) -> &mut Race, begun: Instant, end: Instant| {
            let race = race(races);
            race.ours.push(ms(end - self.first(begun)));
            race.whole.push(ms(end - begun));
        };
        let (begun, end) = self.declare(namespace, self.objects).await;
        note(|races| &mut races.create, begun, end);
        let begun = Instant::now();
        let aside = self.home.path("aside");
        std::fs::write(&aside, Self::spec(0, "b")).unwrap();
        std::fs::rename(aside, self.home.path(&format!("specs/{namespace}/w0.yaml"))).unwrap();
        let name = self.name(namespace, 0);
        // The one that was replaced goes when the other has run for a while.
        let end = self.watch.until(begun, "start", &name, 1).await;
        self.watch.until(begun, "destroy", &name, 1).await;
        self.quiet().await;
        note(|races| &mut races.change, begun, end);
        let (mut killed, mut removed) = (Vec::new(), Vec::new());
        self.harm(|number| self.name(namespace, number), &mut killed, &mut removed).await;
        let unchanged = (0..HEALS).map(|_| {
            let begun = Instant::now();
            assert!(self.home.succeeds(&["plan"]), "there is nothing to do");
            ms(begun.elapsed())
        });
        let unchanged: Vec<f64> = unchanged.collect();
        let (begun, end) = self.delete(namespace, self.objects).await;
        note(|races| &mut races.delete, begun, end);
        races.kill.ours.extend(killed);
        races.remove.ours.extend(removed);
        races.unchanged.ours.extend(unchanged);
    }

    async fn compose(&self, compose: &Compose, races: &mut Races) {
        compose.write(self.objects, false);
        races.create.compose.push(ms(compose.up()));
        races.unchanged.compose.push(ms(compose.up()));
        compose.write(self.objects, true);
        races.change.compose.push(ms(compose.up()));
        races.delete.compose.push(ms(compose.down()));
        self.quiet().await;
    }

    /// What an operator costs that has nothing to do.
    async fn resident(&self, figures: &mut Vec<Figure>) {
        let operator = self.home.start(&["--resync", "1h"]);
        self.declare("rest", self.objects).await;
        operator.stop();
        // A start makes up for the statuses that were still to be written.
        let operator = self.home.start(&["--resync", "1h"]);
        operator.until_idle(STILL / 4);
        let before = operator.cpu();
        tokio::time::sleep(STILL).await;
        let still = (operator.cpu() - before).as_secs_f64() / STILL.as_secs_f64();
        operator.stop();
        let operator = self.home.start(&["--resync", RESYNC]);
        operator.until_idle(REST);
        let (calls, each) = self.passes(&operator).await;
        let mut counts = BTreeMap::<&str, usize>::new();
        calls.iter().for_each(|(_, call)| *counts.entry(call.as_str()).or_default() += 1);
        let told: Vec<String> = counts.iter().map(|(call, count)| format!("{count} × `{call}`")).collect();
        let lists: Vec<Instant> = calls.iter().filter(|(_, call)| call == LIST).map(|(at, _)| *at).collect();
        let is_of_a_pass = |at: &Instant| lists.iter().any(|list| at.duration_since(*list) < Duration::from_secs(1) && list.duration_since(*at) < BEFORE);
        let between: Vec<&str> = calls.iter().filter(|(at, _)| !is_of_a_pass(at)).map(|(_, call)| call.as_str()).collect();
        let inspects = calls.iter().filter(|(_, call)| call == "GET /containers/{id}/json").map(|(at, _)| lists.iter().filter(|list| *list < at).count());
        let inspecting = inspects.collect::<BTreeSet<_>>().len();
        let lists_each = counts.iter().filter(|(call, _)| !call.contains("{id}")).map(|(_, count)| *count).max().unwrap_or_default();
        let is = |good: bool| if good { "met" } else { "**missed**" };
        let objects = self.objects;
        figures.push(Figure {
            what: format!("nothing changed, resident, {objects} objects: calls in {PASSES} passes"),
            found: told.join(", "),
            budget: format!(
                "one list of each kind a pass: {}; no inspect: {}",
                is(lists_each <= PASSES),
                match inspecting {
                    0 => "met".to_owned(),
                    some => format!("**missed in {some} of {PASSES}**"),
                }
            ),
        });
        // A stream that is quiet for half a minute is asked for a sign of life: that is a deadline of its own.
        let alive = between.iter().all(|call| *call == "GET /_ping");
        figures.push(Figure {
            what: "the same: calls between the passes".to_owned(),
            found: if between.is_empty() { "none".to_owned() } else { between.join(", ") },
            budget: format!("none but a sign of life: {}", is(alive)),
        });
        let every = default_run().resync.0.as_secs_f64();
        let share = (still + each.as_secs_f64() / every) * 100.0;
        figures.push(Figure {
            what: format!("the same: share of a core, with a pass each {every} s, as by default"),
            found: format!("{share:.2} % ({:.0} ms a pass, {:.2} % between)", ms(each), still * 100.0),
            budget: met("≤ 0.1 %", share / 0.1),
        });
        let memory = operator.memory() as f64 / 1e6;
        figures.push(Figure { what: format!("memory with {objects} objects"), found: format!("{memory:.1} MB"), budget: "≤ 30 MB with 100".to_owned() });
        operator.stop();
        figures.push(self.sampling().await);
    }

    /// What it costs to see whether workspaces are idle.
    async fn sampling(&self) -> Figure {
        let specs = self.home.path("specs/rest");
        for number in 0..self.objects {
            let path = specs.join(format!("w{number}.yaml"));
            let text = std::fs::read_to_string(&path).unwrap();
            let with_timeout = text.replacen("spec:", &format!("spec:\n  idle: {{timeout: {IDLE}}}"), 1);
            assert_ne!(text, with_timeout);
            std::fs::write(path, with_timeout).unwrap();
        }
        let operator = self.home.start(&["--resync", "1h"]);
        // The first samples come with the start.
        operator.until_idle(REST);
        let (from, before) = (Instant::now(), operator.cpu());
        tokio::time::sleep(SAMPLE * SAMPLES).await;
        let (to, busy) = (Instant::now(), operator.cpu() - before);
        let is_sample = |(at, call): &(Instant, String)| (from..to).contains(at) && call == "GET /containers/{id}/json";
        let samples = self.recorder.log().iter().filter(|call| is_sample(call)).count();
        operator.stop();
        let each = ms(busy) / samples as f64;
        Figure {
            what: format!("{} workspaces with an idle timeout of {IDLE}: samples in {} s", self.objects, (SAMPLE * SAMPLES).as_secs()),
            found: format!("{samples}, {each:.1} ms of a core each"),
            budget: met(&format!("one in {} s", SAMPLE.as_secs()), samples as f64 / (self.objects * SAMPLES as usize) as f64),
        }
    }

    /// The calls of some passes over what is as declared, and the time of a core that each took.
    async fn passes(&self, operator: &Running) -> (Vec<(Instant, String)>, Duration) {
        let begun = Instant::now();
        let lists = || -> Vec<Instant> { self.recorder.log().into_iter().filter(|(at, call)| *at >= begun && call == LIST).map(|(at, _)| at).collect() };
        let pass = |number: usize| until("a pass", PATIENCE, move || async move { lists().get(number).copied() });
        let from = pass(0).await;
        let before = operator.cpu();
        let to = pass(PASSES).await;
        let each = (operator.cpu() - before) / u32::try_from(PASSES).unwrap();
        (self.recorder.log().into_iter().filter(|(at, _)| *at >= from && *at + BEFORE < to).collect(), each)
    }
}

/// The other lists of a pass may come so long before that of the containers.
const BEFORE: Duration = Duration::from_millis(100);
/// The call that lists containers.
const LIST: &str = "GET /containers/json";

fn unchanged(race: &Race) -> Figure {
    let found = median(&race.ours);
    let compose = if race.compose.is_empty() { String::new() } else { format!(", `docker compose up -d` {:.0} ms", median(&race.compose)) };
    Figure {
        what: "nothing changed, from the command line: `dockmaster plan`".to_owned(),
        found: format!("{found:.0} ms; one list {:.0} ms{compose}", median(&race.floor)),
        budget: met("≤ 20 ms", found / 20.0),
    }
}
