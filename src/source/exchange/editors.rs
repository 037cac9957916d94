//! Editors and their ways of saving, each in every order with the steps of a status write: what was saved is there in the end, and the status.

use std::cell::RefCell;

use super::*;

const STATUS: &str = "status: done\n";
/// The last line of a whole file: without it nobody would find the object in it.
const END: &str = "end: of file\n";

/// What an editor has before it.
struct Desk {
    path: PathBuf,
    /// What it saves.
    text: String,
    open: Option<File>,
}

impl Desk {
    fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }

    /// Opens the file as it is and empties it, or makes it.
    fn open(&mut self) {
        self.open = Some(File::create(&self.path).unwrap());
    }

    fn write(&mut self) {
        self.open.as_ref().unwrap().write_all(self.text.as_bytes()).unwrap();
    }

    fn first_half(&mut self) {
        self.open.as_ref().unwrap().write_all(&self.text.as_bytes()[..self.text.len() / 2]).unwrap();
    }

    fn second_half(&mut self) {
        self.open.as_ref().unwrap().write_all(&self.text.as_bytes()[self.text.len() / 2..]).unwrap();
    }

    /// The old file becomes a backup; there is none if it was removed.
    fn back_up(&mut self) {
        fs::rename(&self.path, self.beside("a.yaml~")).unwrap();
    }

    fn copy_to_backup(&mut self) {
        fs::copy(&self.path, self.beside("a.yaml~")).unwrap();
    }

    fn remove_backup(&mut self) {
        fs::remove_file(self.beside("a.yaml~")).unwrap();
    }

    fn write_beside(&mut self) {
        fs::write(self.beside("new.tmp"), &self.text).unwrap();
    }

    fn put_in_place(&mut self) {
        fs::rename(self.beside("new.tmp"), &self.path).unwrap();
    }

    fn lock(&mut self) {
        std::os::unix::fs::symlink("me@host.1", self.beside(".#a.yaml")).unwrap();
        fs::write(self.beside("#a.yaml#"), &self.text).unwrap();
    }

    fn unlock(&mut self) {
        fs::remove_file(self.beside(".#a.yaml")).unwrap();
        fs::remove_file(self.beside("#a.yaml#")).unwrap();
    }
}

type Saving = &'static [fn(&mut Desk)];

/// The ways, each step of which the file system does at once.
const EDITORS: [(&str, Saving); 9] = [
    ("vim, backup and new file", &[Desk::back_up, Desk::open, Desk::write, Desk::remove_backup]),
    ("vim with backupcopy, in place", &[Desk::copy_to_backup, Desk::open, Desk::write, Desk::remove_backup]),
    ("emacs", &[Desk::lock, Desk::back_up, Desk::open, Desk::write, Desk::unlock]),
    ("nano, with a backup", &[Desk::copy_to_backup, Desk::open, Desk::write]),
    ("VS Code, in place", &[Desk::open, Desk::write]),
    ("sed -i, gedit, an atomic save", &[Desk::write_beside, Desk::put_in_place]),
    ("JetBrains", &[Desk::write_beside, Desk::back_up, Desk::put_in_place, Desk::remove_backup]),
    ("in two chunks", &[Desk::open, Desk::first_half, Desk::second_half]),
    ("in one go", &[|desk| fs::write(&desk.path, &desk.text).unwrap()]),
];

/// The moments of a status write at which the rest of the world may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Before,
    Read,
    Made,
    HalfWritten,
    Synced,
    Checked,
    Exchanged,
    Verified,
    DirectorySynced,
    Grace,
    After,
}

use Moment::*;
const MOMENTS: [Moment; 11] = [Before, Read, Made, HalfWritten, Synced, Checked, Exchanged, Verified, DirectorySynced, Grace, After];

/// An editor that takes its first steps at one moment and the rest at another.
struct Schedule {
    desk: Desk,
    saving: Saving,
    first: (usize, Moment),
    rest: Moment,
    done: usize,
}

impl Schedule {
    /// What is due by that moment.
    fn reach(&mut self, moment: Moment) {
        let due = if moment >= self.rest {
            self.saving.len()
        } else if moment >= self.first.1 {
            self.first.0
        } else {
            0
        };
        while self.done < due {
            self.saving[self.done](&mut self.desk);
            self.done += 1;
        }
    }
}

/// The text with the status at its end, if it is whole.
fn with_status(text: Option<&str>) -> Result<New, ()> {
    let text = text.filter(|text| text.contains(END)).ok_or(())?;
    Ok(New::Text(format!("{}{STATUS}", text.trim_end_matches(STATUS))))
}

/// One status write, with the editor at work beside it.
fn write_beside(schedule: &RefCell<Schedule>, path: &Path) {
    let reach = |moment| schedule.borrow_mut().reach(moment);
    reach(Before);
    let edit = |text: Option<&str>| {
        let text = text.map(str::to_owned);
        reach(Read);
        with_status(text.as_deref())
    };
    let step = |step| {
        reach(match step {
            Step::Made => Made,
            Step::HalfWritten => HalfWritten,
            Step::Synced => Synced,
            Step::Checked => Checked,
            Step::Exchanged => Exchanged,
            Step::Verified => Verified,
            Step::DirectorySynced => DirectorySynced,
        });
    };
    match replace_stepwise(path, edit, &step) {
        Ok(Some(displaced)) => {
            reach(Grace);
            displaced.settle().unwrap();
        }
        // Written later.
        Ok(None) | Err(Failure::Edit(())) => {}
        Err(failure) => panic!("{failure:?}"),
    }
    reach(After);
}

#[test]
fn whatever_the_order_what_an_editor_saved_stays() {
    // In memory, where the file system does not wait for a disk.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let mut orders = 0;
    for (name, saving) in EDITORS {
        let opens = saving.iter().position(|step| std::ptr::fn_addr_eq(*step, Desk::open as fn(&mut Desk)));
        for (at, first) in MOMENTS.into_iter().enumerate() {
            for rest in &MOMENTS[at..] {
                for steps in 1..=saving.len() {
                    // Who opens the file before the exchange, and writes after the grace, writes into what is gone.
                    let held = opens.is_some_and(|opens| opens < steps && steps < saving.len());
                    if held && first < Exchanged && *rest == After {
                        continue;
                    }
                    let folder = tempfile::tempdir_in(&directory).unwrap();
                    let path = folder.path().join("a.yaml");
                    fs::write(&path, format!("spec: 1\n{END}")).unwrap();
                    let text = format!("spec: 2\n# edited\n{END}");
                    let desk = Desk { path: path.clone(), text: text.clone(), open: None };
                    let schedule = RefCell::new(Schedule { desk, saving, first: (steps, first), rest: *rest, done: 0 });
                    write_beside(&schedule, &path);
                    let case = format!("{name}: {steps} at {first:?}, the rest at {rest:?}");
                    let found = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{case}: {error}"));
                    assert_eq!(found.trim_end_matches(STATUS), text, "{case}");
                    // And the status comes.
                    if let Some(displaced) = replace(&path, with_status).unwrap() {
                        assert!(displaced.settle().unwrap(), "{case}");
                    }
                    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{text}{STATUS}"), "{case}");
                    let left = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
                    assert_eq!(left.filter(|name| name.starts_with(PREFIX)).count(), 0, "{case}");
                    orders += 1;
                }
            }
        }
    }
    assert!(orders > 1_500, "{orders}");
}
