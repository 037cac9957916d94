//! Images: pulled from a registry of the test's own, with credentials, failures that pass, and tags that move.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use base64::Engine;
use rustix::process::{Pid, Signal, kill_process};

use crate::operator::{Operator, condition, message, reason};
use crate::support::import;

/// `user:pass`, the password as bcrypt.
const ACCOUNT: &str = "user:$2b$05$IDZnvPEv9AFTU2Iwru1WPe4.SIyMLFRpvUifbg7OfwXJlVqGtPpCC\n";

/// Debian's registry on the loopback, which only lets `user` with `pass` in.
struct Registry {
    child: Child,
    /// Its host and port.
    host: String,
    /// Folders of Docker's configuration: with the password, and with a wrong one.
    right: PathBuf,
    wrong: PathBuf,
    _home: tempfile::TempDir,
}

impl Registry {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        // The port may be taken meanwhile, which the wait below finds out.
        let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        std::fs::write(path("accounts"), ACCOUNT).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\"}}\nauth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            path("data").display(),
            path("accounts").display()
        );
        std::fs::write(path("config.yml"), config).unwrap();
        let child = Command::new("docker-registry").arg("serve").arg(path("config.yml")).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let child = child.expect("docker-registry is needed: apt-get install docker-registry");
        let registry = Self { child, right: path("right"), wrong: path("wrong"), _home: home, host };
        registry.login(&registry.right, "pass");
        registry.login(&registry.wrong, "guess");
        registry
    }

    /// Writes the configuration that `docker login` would write.
    fn login(&self, folder: &Path, password: &str) {
        let auth = base64::engine::general_purpose::STANDARD.encode(format!("user:{password}"));
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(folder.join("config.json"), serde_json::json!({"auths": {&self.host: {"auth": auth}}}).to_string()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Makes an image that says so in a label, and pushes it; it is not on the engine afterwards. Gives the id.
    async fn push(&self, operator: &Operator, reference: &str, label: &str) -> String {
        let id = import(&operator.sandbox.client, reference, &[&format!("LABEL says={label}")]).await;
        let config = self.right.to_str().unwrap();
        operator.wait("the push", || operator.docker(&["--config", config, "push", reference]).contains("digest: ").then_some(()));
        operator.docker(&["rmi", reference]);
        id
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn workspace(image: &str, policy: &str) -> String {
    format!(
        "apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: shop}}\nspec:\n  image: {image}\n  pullPolicy: {policy}\n  stopGracePeriod: 1s\n  command: [sleep, \"1000000\"]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_with_the_usual_credentials_and_its_progress_told() {
    let registry = Registry::new();
    let operator = Operator::new().await;
    let image = format!("{}/{}/app:1", registry.host, operator.installation());
    let id = registry.push(&operator, &image, "one").await;
    let mut operator = operator.with_env("DOCKER_CONFIG", registry.right.to_str().unwrap());
    operator.write("alice/shop.yaml", &workspace(&image, "IfNotPresent"));
    operator.write("alice/never.yaml", &workspace(&image.replace("app:1", "none:1"), "Never").replace("shop", "never"));
    registry.signal(Signal::STOP);
    operator.start();
    let pulling = operator.until("alice", "shop", "the pull", |status| reason(status) == "Pulling");
    assert!(message(&pulling["status"], "Ready").contains(&format!("pulling {image}")), "{pulling:#}");
    assert_eq!((&pulling["status"]["phase"], condition(&pulling["status"], "Reconciling")), (&"Pending".into(), Some("True")));
    registry.signal(Signal::CONT);
    operator.until_ready("alice", "shop");
    let container = operator.container("alice", "shop", None);
    assert_eq!(operator.inspect(&container, "{{index .Config.Labels \"says\"}} {{.Image}}"), format!("one {id}"));
    let events = operator.ok(&["events", "-n", "alice"]);
    assert!(events.contains("Pulling") && events.contains("Pulled"), "{events}");
    let never = operator.until("alice", "never", "a refusal to pull", |status| condition(status, "ImagePullFailed") == Some("True"));
    assert!(message(&never["status"], "ImagePullFailed").contains("pullPolicy is Never"), "{never:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_pull_backs_off_and_the_old_container_runs_on() {
    let registry = Registry::new();
    let operator = Operator::new().await;
    let image = format!("{}/{}/app:1", registry.host, operator.installation());
    registry.push(&operator, &image, "new").await;
    let mut operator = operator.with_env("DOCKER_CONFIG", registry.wrong.to_str().unwrap());
    operator.write("alice/shop.yaml", &workspace("IMAGE", "IfNotPresent"));
    operator.start();
    operator.until_ready("alice", "shop");
    let container = operator.container("alice", "shop", None);
    let before = operator.inspect(&container, "{{.Id}} {{.State.StartedAt}}");
    operator.edit("alice/shop.yaml", crate::support::IMAGE, &image);
    let failed = operator.until("alice", "shop", "the failure", |status| condition(status, "ImagePullFailed") == Some("True"));
    let told = message(&failed["status"], "ImagePullFailed");
    assert!(told.contains(&image) && told.len() > image.len() + 5, "{told}");
    assert_eq!((condition(&failed["status"], "Ready"), reason(&failed["status"])), (Some("False"), "ImagePullFailed"));
    let retry = operator.until("alice", "shop", "the next attempt", |status| status["next"]["action"] == "Retry");
    assert!(retry["status"]["next"]["at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    assert_eq!(operator.inspect(&container, "{{.Id}} {{.State.StartedAt}}"), before, "it runs on");
    // Somebody logs in.
    registry.login(&registry.wrong, "pass");
    let shop = operator.until_generation("alice", "shop", 2);
    assert_eq!(condition(&shop["status"], "ImagePullFailed"), None);
    assert_eq!(operator.inspect(&container, "{{index .Config.Labels \"says\"}}"), "new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_moves_is_shown_and_followed_only_where_that_is_asked_for() {
    let registry = Registry::new();
    let operator = Operator::new().await;
    let image = format!("{}/{}/app:1", registry.host, operator.installation());
    let old = registry.push(&operator, &image, "old").await;
    let mut operator = operator.with_env("DOCKER_CONFIG", registry.right.to_str().unwrap()).with(&["--resync", "2s"]);
    operator.write("alice/shop.yaml", &workspace(&image, "IfNotPresent"));
    operator.write("alice/follows.yaml", &workspace(&image, "Always").replace("shop", "follows"));
    operator.start();
    operator.until_ready("alice", "shop");
    operator.until_ready("alice", "follows");
    let [shop, follows] = ["shop", "follows"].map(|name| operator.container("alice", name, None));
    let image_of = |container: &str| operator.inspect(container, "{{.Image}}");
    assert_eq!([image_of(&shop), image_of(&follows)], [old.clone(), old.clone()]);

    // The registry has another by now; the engine does not know of it yet.
    let new = import(&operator.sandbox.client, &image, &["LABEL says=new"]).await;
    let config = registry.right.to_str().unwrap();
    assert!(operator.docker(&["--config", config, "push", &image]).contains("digest: "));
    operator.docker(&["tag", &old, &image]);
    let before = operator.inspect(&shop, "{{.Id}}");
    operator.ok(&["restart", "shop", "follows", "-n", "alice"]);
    operator.wait("the new image", || (image_of(&follows) == new).then_some(()));
    operator.until_ready("alice", "follows");
    assert_eq!(operator.containers(), [follows, shop.clone()], "nothing is left of the exchange");
    // That pull moved the tag on the engine, for its neighbour too, which is told and not touched.
    let outdated = operator.until("alice", "shop", "the outdated image", |status| condition(status, "ImageOutdated") == Some("True"));
    assert_eq!(condition(&outdated["status"], "Ready"), Some("True"));
    assert!(message(&outdated["status"], "ImageOutdated").contains(&image), "{outdated:#}");
    assert_eq!((operator.inspect(&shop, "{{.Id}}"), image_of(&shop)), (before, old));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_only_the_image_declares_is_warned_of_once() {
    let mut operator = Operator::new().await;
    let image = format!("{}/declares:1", operator.installation());
    import(&operator.sandbox.client, &image, &["VOLUME /var/lib/cache"]).await;
    let spec = |mounts: &str| {
        format!("apiVersion: dockmaster/v1\nkind: Workspace\nmetadata: {{name: shop}}\nspec:\n  image: {image}\n  command: [sleep, '100000']\n{mounts}")
    };
    operator.write("alice/shop.yaml", &spec(""));
    operator.start();
    operator.until_ready("alice", "shop");
    let told = |operator: &Operator| {
        let text = operator.ok(&["events", "workspace/shop", "-n", "alice", "-o", "json"]);
        let events: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let advice = "add `{volume: cache, path: /var/lib/cache}` to spec.mounts to keep it";
        let warns = |event: &&serde_json::Value| event["type"] == "Warning" && event["message"].as_str().unwrap().contains(advice);
        events.iter().filter(warns).map(|event| event["count"].as_u64().unwrap()).sum::<u64>()
    };
    operator.wait("the warning", || (told(&operator) == 1).then_some(()));
    let describe = |operator: &Operator| operator.ok(&["describe", "workspace/shop", "-n", "alice"]);
    assert!(describe(&operator).contains("\nWarning:      "), "{}", describe(&operator));
    assert_eq!(operator.stop(), 0);
    operator.start();
    operator.until_ready("alice", "shop");
    operator.write("alice/shop.yaml", &spec("  mounts: [{volume: cache, path: /var/lib/cache}]\n"));
    operator.until("alice", "shop", "the second generation", |status| status["observedGeneration"] == 2 && condition(status, "Ready") == Some("True"));
    operator.wait("the end of it", || (!describe(&operator).contains("\nWarning:      ")).then_some(()));
    assert_eq!(told(&operator), 1, "neither a restart nor another container that has none is told");
}
