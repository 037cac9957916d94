//! Crashes, and editors that save at the worst moment.

use std::convert::Infallible;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;
use crate::source::directory::walk::as_nobody;

fn set(text: &'static str) -> impl FnMut(Option<&str>) -> Result<New, Infallible> {
    move |_| Ok(New::Text(text.to_owned()))
}

fn leftovers(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(PREFIX)).collect()
}

fn sweep_all(directory: &Path) {
    for name in leftovers(directory) {
        assert!(sweep(directory, &name, Duration::ZERO).unwrap());
    }
    assert!(leftovers(directory).is_empty());
}

#[test]
fn content_is_replaced_and_mode_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    fs::write(&path, "old\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(replace(&path, set("new\n")).unwrap().unwrap().settle().unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o640);
    assert!(replace(&path, set("new\n")).unwrap().is_none(), "nothing is written twice");
    assert!(replace(&path, |_| Ok::<_, Infallible>(New::Nothing)).unwrap().unwrap().settle().unwrap());
    assert!(!path.exists());
    assert!(replace(&path, set("made\n")).unwrap().unwrap().settle().unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "made\n");
    assert!(leftovers(directory.path()).is_empty());
}

#[test]
fn what_would_be_harmed_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    fs::write(&path, "old\n").unwrap();
    let refused = |path: &Path| {
        let Err(Failure::Refused(why)) = replace(path, set("new\n")) else { panic!("not refused") };
        why
    };
    fs::hard_link(&path, directory.path().join("b.yaml")).unwrap();
    assert!(refused(&path).contains("hard links"));
    fs::remove_file(directory.path().join("b.yaml")).unwrap();
    fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(refused(&path).contains("UTF-8"));
    fs::create_dir(directory.path().join("d.yaml")).unwrap();
    assert!(refused(&directory.path().join("d.yaml")).contains("regular"));
    for (errno, word) in [(rustix::io::Errno::BUSY, "mount"), (rustix::io::Errno::ROFS, "read-only"), (rustix::io::Errno::ACCESS, "read-only")] {
        let Failure::Refused(why) = Failure::<Infallible>::from(io::Error::from(errno)) else { panic!("{errno} is not refused") };
        assert!(why.contains(word));
    }
    std::os::unix::fs::symlink(&path, directory.path().join("l.yaml")).unwrap();
    assert!(matches!(replace(&directory.path().join("l.yaml"), set("new\n")), Err(Failure::Io(_))), "a link is never replaced");
    fs::write(&path, "old\n").unwrap();
    let long = |_: Option<&str>| Ok::<_, Infallible>(New::Text("x".repeat(MAX_FILE_BYTES as usize + 1)));
    assert!(matches!(replace(&path, long), Err(Failure::Refused(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "old\n");
}

#[test]
fn what_is_read_only_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    fs::write(&path, "old\n").unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    for new in [New::Text("new\n".into()), New::Nothing] {
        let mut new = Some(new);
        let result = as_nobody(|| replace(&path, |_| Ok::<_, Infallible>(new.take().unwrap())));
        let Err(Failure::Refused(why)) = result else { panic!("{result:?}") };
        assert!(why.contains("read-only"), "{why}");
    }
    let made = as_nobody(|| replace(&directory.path().join("b.yaml"), set("new\n")));
    assert!(matches!(made, Err(Failure::Refused(_))), "{made:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "old\n");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn an_edit_between_reading_and_exchanging_wins() {
    // While the new content is made ready, and in the instant after the last look.
    for at in [Step::Synced, Step::Checked] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        fs::write(&path, "old\n").unwrap();
        let saved = AtomicBool::new(false);
        let edit = |text: Option<&str>| Ok::<_, Infallible>(New::Text(format!("{}status\n", text.unwrap())));
        let step = |step: Step| {
            if step == at && !saved.swap(true, Ordering::SeqCst) {
                fs::write(directory.path().join("x"), "edited\n").unwrap();
                fs::rename(directory.path().join("x"), &path).unwrap();
            }
        };
        assert!(replace_stepwise(&path, edit, &step).unwrap().unwrap().settle().unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "edited\nstatus\n");
    }
}

#[test]
fn an_edit_through_a_file_opened_before_is_put_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    fs::write(&path, "old\n").unwrap();
    let mut editor = OpenOptions::new().append(true).open(&path).unwrap();
    let displaced = replace(&path, set("new\n")).unwrap().unwrap();
    editor.write_all(b"edited\n").unwrap();
    assert!(!displaced.settle().unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "old\nedited\n");
    let displaced = replace(&path, |_| Ok::<_, Infallible>(New::Nothing)).unwrap().unwrap();
    editor.write_all(b"again\n").unwrap();
    assert!(!displaced.settle().unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "old\nedited\nagain\n");
    assert!(leftovers(directory.path()).is_empty());
}

/// Runs itself as a child that dies at a given step, so that nothing is cleaned up.
#[test]
fn a_crash_leaves_the_old_or_the_new_content() {
    const STEPS: [Step; 7] = [Step::Made, Step::HalfWritten, Step::Synced, Step::Checked, Step::Exchanged, Step::Verified, Step::DirectorySynced];
    if let Ok(at) = std::env::var("CRASH_AT") {
        let (index, path) = at.split_once(' ').unwrap();
        let path = Path::new(path);
        let fatal = STEPS[index.trim_start_matches('e').parse::<usize>().unwrap()];
        _ = replace_stepwise(path, set("the new content\n"), &|step| {
            if index.starts_with('e') && step == Step::Checked {
                fs::write(path, "saved by a person\n").unwrap();
            }
            if step == fatal {
                std::process::abort();
            }
        });
        unreachable!("the step never came");
    }
    let crash = |index: String, path: &Path| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "source::exchange::tests::a_crash_leaves_the_old_or_the_new_content"]);
        let output = child.env("CRASH_AT", format!("{index} {}", path.display())).output().unwrap();
        assert_eq!(output.status.signal(), Some(6), "{}", String::from_utf8_lossy(&output.stdout));
    };
    for (index, step) in STEPS.into_iter().enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        fs::write(&path, "the old content\n").unwrap();
        crash(index.to_string(), &path);
        let expected = if index < 4 { "the old content\n" } else { "the new content\n" };
        assert_eq!(fs::read_to_string(&path).unwrap(), expected, "{step:?}");
        assert_eq!(leftovers(directory.path()).len(), 1, "{step:?}");
        sweep_all(directory.path());
        assert_eq!(fs::read_to_string(&path).unwrap(), expected, "{step:?}, swept");
    }
    // Somebody saved just before the exchange, and we died just after it: the sweep gives their version back.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    fs::write(&path, "the old content\n").unwrap();
    crash("e4".into(), &path);
    assert_eq!(fs::read_to_string(&path).unwrap(), "the new content\n");
    sweep_all(directory.path());
    assert_eq!(fs::read_to_string(&path).unwrap(), "saved by a person\n");
}

#[test]
fn young_files_and_others_are_not_swept() {
    let directory = tempfile::tempdir().unwrap();
    let ours = format!("{PREFIX}{}-{}-a.yaml", short_hash(b"a"), short_hash(b"b"));
    fs::write(directory.path().join(&ours), "x").unwrap();
    fs::write(directory.path().join(".hidden.yaml"), "x").unwrap();
    assert!(sweep(directory.path(), &ours, Duration::from_secs(60)).unwrap());
    assert!(directory.path().join(&ours).exists());
    assert!(!sweep(directory.path(), ".hidden.yaml", Duration::ZERO).unwrap());
    assert!(directory.path().join(".hidden.yaml").exists());
}

/// An editor that reads the file, counts up its own line, and saves by rename or in place, as fast as it can, and insists on finding
/// its last count again.
#[test]
fn no_edit_is_lost_while_statuses_are_written() {
    const EDITS: u32 = 60;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    fs::write(&path, "edits: 0\n").unwrap();
    let done = AtomicBool::new(false);
    let deadline = Instant::now() + Duration::from_secs(60);
    let count = || fs::read_to_string(&path).ok()?.lines().find_map(|line| line.strip_prefix("edits: ")?.parse::<u32>().ok());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for edit in 1..=EDITS {
                while count() != Some(edit - 1) {
                    if Instant::now() > deadline {
                        done.store(true, Ordering::SeqCst);
                        panic!("edit {} is lost: {:?}", edit - 1, fs::read_to_string(&path));
                    }
                    std::thread::yield_now();
                }
                let text = format!("edits: {edit}\n");
                if edit % 2 == 0 {
                    fs::write(directory.path().join("4913"), &text).unwrap();
                    fs::rename(directory.path().join("4913"), &path).unwrap();
                } else {
                    fs::write(&path, &text).unwrap();
                }
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut written = 0;
        let mut status = 0;
        while !done.load(Ordering::SeqCst) || written == 0 {
            status += 1;
            let edit = |text: Option<&str>| {
                let edits = text.and_then(|text| text.lines().next()).filter(|line| line.starts_with("edits: ")).ok_or(())?;
                Ok(New::Text(format!("{edits}\nstatus: {status}\n")))
            };
            match replace(&path, edit) {
                Ok(Some(displaced)) => {
                    std::thread::sleep(Duration::from_millis(5));
                    written += u32::from(displaced.settle().unwrap());
                }
                Ok(None) | Err(Failure::Edit(()) | Failure::Refused(_)) => {}
                Err(Failure::Io(error)) => panic!("{error}"),
            }
        }
    });
    assert_eq!(count(), Some(EDITS));
    assert!(leftovers(directory.path()).is_empty());
}
