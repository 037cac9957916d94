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

#[test]
fn what_a_person_saved_before_a_removal_is_put_back_by_a_sweep() {
    let directory = tempfile::tempdir().unwrap();
    let left = format!("{PREFIX}{}-{}-a.yaml", short_hash(b"old"), short_hash(b""));
    fs::write(directory.path().join(&left), "saved by a person\n").unwrap();
    assert!(sweep(directory.path(), &left, Duration::ZERO).unwrap());
    assert_eq!(fs::read_to_string(directory.path().join("a.yaml")).unwrap(), "saved by a person\n");
    assert!(!directory.path().join(&left).exists());
}

#[test]
fn what_a_person_saved_is_not_swept_while_its_place_cannot_be_read() {
    let directory = tempfile::tempdir().unwrap();
    // Left by a removal, in the instant before which somebody had saved; their file's name is that of a directory by now.
    let left = format!("{PREFIX}{}-{}-a.yaml", short_hash(b"old"), short_hash(b""));
    fs::write(directory.path().join(&left), "saved by a person\n").unwrap();
    fs::create_dir(directory.path().join("a.yaml")).unwrap();
    assert!(sweep(directory.path(), &left, Duration::ZERO).is_err());
    assert_eq!(fs::read_to_string(directory.path().join(&left)).unwrap(), "saved by a person\n");
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

/// A directory of somebody without special rights, and a file in it.
fn of_nobody(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    fs::write(&path, text).unwrap();
    if rustix::process::getuid().is_root() {
        for path in [directory.path(), &path] {
            std::os::unix::fs::chown(path, Some(65_534), None).unwrap();
        }
    }
    (directory, path)
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file_may_be_as_long_as_a_spec_may_be_and_no_longer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    let most = MAX_FILE_BYTES as usize;
    for (before, after, is_refused) in [(3, most, false), (most, most - 1, false), (most + 1, 3, true), (most + 100, 3, true), (3, most + 1, true)] {
        fs::write(&path, "a".repeat(before)).unwrap();
        let result = replace(&path, |_| Ok::<_, Infallible>(New::Text("b".repeat(after))));
        let left = fs::metadata(&path).unwrap().len() as usize;
        match result {
            Ok(Some(displaced)) => assert!(!is_refused && displaced.settle().unwrap() && left == after, "{before} to {after}"),
            Err(Failure::Refused(why)) => assert!(is_refused && why.contains("256 KiB") && left == before, "{before} to {after}: {why}"),
            other => panic!("{before} to {after}: {other:?}"),
        }
    }
}

#[test]
fn what_was_displaced_and_is_gone_is_settled_and_what_cannot_be_looked_at_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    fs::write(&path, "old\n").unwrap();
    let displaced = replace(&path, set("new\n")).unwrap().unwrap();
    fs::remove_file(&displaced.temp.path).unwrap();
    assert!(displaced.settle().unwrap());
    let displaced = replace(&path, set("newer\n")).unwrap().unwrap();
    fs::remove_file(&displaced.temp.path).unwrap();
    fs::create_dir(&displaced.temp.path).unwrap();
    assert_eq!(displaced.settle().unwrap_err().kind(), io::ErrorKind::IsADirectory);
    assert_eq!(fs::read_to_string(&path).unwrap(), "newer\n");
}

#[test]
fn what_is_in_the_way_of_the_temporary_file_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    fs::write(&path, "old\n").unwrap();
    fs::create_dir(Temp::beside(&path, b"old\n", b"new\n").unwrap().path.clone()).unwrap();
    let Err(Failure::Io(error)) = replace(&path, set("new\n")) else { panic!("replaced") };
    assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old\n");
}

/// As root, who alone can give files away.
#[test]
fn the_owner_and_the_group_are_kept() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    for (user, group) in [(0, 0), (65_534, 0), (0, 1234), (65_534, 1234)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        fs::write(&path, "old\n").unwrap();
        set_mode(&path, 0o640);
        std::os::unix::fs::chown(&path, Some(user), Some(group)).unwrap();
        assert!(replace(&path, set("new\n")).unwrap().unwrap().settle().unwrap());
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (user, group, 0o640));
    }
}

/// As root, who alone can give files away.
#[test]
fn a_file_of_another_user_is_refused_and_one_of_another_group_is_not() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    for (user, group, is_refused) in [(65_534, 1234, false), (1, 1234, true), (1, 0, true)] {
        let (directory, path) = of_nobody("old\n");
        set_mode(directory.path(), 0o777);
        std::os::unix::fs::chown(&path, Some(user), Some(group)).unwrap();
        match as_nobody(|| replace(&path, set("new\n"))) {
            Ok(Some(displaced)) => assert!(!is_refused && displaced.settle().unwrap(), "{user}:{group}"),
            Err(Failure::Refused(why)) => assert!(is_refused && why.contains("belongs to another user"), "{user}:{group}: {why}"),
            other => panic!("{user}:{group}: {other:?}"),
        }
        let expected = if is_refused { "old\n" } else { "new\n" };
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert!(leftovers(directory.path()).is_empty());
    }
}

/// The directory may be written in again whenever the change is made again, so that only giving up at once says why.
#[test]
fn a_directory_that_becomes_read_only_is_told_at_once() {
    for (text, at) in [(Some("old\n"), Step::Checked), (None, Step::Synced)] {
        let (directory, path) = of_nobody("old\n");
        if text.is_none() {
            fs::remove_file(&path).unwrap();
        }
        let result = as_nobody(|| {
            let edit = |found: Option<&str>| {
                assert_eq!(found, text);
                set_mode(directory.path(), 0o755);
                Ok::<_, Infallible>(New::Text("new\n".to_owned()))
            };
            let close = |step: Step| {
                if step == at {
                    set_mode(directory.path(), 0o555);
                }
            };
            replace_stepwise(&path, edit, &close)
        });
        let Err(Failure::Refused(why)) = result else { panic!("{result:?}") };
        assert!(why.contains("read-only"), "{why}");
        assert_eq!(fs::read_to_string(&path).ok().as_deref(), text);
    }
}

#[test]
fn a_file_that_somebody_makes_meanwhile_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    let edit = |text: Option<&str>| Ok::<_, Infallible>(New::Text(format!("{}ours\n", text.unwrap_or_default())));
    let made = AtomicBool::new(false);
    let step = |step: Step| {
        if step == Step::Synced && !made.swap(true, Ordering::SeqCst) {
            fs::write(&path, "theirs\n").unwrap();
        }
    };
    assert!(replace_stepwise(&path, edit, &step).unwrap().unwrap().settle().unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), "theirs\nours\n");
    assert!(leftovers(directory.path()).is_empty());
}

#[test]
fn a_file_that_somebody_removes_meanwhile_need_not_be_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.yaml");
    fs::write(&path, "old\n").unwrap();
    let remove = |text: Option<&str>| {
        if text.is_some() {
            fs::remove_file(&path).unwrap();
        }
        Ok::<_, Infallible>(New::Nothing)
    };
    assert!(replace(&path, remove).unwrap().is_none());
    assert!(!path.exists() && leftovers(directory.path()).is_empty());
}

#[test]
fn without_an_exchange_what_is_still_as_it_was_read_is_overwritten() {
    for (now, is_done) in [(Some("old\n"), true), (Some("edited\n"), false), (None, false)] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.yaml");
        if let Some(now) = now {
            fs::write(&path, now).unwrap();
        }
        let temp = Temp::beside(&path, b"old\n", b"new\n").unwrap();
        fs::write(&temp.path, "new\n").unwrap();
        let displaced = overwrite::<Infallible>(&path, temp, b"old\n", b"new\n", &|_| ()).unwrap();
        assert_eq!(displaced.is_some(), is_done, "{now:?}");
        assert!(displaced.is_none_or(|displaced| displaced.settle().unwrap()));
        let expected = if is_done { Some("new\n") } else { now };
        assert_eq!(fs::read_to_string(&path).ok().as_deref(), expected);
        assert!(leftovers(directory.path()).is_empty());
    }
}

#[test]
fn only_what_a_file_system_does_not_know_is_done_in_another_way() {
    use rustix::io::Errno;
    for (errno, is) in
        [(Errno::INVAL, true), (Errno::NOSYS, true), (Errno::OPNOTSUPP, true), (Errno::ACCESS, false), (Errno::NOENT, false), (Errno::XDEV, false)]
    {
        assert_eq!(is_unsupported(&errno.into()), is, "{errno}");
    }
    assert!(!is_unsupported(&io::ErrorKind::Unsupported.into()), "an error that no system call gave");
}

#[test]
fn what_is_put_back_yields_to_who_removed_or_made_the_file_after_that() {
    let directory = tempfile::tempdir().unwrap();
    let (path, temp) = (directory.path().join("a.yaml"), directory.path().join("temp"));
    let newer = || b"edited\n".to_vec();
    fs::write(&temp, newer()).unwrap();
    put_back(&temp, &path, newer(), Some(b"new\n".to_vec())).unwrap();
    assert!(!path.exists(), "it was removed after that");
    fs::write(&path, "made anew\n").unwrap();
    put_back(&temp, &path, newer(), None).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "made anew\n");
    put_back(&temp, &path, newer(), Some(b"made anew\n".to_vec())).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "edited\n");
    // Where it cannot be put, that is told.
    for expected in [None, Some(newer())] {
        assert_eq!(put_back(&temp, &path.join("x"), newer(), expected).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }
}
