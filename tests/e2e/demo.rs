//! The demo, the examples and what the README files say, as a stranger meets them: every command they print is run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::operator::{Operator, condition, reason};
use crate::support::limit::{Finish, ended};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Copies a folder of the repository into the operator's home, below the same path.
fn copy(operator: &Operator, path: &str) {
    let target = operator.home().join(path);
    std::fs::create_dir_all(target.parent().unwrap()).unwrap();
    let copied = Command::new("cp").arg("-r").arg(repository().join(path)).arg(&target).status().unwrap();
    assert!(copied.success());
}

/// The lines of all fenced blocks of a language.
fn fenced(text: &str, language: &str) -> Vec<String> {
    let mut lines = text.lines();
    let mut found = Vec::new();
    while let Some(line) = lines.next() {
        if line.strip_prefix("```") == Some(language) {
            found.extend(lines.by_ref().take_while(|line| *line != "```").map(str::to_owned));
        }
    }
    assert!(!found.is_empty(), "no block of {language}");
    found
}

/// Runs a line to its end; it must succeed. `plan` may also say that there are changes.
fn type_in(operator: &Operator, line: &str) -> String {
    let output = operator.shell(line).finish();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let code = output.status.code();
    assert!(code == Some(0) || (code == Some(2) && line.starts_with("dockmaster plan")), "{line}: {code:?}\n{said}\n{}", operator.log());
    said
}

/// All workspaces and previews have come to rest: ready, or waiting for what only a person can give.
fn settled(operator: &Operator) {
    operator.wait("all to be settled", || {
        let output = operator.verb(&["get", "all", "-A", "-o", "json"]);
        let objects: Value = serde_json::from_slice(&output.stdout).ok()?;
        let items = objects["items"].as_array().cloned().unwrap_or_else(|| vec![objects]);
        let done = |object: &Value| condition(&object["status"], "Ready") == Some("True") || reason(&object["status"]) == "QuotaExceeded";
        (!items.is_empty() && items.iter().all(done)).then_some(())
    });
}

/// A copy of an example, run as its README says: every line, in order. Gives what each line printed.
async fn story(name: &str) -> (Operator, Vec<(String, String)>) {
    let mut operator = Operator::new().await;
    let folder = format!("examples/{name}");
    copy(&operator, &folder);
    let readme = std::fs::read_to_string(repository().join(&folder).join("README.md")).unwrap();
    let mut said = Vec::new();
    for line in fenced(&readme, "sh") {
        if line.starts_with("dockmaster run") {
            operator.start_by(&line);
            settled(&operator);
        } else {
            let output = type_in(&operator, &line);
            said.push((line, output));
        }
    }
    (operator, said)
}

/// What a workspace's URL answers.
fn page(operator: &Operator, namespace: &str, name: &str) -> String {
    let url = operator.until_ready(namespace, name)["status"]["url"].as_str().unwrap().to_owned();
    operator.wait(&format!("{url} to answer"), || operator.http(&url))
}

/// The path of a file of an example, as the harness's edits take it.
fn file(name: &str, path: &str) -> String {
    format!("../examples/{name}/{path}")
}

// --- the demo ---

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_converges_follows_an_edit_and_cleans_up() {
    let mut operator = Operator::new().await;
    for folder in ["alice", "bob", "tenants.yaml"] {
        copy(&operator, &format!("specs/{folder}"));
    }
    operator.start();
    settled(&operator);
    assert!(page(&operator, "alice", "shop").contains("<h1>The shop</h1>"));
    assert!(page(&operator, "alice", "site").contains("<h1>Alice"));
    assert!(page(&operator, "bob", "notes").contains("<h1>"));
    type_in(&operator, "dockmaster exec shop -n alice -- /dockmaster helper probe tcp:catalog:9000");

    let url = operator.until_ready("alice", "site")["status"]["url"].clone();
    operator.edit("alice/site.yaml", "  type: static", "  type: static\n  env: [{name: MOOD, value: sunny}]");
    let container = operator.container("alice", "site", None);
    operator.wait("the edit to be in force", || operator.inspect(&container, "{{.Config.Env}}").contains("MOOD=sunny").then_some(()));
    assert_eq!(operator.until_ready("alice", "site")["status"]["url"], url, "the port stays");
    assert!(page(&operator, "alice", "site").contains("<h1>Alice"));

    operator.remove("bob/notes.yaml");
    operator.wait("bob's container and network to go", || {
        let networks = operator.docker(&["network", "ls", "--format", "{{.Name}}"]);
        let gone = !operator.containers().iter().any(|name| name.contains("bob")) && !networks.contains(&format!("{}-ns-bob", operator.installation()));
        gone.then_some(())
    });
    assert!(operator.docker(&["volume", "ls", "-q"]).contains(&format!("{}-vol-bob.notes.notes", operator.installation())), "its data is kept");
}

// --- the examples ---

#[tokio::test(flavor = "multi_thread")]
async fn a_first_workspace() {
    let (operator, _) = story("first-workspace").await;
    assert!(page(&operator, "default", "site").contains("A first workspace"));
    let url = operator.until_ready("default", "site")["status"]["url"].as_str().unwrap().to_owned();
    assert!(type_in(&operator, "dockmaster get workspaces").contains(&url));
    let path = file("first-workspace", "site.yaml");
    operator.wait("the URL in the file", || operator.read(&path).contains(&format!("url: {url}")).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_documents_in_one_file() {
    let (operator, _) = story("multi-document").await;
    assert!(page(&operator, "default", "red").contains("<h1>Red</h1>"));
    let blue = operator.until("default", "blue", "blue to rest", |status| reason(status) == "Stopped");
    assert_eq!(blue["status"]["phase"], "Stopped");
    let path = file("multi-document", "both.yaml");
    operator.wait("both statuses", || (operator.read(&path).matches("\nstatus:").count() == 2).then_some(()));
    // Without the two blocks the file is what it was.
    let mut inside = false;
    let rest: String = operator
        .read(&path)
        .lines()
        .filter(|line| {
            inside = *line == "status:" || (inside && line.starts_with([' ', '-']) && *line != "---");
            !inside
        })
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(rest, std::fs::read_to_string(repository().join("examples/multi-document/both.yaml")).unwrap());
    // A mistake in one does not touch the other.
    operator.edit(&path, "state: Stopped", "state: Blue");
    operator.edit(&path, "  type: static\n  mounts:\n    - {host: ./red", "  type: static\n  env: [{name: SHADE, value: dark}]\n  mounts:\n    - {host: ./red");
    let container = operator.container("default", "red", None);
    operator.wait("red to change", || operator.inspect(&container, "{{.Config.Env}}").contains("SHADE=dark").then_some(()));
    assert!(type_in(&operator, "dockmaster events -A").contains("SourceInvalid"));
    assert!(operator.get("workspace", "default", "blue").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn services_and_volumes() {
    let (operator, said) = story("services-and-volumes").await;
    assert!(said.iter().any(|(line, _)| line.contains("tcp:backend:9000")));
    assert!(page(&operator, "default", "shop").contains("Services and volumes"));
    let started = |service| operator.inspect(&operator.container("default", "shop", service), "{{.State.StartedAt}}");
    assert!(started(Some("backend")) < started(None), "main comes last");
    let volumes = operator.docker(&["volume", "ls", "-q", "--filter", &format!("label=dockmaster.installation={}", operator.installation())]);
    assert_eq!(volumes.lines().count(), 2, "{volumes}");
    let service = operator.container("default", "shop", Some("backend"));
    let data = || operator.inspect(&service, "{{range .Mounts}}{{.Name}}{{end}}");
    let (volume, id) = (data(), operator.inspect(&service, "{{.Id}}"));
    operator.edit(&file("services-and-volumes", "shop.yaml"), "interval: 2s", "interval: 3s");
    operator.wait("another container", || (!operator.inspect(&service, "{{.Id}}").contains(&id) && data() == volume).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_of_ones_own() {
    let (operator, said) = story("custom-type").await;
    assert!(page(&operator, "default", "handbook").contains("The handbook"));
    let (_, resolved) = &said[0];
    assert!(resolved.contains("TEAM") && resolved.contains("page") && resolved.contains("64m"), "{resolved}");
    assert!(operator.inspect(&operator.container("default", "handbook", None), "{{.Config.Env}}").contains("TEAM=docs"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_a_quota() {
    let (operator, said) = story("tenant-quota").await;
    assert!(said[0].1.contains("QuotaExceeded") && said[0].1.contains("maxWorkspaces of alice is 2"), "{}", said[0].1);
    let third = operator.get("workspace", "alice", "third").unwrap();
    assert_eq!(third["status"]["phase"], "Pending");
    assert_eq!(operator.containers().len(), 2);
    assert_eq!(operator.inspect(&operator.container("alice", "first", None), "{{.HostConfig.NanoCpus}}"), "500000000");
    operator.remove(&file("tenant-quota", "alice/first.yaml"));
    operator.until_ready("alice", "third");
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_timeout_and_running_hours() {
    let (operator, said) = story("idle-and-hours").await;
    let by = |command: &str| said.iter().find(|(line, _)| line.starts_with(command)).map(|(_, output)| output.clone()).unwrap();
    assert!(by("dockmaster get").contains("Stop in"), "{}", by("dockmaster get"));
    // That Saturday both are stopped: the one has idled, the other is out of hours.
    let plan = by("dockmaster plan --at");
    assert!(plan.contains("workspace/lab") && plan.contains("workspace/office") && plan.contains("Stop"), "{plan}");
    // The same with a shorter time.
    let lab = operator.until_ready("default", "lab");
    operator.edit(&file("idle-and-hours", "lab.yaml"), "timeout: 10m", "timeout: 3s");
    let stopped = operator.until("default", "lab", "it to idle", |status| reason(status) == "Idle");
    assert_eq!(stopped["status"]["phase"], "Stopped");
    operator.edit(&file("idle-and-hours", "lab.yaml"), "timeout: 3s", "timeout: 10m");
    type_in(&operator, "dockmaster start lab");
    let running = operator.until("default", "lab", "it to run again", |status| reason(status) == "Running");
    assert_eq!(running["status"]["url"], lab["status"]["url"], "the port stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_that_expires() {
    let (operator, _) = story("expiring-preview").await;
    let ready = |what: &str, holds: &dyn Fn(&Value) -> bool| operator.until_kind("preview", "default", "demo", what, holds);
    let preview = ready("the preview", &|status| status["phase"] == "Running" && condition(status, "Ready") == Some("True"));
    let url = preview["status"]["url"].as_str().unwrap().to_owned();
    assert!(operator.wait("the preview to answer", || operator.http(&url)).contains("<h1>The app</h1>"), "the volume was copied");
    let container = format!("{}-pv-default.demo", operator.installation());
    let id = operator.inspect(&container, "{{.Id}}");
    // Raising `ttl` extends it, and restarts nothing.
    let path = file("expiring-preview", "demo.yaml");
    operator.edit(&path, "ttl: 1h", "ttl: 2h");
    ready("the later end", &|status| status["expiresAt"] != preview["status"]["expiresAt"] && !status["expiresAt"].is_null());
    assert_eq!(operator.inspect(&container, "{{.Id}}"), id);
    // The hour passes, which is a second here.
    operator.edit(&path, "ttl: 2h", "ttl: 1s");
    ready("its end", &|status| status["phase"] == "Expired");
    operator.wait("container, copy and port to go", || {
        let copies =
            operator.docker(&["volume", "ls", "-q", "--filter", "label=dockmaster.kind=Preview", "--filter", &format!("name={}", operator.installation())]);
        let gone = !operator.containers().contains(&container) && copies.lines().all(|name| name.ends_with(".expired")) && operator.http(&url).is_none();
        gone.then_some(())
    });
    assert!(page(&operator, "default", "app").contains("<h1>The app</h1>"), "the source stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn specs_in_a_git_checkout() {
    let mut operator = Operator::new().await;
    let folder = "examples/adopting-a-git-checkout";
    copy(&operator, folder);
    let commit = "git init -q && git add . && git -c user.name=t -c user.email=t@t commit -qm specs";
    type_in(&operator, &format!("cd {folder} && {commit}"));
    for line in fenced(&operator.read(&file("adopting-a-git-checkout", "README.md")), "sh") {
        if line.starts_with("dockmaster run") {
            operator.start_by(&line);
            settled(&operator);
        } else {
            assert_eq!(type_in(&operator, &line), "", "git has something to say");
        }
    }
    assert!(page(&operator, "default", "docs").contains("The docs"));
    let sidecar = operator.home().join(folder).join("docs.yaml.status.yaml");
    operator.wait("the sidecar", || std::fs::read_to_string(&sidecar).ok().filter(|text| text.contains("phase: Running")));
    assert_eq!(type_in(&operator, &format!("git -C {folder} status --short")), "");
}

// --- the README and quickstart ---

/// `./quickstart` under way; asked to end with the test, so that the operator in its session ends too.
struct Quickstart {
    child: Child,
    output: PathBuf,
}

impl Quickstart {
    fn start(operator: &Operator, line: &str) -> Self {
        let output = operator.home().join("quickstart.log");
        let log = std::fs::File::create(&output).unwrap();
        let mut command = operator.shell(&format!("exec {line} --yes -- {}", operator.apart()));
        // The state directory is where the script puts it.
        command.env_remove("DOCKMASTER_STATE_DIR").stdin(Stdio::null());
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self { child, output }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }

    /// Waits for `Ready:`; the URLs below it.
    fn ready(&self, operator: &Operator) -> Vec<String> {
        let said = operator.wait("Ready:", || {
            let said = self.said();
            assert!(!said.contains("Not all workspaces are up"), "{said}");
            (said.contains("\nReady:\n") && said.contains("the containers stay")).then_some(said)
        });
        said.lines().filter_map(|line| line.strip_prefix("  http")).filter_map(|rest| rest.split_once("  ").map(|(url, _)| format!("http{url}"))).collect()
    }

    /// Ctrl-C; the exit code.
    fn interrupt(&mut self) -> Option<i32> {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::INT).unwrap();
        ended(&mut self.child).code()
    }
}

impl Drop for Quickstart {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.interrupt();
        }
    }
}

/// A clone: what quickstart and the README's lines need of the repository.
async fn clone() -> Operator {
    let operator = Operator::new().await;
    std::fs::copy(repository().join("quickstart"), operator.home().join("quickstart")).unwrap();
    std::fs::remove_dir(operator.specs()).unwrap();
    copy(&operator, "specs");
    operator
}

#[tokio::test(flavor = "multi_thread")]
async fn quickstart_brings_the_demo_up_and_leaves_it_running() {
    let operator = clone().await;
    let mut quickstart = Quickstart::start(&operator, "./quickstart");
    let urls = quickstart.ready(&operator);
    assert_eq!(urls.len(), 3, "{}", quickstart.said());
    for url in &urls {
        assert!(operator.wait(url, || operator.http(url)).contains("<h1>"));
    }
    let containers = operator.containers();
    let running = || containers.iter().map(|name| operator.inspect(name, "{{.Id}} {{.State.Running}}")).collect::<Vec<_>>();
    let before = running();
    assert_eq!(quickstart.interrupt(), Some(0), "{}", quickstart.said());
    assert!(before.len() == 4 && before.iter().all(|state| state.ends_with(" true")), "{before:?}");
    assert_eq!(running(), before, "the containers stay");
    // Once more finds all as it is.
    let mut again = Quickstart::start(&operator, "./quickstart");
    assert_eq!(again.ready(&operator), urls);
    assert_eq!(again.interrupt(), Some(0));
    assert_eq!(running(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn quickstart_says_what_is_not_up_and_what_is_wrong_with_its_arguments() {
    let operator = clone().await;
    copy(&operator, "examples/tenant-quota");
    let mut quickstart = Quickstart::start(&operator, "./quickstart examples/tenant-quota");
    let said = operator.wait("its words", || Some(quickstart.said()).filter(|said| said.contains("the containers stay")));
    assert!(said.contains("Not all workspaces are up") && said.contains("alice/third is not: QuotaExceeded"), "{said}");
    assert!(said.contains("(alice/first)"), "{said}");
    assert_eq!(quickstart.interrupt(), Some(0));
    let wrong = |line: &str, words: &str| {
        let output = operator.shell(line).finish();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(words), "{line}: {said}");
    };
    wrong("./quickstart --no", "unknown option --no");
    wrong("DOCKER_HOST=unix:///nowhere ./quickstart --yes", "No Docker engine answers at DOCKER_HOST=unix:///nowhere");
    // A Debian with Rust, and without a compiler.
    let bare = "mkdir bare; ln -s $(command -v dirname realpath) bare; install /dev/null bare/cargo; install /dev/null bare/apt-get";
    wrong(&format!("{bare}; DOCKMASTER_BIN= PATH=$PWD/bare ./quickstart"), "With --yes this would: install the packages gcc and libc6-dev");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_readme_works() {
    let operator = clone().await;
    let readme = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let mut quickstart = None;
    for line in fenced(&readme, "sh") {
        if line.starts_with("./quickstart") {
            let started = Quickstart::start(&operator, &line);
            started.ready(&operator);
            quickstart = Some(started);
        } else {
            // The state directory is found from where the reader stands.
            let output = operator.shell(&format!("unset DOCKMASTER_STATE_DIR; {line}")).finish();
            let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let fine = output.status.success() || (output.status.code() == Some(2) && line.starts_with("dockmaster plan"));
            assert!(fine, "{line}: {:?}\n{said}\n{}", output.status.code(), quickstart.as_ref().map(Quickstart::said).unwrap_or_default());
        }
    }
    assert_eq!(quickstart.unwrap().interrupt(), Some(0));
    let specs = fenced(&readme, "yaml").join("\n").replace("apiVersion:", "---\napiVersion:");
    std::fs::write(operator.home().join("readme.yaml"), specs).unwrap();
    assert!(type_in(&operator, "dockmaster validate readme.yaml").contains("0 errors"));
}

/// The relative links of a Markdown text.
fn links(text: &str) -> Vec<&str> {
    let all = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(link, _)| link);
    all.filter(|link| !link.contains("://")).map(|link| link.split('#').next().unwrap()).filter(|link| !link.is_empty()).collect()
}

#[test]
fn every_link_leads_somewhere_and_the_readme_names_every_example() {
    let read = |path: &Path| std::fs::read_to_string(repository().join(path)).unwrap();
    let below = |folder: &str| {
        let entries = std::fs::read_dir(repository().join(folder)).unwrap();
        entries.map(|entry| Path::new(folder).join(entry.unwrap().file_name())).collect::<Vec<_>>()
    };
    let examples = below("examples");
    let mut files: Vec<PathBuf> = below("docs").into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "md")).collect();
    files.extend(examples.iter().map(|example| example.join("README.md")));
    files.push(PathBuf::from("README.md"));
    for file in files {
        for link in links(&read(&file)) {
            let target = repository().join(&file).parent().unwrap().join(link);
            assert!(target.exists(), "{} leads to {link}, which is not there", file.display());
        }
    }
    let readme = read(Path::new("README.md"));
    assert!(links(&readme).len() > 15);
    examples.iter().for_each(|example| assert!(readme.contains(&format!("({})", example.display())), "README.md does not name {}", example.display()));
}
