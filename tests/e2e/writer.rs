//! One writer for each engine and installation, held by the engine itself.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::change::quiet;
use crate::operator::Operator;
use crate::support::limit::Finish;

/// A second operator of the same installation, with files and a state directory of its own.
struct Second {
    child: Child,
    log: std::path::PathBuf,
}

impl Second {
    fn start(operator: &Operator, state: &str) -> Self {
        let log = operator.home().join(format!("{state}.log"));
        let file = std::fs::File::create(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockmaster"));
        command.args(["run", "--settle", "1s", "--docker-host", operator.host(), "--installation", operator.installation(), "--state-dir"]);
        command.arg(operator.home().join(state)).arg("--specs").arg(operator.specs()).current_dir(operator.home());
        let child = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Self { child, log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_operator_waits_says_for_whom_and_takes_over() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", &quiet("shop", ""));
    operator.start();
    operator.until_ready("alice", "shop");
    let shop = operator.container("alice", "shop", None);
    let second = Second::start(&operator, "state2");
    operator.wait("the second to wait", || second.log().contains("another operator has this engine").then_some(()));
    let (pid, log) = (format!("process {} on host", operator.pid()), second.log());
    assert!(log.contains(&pid) && log.contains(&operator.state().display().to_string()), "{log}");
    // It changes nothing while it waits: what is killed is healed once, by the first.
    let lock = operator.inspect(&format!("{}-lock", operator.installation()), "{{.Id}}");
    operator.kill();
    let killed = Instant::now();
    operator.wait("the second to take over", || second.log().contains("the operator runs").then_some(()));
    assert!(killed.elapsed() < Duration::from_secs(10), "{:?}", killed.elapsed());
    assert_ne!(operator.inspect(&format!("{}-lock", operator.installation()), "{{.Id}}"), lock);
    let same = operator.inspect(&shop, "{{.Id}}");
    operator.docker(&["kill", &shop]);
    operator.wait("the second to heal", || (operator.inspect(&shop, "{{.State.Running}}") == "true").then_some(()));
    assert_eq!(operator.inspect(&shop, "{{.Id}}"), same, "it knows the container by its labels");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_state_directory_has_one_operator() {
    let mut operator = Operator::new().await;
    operator.start();
    operator.wait("it to run", || operator.log().contains("the operator runs").then_some(()));
    let output = operator.verb(&["run", "--specs", operator.specs().to_str().unwrap(), "--docker-host", operator.host()]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&operator.state().display().to_string()) && said.contains(&operator.pid().to_string()), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_lock_an_operator_changes_nothing_more() {
    let mut operator = Operator::new().await;
    operator.write("alice/shop.yaml", &quiet("shop", ""));
    operator.start();
    operator.until_ready("alice", "shop");
    operator.docker(&["rm", "-f", &format!("{}-lock", operator.installation())]);
    assert_eq!(operator.ended(), 1);
    assert!(operator.log().contains("the lock on the engine was lost"), "{}", operator.log());
    assert_eq!(operator.inspect(&operator.container("alice", "shop", None), "{{.State.Running}}"), "true");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_to_the_end_waits_no_longer_than_it_was_told() {
    let mut operator = Operator::new().await;
    operator.start();
    operator.wait("it to run", || operator.log().contains("the operator runs").then_some(()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_dockmaster"));
    command.args(["run", "--once", "--timeout", "1s", "--docker-host", operator.host(), "--installation", operator.installation(), "--state-dir"]);
    let output = command.arg(operator.home().join("state2")).arg("--specs").arg(operator.specs()).finish();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("another operator still has this engine"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_is_of_one_installation() {
    let operator = Operator::new().await;
    operator.write("alice/shop.yaml", &quiet("shop", ""));
    assert_eq!(operator.once(), 0, "{}", operator.log());
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dockmaster"));
        command.args(["run", "--once", "--docker-host", operator.host(), "--state-dir"]).arg(operator.state());
        command.args(arguments).arg("--specs").arg(operator.specs()).finish()
    };
    let output = run(&["--installation", "another"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("belongs to installation {}, not another", operator.installation())), "{said}");
    let containers = operator.containers();
    let output = run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(operator.containers(), containers, "without a word it goes on as what it was");
}
