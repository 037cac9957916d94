//! No program that a test starts may keep the test waiting for ever: it is killed at its limit, and what waits for it goes on.

use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How long a state may take to come about, or a program to end, also on a host that is busy with something else.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// Kills the program when this lives longer than [`PATIENCE`].
pub struct Limit {
    _ended: mpsc::Sender<()>,
}

impl Limit {
    /// For a program that was started, and that is waited for or read from while this lives.
    pub fn of(child: &Child) -> Self {
        let pid = Pid::from_child(child);
        let (ended, end) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if end.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
                _ = kill_process(pid, Signal::KILL);
            }
        });
        Self { _ended: ended }
    }
}

/// Waits for a program to end; its code is missing when it had to be killed.
pub fn ended(child: &mut Child) -> ExitStatus {
    let _limit = Limit::of(child);
    child.wait().unwrap()
}

/// Waits for a program that was started with pipes, and gives what came from them.
pub fn finished(child: Child) -> Output {
    let _limit = Limit::of(&child);
    child.wait_with_output().unwrap()
}

/// Runs a program to its end.
pub trait Finish {
    /// What it printed and how it ended; fails loudly when it does not end in time.
    fn finish(&mut self) -> Output;
}

impl Finish for Command {
    fn finish(&mut self) -> Output {
        let output = finished(self.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap_or_else(|error| panic!("{self:?}: {error}")));
        assert!(output.status.code().is_some(), "{self:?} did not end: {}", String::from_utf8_lossy(&output.stderr));
        output
    }
}
