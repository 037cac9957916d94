//! The operator killed at random points during a change of ten workspaces, again and again: it always ends right. And killed while it writes a
//! status: the file is as it was or as it should be, and nobody's edit is lost.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::change::quiet;
use crate::operator::{Operator, condition, sleeper};
use crate::watch::Watch;

const WORKSPACES: usize = 10;
const ROUNDS: usize = 4;

/// All ten are ready with that image, nothing half done is left, and nothing is under way.
fn is_right(operator: &Operator, (image, id): &(String, String)) -> bool {
    let all = operator.verb(&["get", "workspaces", "-n", "alice", "-o", "json"]).stdout;
    let all: serde_json::Value = serde_json::from_slice(&all).unwrap_or_default();
    let ready = |object: &serde_json::Value| {
        let status = &object["status"];
        condition(status, "Ready") == Some("True")
            && condition(status, "Reconciling").is_none()
            && status["observedGeneration"] == object["metadata"]["generation"]
            && object["spec"]["image"] == image.as_str()
    };
    let filter = format!("label=dockmaster.installation={}", operator.installation());
    let seen = operator.docker(&["ps", "-a", "--filter", &filter, "--format", "{{.Names}} {{.Image}} {{.State}}", "--no-trunc"]);
    let mut seen: Vec<&str> = seen.lines().filter(|line| !line.contains("-lock ")).collect();
    seen.sort_unstable();
    let wanted: Vec<String> = (0..WORKSPACES).map(|n| format!("{} {id} running", operator.container("alice", &format!("w{n}"), None))).collect();
    all["items"].as_array().is_some_and(|all| all.len() == WORKSPACES && all.iter().all(ready)) && seen == wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_point_of_a_change_it_ends_right() {
    let seed: u64 = std::env::var("DOCKMASTER_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("DOCKMASTER_TEST_SEED={seed} repeats this");
    let mut random = StdRng::seed_from_u64(seed);
    let mut operator = Operator::new().await;
    let mut images = Vec::new();
    for version in ["1", "2"] {
        let name = format!("{}:{version}", operator.sandbox.foreign("image"));
        let id = crate::support::import(&operator.sandbox.client, &name, &[&format!("LABEL version={version}")]).await;
        images.push((name, id));
    }
    for n in 0..WORKSPACES {
        let spec = quiet(&format!("w{n}"), "  mounts: [{volume: data, path: /data}]\n").replace("IMAGE", &images[0].0);
        operator.write(&format!("alice/w{n}.yaml"), &spec);
    }
    let watch = Watch::start(&operator);
    operator.start();
    operator.wait("all to be ready", || is_right(&operator, &images[0]).then_some(()));
    for n in 0..WORKSPACES {
        let written = format!("echo {n} > /data/file");
        operator.docker(&["exec", &operator.container("alice", &format!("w{n}"), None), "sh", "-c", &written]);
    }
    for round in 0..ROUNDS {
        let (from, to) = (&images[round % 2], &images[(round + 1) % 2]);
        for n in 0..WORKSPACES {
            operator.edit(&format!("alice/w{n}.yaml"), &from.0, &to.0);
        }
        for _ in 0..random.random_range(1..=3) {
            let after = Duration::from_millis(random.random_range(20..6000));
            let killed = Instant::now() + after;
            operator.wait("the instant of the kill", || (Instant::now() >= killed).then_some(()));
            operator.kill();
            println!("round {round}: killed after {after:?} with {:?}", operator.containers());
            operator.start();
        }
        operator.wait("all to be right again", || is_right(&operator, to).then_some(()));
        for n in 0..WORKSPACES {
            let container = operator.container("alice", &format!("w{n}"), None);
            assert_eq!(operator.docker(&["exec", &container, "cat", "/data/file"]), n.to_string(), "seed {seed}, round {round}");
        }
        assert_eq!(watch.doubles(), [""; 0], "seed {seed}, round {round}");
    }
    assert_eq!(operator.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_while_it_writes_a_status_it_loses_nothing() {
    let operator = Operator::new().await;
    operator.write("alice/shop.yaml", &format!("# mine\n{}", sleeper("shop", "")));
    let (directory, file) = (operator.specs().join("alice"), operator.specs().join("alice/shop.yaml"));
    let original = operator.read("alice/shop.yaml");
    let killed = |path: &std::path::Path, call: &str| {
        let (trace, kill) = (format!("-etrace={call}"), format!("-einject={call}:signal=KILL:when=1"));
        let status = operator.once_under("strace", &["-fqq", "-o/dev/null", "-P", path.to_str().unwrap(), &trace, &kill]);
        assert_eq!(status.signal(), Some(9), "{call}: {}", operator.log());
    };
    let names = || fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();

    // As it is about to put the new content in place.
    killed(&file, "renameat2");
    assert_eq!(operator.read("alice/shop.yaml"), original);
    assert_eq!(names().len(), 2, "{:?}", names());

    // Right after that, while somebody has the file open, who writes into it when the operator is dead.
    let mut editor = fs::OpenOptions::new().append(true).open(&file).unwrap();
    killed(&directory, "fsync");
    let written = operator.read("alice/shop.yaml");
    assert!(written.starts_with(&original) && written.contains("status:"), "{written}");
    editor.write_all(b"# edited\n").unwrap();

    // The next one starts at once.
    assert_eq!(operator.once(), 0, "{}", operator.log());
    let text = operator.read("alice/shop.yaml");
    assert!(text.starts_with("# mine\n") && text.contains("# edited\n") && text.contains("phase: Running"), "{text}");
    assert_eq!(names(), ["shop.yaml"]);
}
