//! A program that is killed at each of its system calls on the file and its directory, one after the other: `strace` kills it as it enters them.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use super::*;

const OLD: &str = "# mine\nspec: 1\n";
const EDITED: &str = "# edited\nspec: 2\n";
const LATE: &str = "late: yes\n";
const STATUS: &str = "status: done\n";

/// What is being done to the file when the program is killed.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// A status is written into it.
    Written,
    /// The same, and somebody saves in the instant before the exchange.
    Edited,
    /// The same, and somebody who had opened it before writes into it when the program is dead.
    Late,
    /// It is made.
    Made,
    /// It is removed.
    Removed,
}

/// A file, and what else there is beside it.
struct Desk {
    /// In the program itself the directory is its parent's.
    _owned: Option<tempfile::TempDir>,
    directory: PathBuf,
    path: PathBuf,
    way: Way,
}

impl Desk {
    fn new(way: Way) -> Self {
        let owned = tempfile::tempdir().unwrap();
        let directory = owned.path().canonicalize().unwrap();
        let path = directory.join("a.yaml");
        if way != Way::Made {
            fs::write(&path, OLD).unwrap();
        }
        fs::write(path.with_extension("mine"), EDITED).unwrap();
        Self { _owned: Some(owned), directory, path, way }
    }

    fn change(&self) -> impl FnMut(Option<&str>) -> Result<New, Infallible> + use<> {
        let way = self.way;
        move |text| {
            Ok(match text.unwrap_or_default() {
                _ if way == Way::Removed => New::Nothing,
                text if text.ends_with(STATUS) => New::Same,
                text => New::Text(format!("{text}{STATUS}")),
            })
        }
    }

    /// What the program does.
    fn work(&self) {
        let save = |step| {
            let mine = self.path.with_extension("mine");
            if self.way == Way::Edited && step == Step::Checked && mine.exists() {
                fs::rename(mine, &self.path).unwrap();
            }
        };
        if let Some(displaced) = replace_stepwise(&self.path, self.change(), &save).unwrap() {
            displaced.settle().unwrap();
        }
    }

    /// Runs the program with options of strace, which looks at its calls on these files alone.
    fn run(&self, options: &[String]) -> Output {
        let mut strace = Command::new("strace");
        strace.arg("-fqq").args(options).arg("-P").arg(&self.directory).arg("-P").arg(&self.path);
        let temporary = |old: &str, new: &str| Temp::beside(&self.path, old.as_bytes(), new.as_bytes()).unwrap().path.clone();
        let written = |old: &str| temporary(old, &format!("{old}{STATUS}"));
        for path in [written(OLD), written(EDITED), written(""), temporary(OLD, "")] {
            strace.arg("-P").arg(path);
        }
        strace.arg(std::env::current_exe().unwrap()).args(["--exact", "source::exchange::killed::killed_at_any_call_it_loses_nothing"]);
        strace.env("KILLED", format!("{:?} {}", self.way, self.path.display())).output().expect("strace is installed: apt-get install strace")
    }

    fn text(&self) -> Option<String> {
        fs::read_to_string(&self.path).ok()
    }

    /// What the next run finds and does.
    fn check(&self, at: &str, late: Option<File>) {
        let found = self.text();
        let is_one_of = |texts: &[&str]| texts.iter().any(|text| found.as_deref() == Some(text) || found == Some(format!("{text}{STATUS}")));
        let whole = match self.way {
            Way::Written | Way::Late => is_one_of(&[OLD]),
            Way::Edited => is_one_of(&[OLD, EDITED]),
            Way::Made => found.is_none() || found.as_deref() == Some(STATUS),
            Way::Removed => found.is_none() || found.as_deref() == Some(OLD),
        };
        assert!(whole, "{at}: {found:?}");
        // It may be written into as long as it is there under some name.
        let late = late.filter(|file| file.metadata().unwrap().nlink() > 0);
        if let Some(mut file) = late.as_ref() {
            file.write_all(LATE.as_bytes()).unwrap();
        }
        for entry in fs::read_dir(&self.directory).unwrap() {
            sweep(&self.directory, entry.unwrap().file_name().to_str().unwrap(), Duration::ZERO).unwrap();
        }
        let names = || fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert!(!names().any(|name| name.starts_with(PREFIX)), "{at}");
        let swept = self.text();
        let saved = self.way == Way::Edited && !self.path.with_extension("mine").exists();
        assert!(!saved || swept.as_ref().is_some_and(|text| text.starts_with(EDITED)), "{at}: the edit is lost: {swept:?}");
        assert!(late.is_none() || swept.as_ref().is_some_and(|text| text.contains(LATE)), "{at}: the late edit is lost: {swept:?}");
        // And the work is done in the end.
        self.work();
        let done = self.text();
        assert_eq!(done.is_none(), self.way == Way::Removed, "{at}");
        assert!(done.is_none_or(|text| text.ends_with(STATUS) && (!saved || text.starts_with(EDITED))), "{at}");
    }
}

#[test]
fn killed_at_any_call_it_loses_nothing() {
    const WAYS: [Way; 5] = [Way::Written, Way::Edited, Way::Late, Way::Made, Way::Removed];
    if let Ok(child) = std::env::var("KILLED") {
        let (way, path) = child.split_once(' ').unwrap();
        let way = WAYS.into_iter().find(|known| format!("{known:?}") == way).unwrap();
        let path = PathBuf::from(path);
        return Desk { _owned: None, directory: path.parent().unwrap().to_owned(), path, way }.work();
    }
    let all = |way| {
        let mut killed = 0;
        for call in calls(way) {
            // Until it ends by itself.
            for number in 1.. {
                let desk = Desk::new(way);
                let editor = (way == Way::Late).then(|| OpenOptions::new().append(true).open(&desk.path).unwrap());
                let output = desk.run(&["-o/dev/null".into(), format!("-etrace={call}"), format!("-einject={call}:signal=KILL:when={number}")]);
                let at = format!("{way:?}, at {call} {number}");
                desk.check(&at, editor);
                if output.status.success() {
                    break;
                }
                assert_eq!(output.status.signal(), Some(9), "{at}: {}", String::from_utf8_lossy(&output.stdout));
                killed += 1;
            }
        }
        assert!(killed >= 10, "{way:?}: only {killed} calls were seen");
    };
    std::thread::scope(|scope| WAYS.map(|way| scope.spawn(move || all(way))).map(|thread| thread.join().unwrap()));
}

/// The system calls of a run that is not killed, by name.
fn calls(way: Way) -> BTreeSet<String> {
    let desk = Desk::new(way);
    let log = tempfile::NamedTempFile::new().unwrap();
    let output = desk.run(&["-o".into(), log.path().display().to_string()]);
    assert!(output.status.success(), "{way:?}: {}", String::from_utf8_lossy(&output.stdout));
    desk.check("not killed", None);
    let text = fs::read_to_string(log.path()).unwrap();
    // Behind the number of the process.
    let names = text.lines().filter_map(|line| line.split_once('(')?.0.split(' ').next_back());
    // The editor's own is none of the program's.
    names.filter(|name| !(way == Way::Edited && *name == "rename")).map(str::to_owned).collect()
}
