//! Real files, saved as editors and git save them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::resource::Kind;
use crate::resource::status::Phase;
use crate::source::Item;
use crate::source::sink::Inline;
use crate::status::StatusSink;

const DEADLINE: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_millis(400);

pub(super) fn spec(name: &str, image: &str) -> String {
    format!("apiVersion: dockmaster/v1\nkind: Workspace\nmetadata:\n  name: {name}\nspec:\n  image: {image}\n")
}

fn workspace(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::new(Kind::Workspace, namespace, name)
}

/// A root below a directory of its own, a source of it, and what it says.
struct Rig {
    outer: tempfile::TempDir,
    root: PathBuf,
    source: DirectorySource,
    events: BoxStream<'static, SourceEvent>,
}

impl Rig {
    /// Starts on these files; what it says up to `InitDone`.
    async fn start(files: &[(&str, &str)]) -> (Self, Vec<SourceEvent>) {
        let outer = tempfile::tempdir().unwrap();
        let root = outer.path().join("specs");
        fs::create_dir(&root).unwrap();
        for (path, text) in files {
            fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs::write(root.join(path), text).unwrap();
        }
        Self::watch(outer, None).await
    }

    async fn watch(outer: tempfile::TempDir, remembered: Option<String>) -> (Self, Vec<SourceEvent>) {
        let mut rig = Self::new(outer, remembered);
        let listing = rig.until(|event| *event == SourceEvent::InitDone).await;
        (rig, listing)
    }

    fn new(outer: tempfile::TempDir, remembered: Option<String>) -> Self {
        let root = outer.path().join("specs");
        let options = Options { settle: SETTLE, resync: Duration::from_secs(60), remembered, is_writer: true };
        let source = DirectorySource::new(Root::new(root.to_str().unwrap(), None).unwrap(), options);
        let events = source.events();
        Self { outer, root, source, events }
    }

    async fn next(&mut self) -> SourceEvent {
        tokio::time::timeout(DEADLINE, self.events.next()).await.expect("nothing was said in time").expect("the source ended")
    }

    /// All events up to the first that matches.
    async fn until(&mut self, matches: impl Fn(&SourceEvent) -> bool) -> Vec<SourceEvent> {
        let mut events = Vec::new();
        loop {
            events.push(self.next().await);
            if matches(events.last().unwrap()) {
                return events;
            }
        }
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.root.join(path).parent().unwrap()).unwrap();
        fs::write(self.root.join(path), text).unwrap();
    }

    /// All that is said up to a file that is made now and removed again, which takes longer than any deletion before it.
    async fn rest(&mut self) -> Vec<SourceEvent> {
        self.write("zz/sentinel.yaml", &spec("sentinel", "x"));
        let mut events = self.until(|event| applied(event).is_some_and(|item| item.resource.metadata().name == "sentinel")).await;
        events.pop();
        fs::remove_file(self.root.join("zz/sentinel.yaml")).unwrap();
        let is_last = |event: &SourceEvent| gone(event).is_some_and(|gone| gone.iter().any(|(object, _)| object.name == "sentinel"));
        events.extend(self.until(is_last).await);
        if let Some(SourceEvent::Gone(mut places)) = events.pop() {
            places.retain(|(object, _)| object.name != "sentinel");
            if !places.is_empty() {
                events.push(SourceEvent::Gone(places));
            }
        }
        events
    }

    fn origin(&self, path: &str, document: u32) -> Origin {
        Origin { source: self.source.name().to_owned(), path: path.to_owned(), document }
    }
}

fn applied(event: &SourceEvent) -> Option<&Item> {
    if let SourceEvent::Apply(item) | SourceEvent::InitApply(item) = event { Some(item) } else { None }
}

fn gone(event: &SourceEvent) -> Option<&[(ObjectRef, Origin)]> {
    if let SourceEvent::Gone(places) = event { Some(places) } else { None }
}

fn unhealthy(event: &SourceEvent) -> Option<&str> {
    if let SourceEvent::Unhealthy(why) = event { Some(why) } else { None }
}

/// What happened, in short.
pub(super) fn brief(events: &[SourceEvent]) -> Vec<String> {
    let line = |event: &SourceEvent| match event {
        SourceEvent::Init => "init".into(),
        SourceEvent::InitDone => "done".into(),
        SourceEvent::InitApply(item) | SourceEvent::Apply(item) => format!("apply {}#{}", item.origin.path, item.origin.document),
        SourceEvent::Reported { origin, status, .. } => format!("reported {} {}", origin.path, status.is_some()),
        SourceEvent::Gone(places) => {
            format!("gone {}", places.iter().map(|(_, origin)| format!("{}#{}", origin.path, origin.document)).collect::<Vec<_>>().join(" "))
        }
        SourceEvent::Invalid { origin, shields, errors } => format!("invalid {} {} {}", origin.path, shields.len(), errors.len()),
        SourceEvent::Unhealthy(_) => "unhealthy".into(),
        SourceEvent::Healthy => "healthy".into(),
    };
    events.iter().map(line).collect()
}

#[tokio::test]
async fn a_file_of_statuses_that_somebody_removes_is_missed() {
    let two = format!("{}---\n{}", spec("a", "x"), spec("b", "x"));
    let (mut rig, _) = Rig::start(&[("alice/ab.yaml", &two), ("alice/c.yaml", &spec("c", "x")), ("alice/ab.yaml.status.yaml", "kind: Workspace\n")]).await;
    fs::remove_file(rig.root.join("alice/ab.yaml.status.yaml")).unwrap();
    assert_eq!(brief(&rig.rest().await), ["reported alice/ab.yaml false", "reported alice/ab.yaml false"]);
    rig.write("alice/ab.yaml.status.yaml", "kind: Workspace\n");
    assert!(rig.rest().await.is_empty(), "one that is there is no news");
}

#[tokio::test]
async fn it_lists_in_the_order_of_paths_and_says_what_is_wrong() {
    let two = format!("{}---\n{}", spec("b", "x"), spec("c", "x"));
    let (rig, listing) = Rig::start(&[("zoe/z.yaml", &spec("z", "x")), ("alice/two.yaml", &two), ("alice/bad.yaml", "a: {\n"), ("notes.txt", "no")]).await;
    assert_eq!(brief(&listing), ["init", "apply alice/two.yaml#0", "apply alice/two.yaml#1", "apply zoe/z.yaml#0", "invalid alice/bad.yaml 0 1", "done"]);
    let SourceEvent::Invalid { errors, .. } = &listing[4] else { panic!() };
    assert!(errors[0].contains("specs/alice/bad.yaml:"), "{errors:?}");
    assert!(rig.source.holds(&workspace("alice", "c"), &rig.origin("alice/two.yaml", 1)));
    assert!(!rig.source.holds(&workspace("alice", "c"), &rig.origin("alice/two.yaml", 0)));
    assert_eq!(rig.source.identity(), walk::identity(&rig.root).ok());
}

/// Saves a text.
type Save<'a> = &'a dyn Fn(&str);

#[tokio::test]
async fn each_way_of_saving_is_one_change() {
    let (mut rig, _) = Rig::start(&[("alice/a.yaml", &spec("a", "v0"))]).await;
    let (root, file) = (rig.root.clone(), rig.root.join("alice/a.yaml"));
    let ways: [(&str, Save<'_>); 5] = [
        ("in place", &|text| fs::write(&file, text).unwrap()),
        ("truncated, then written in two parts", &|text| {
            use std::io::Write;
            let mut open = fs::File::create(&file).unwrap();
            let (one, two) = text.split_at(text.len() / 2);
            open.write_all(one.as_bytes()).unwrap();
            open.sync_all().unwrap();
            open.write_all(two.as_bytes()).unwrap();
        }),
        ("backup, new file, backup removed", &|text| {
            fs::write(root.join("alice/4913"), "").unwrap();
            fs::remove_file(root.join("alice/4913")).unwrap();
            fs::rename(&file, root.join("alice/a.yaml~")).unwrap();
            fs::write(&file, text).unwrap();
            fs::remove_file(root.join("alice/a.yaml~")).unwrap();
        }),
        ("temporary file renamed", &|text| {
            fs::write(root.join("alice/sedXYZ"), text).unwrap();
            fs::rename(root.join("alice/sedXYZ"), &file).unwrap();
        }),
        ("removed and made again", &|text| {
            fs::remove_file(&file).unwrap();
            fs::write(&file, text).unwrap();
        }),
    ];
    for (version, (way, save)) in ways.into_iter().enumerate() {
        save(&spec("a", &format!("v{}", version + 1)));
        assert_eq!(brief(&rig.rest().await), ["apply alice/a.yaml#0"], "{way}");
    }
    fs::write(&file, format!("# a comment\n{}", spec("a", "v5"))).unwrap();
    assert_eq!(brief(&rig.rest().await), ["reported alice/a.yaml false"], "a comment is no change");
}

#[tokio::test]
async fn other_editors_leave_nothing_that_counts_and_are_one_change_too() {
    let (mut rig, _) = Rig::start(&[("alice/a.yaml", &spec("a", "v0"))]).await;
    let (root, file) = (rig.root.clone(), rig.root.join("alice/a.yaml"));
    let at = |name: &str| root.join("alice").join(name);
    let ways: [(&str, Save<'_>); 3] = [
        ("emacs, which locks by a link to nowhere and keeps what it saves on the way", &|text| {
            std::os::unix::fs::symlink("me@host.1:2", at(".#a.yaml")).unwrap();
            fs::write(at("#a.yaml#"), text).unwrap();
            fs::rename(&file, at("a.yaml~")).unwrap();
            fs::write(&file, text).unwrap();
            fs::remove_file(at("#a.yaml#")).unwrap();
            fs::remove_file(at(".#a.yaml")).unwrap();
        }),
        ("vim with backupcopy, and its swap file", &|text| {
            fs::write(at(".a.yaml.swp"), "b0VIM").unwrap();
            fs::copy(&file, at("a.yaml~")).unwrap();
            fs::write(&file, text).unwrap();
            fs::remove_file(at(".a.yaml.swp")).unwrap();
        }),
        ("JetBrains", &|text| {
            fs::write(at("a.yaml___jb_tmp___"), text).unwrap();
            fs::rename(&file, at("a.yaml___jb_old___")).unwrap();
            fs::rename(at("a.yaml___jb_tmp___"), &file).unwrap();
            fs::remove_file(at("a.yaml___jb_old___")).unwrap();
        }),
    ];
    for (version, (way, save)) in ways.into_iter().enumerate() {
        save(&spec("a", &format!("v{}", version + 1)));
        assert_eq!(brief(&rig.rest().await), ["apply alice/a.yaml#0"], "{way}");
    }
}

#[tokio::test]
async fn what_a_killed_run_left_is_seen_to_before_anything_is_read() {
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("specs");
    fs::create_dir(&root).unwrap();
    let (old, edited) = (spec("a", "old"), spec("a", "edited"));
    // Killed right after the exchange: what somebody saved in the instant before it lies beside the file.
    let path = root.join("a.yaml");
    let left = format!(".dockmaster-{}-{}-a.yaml", "0".repeat(16), crate::source::exchange::short_hash(old.as_bytes()));
    fs::write(&path, &old).unwrap();
    fs::write(root.join(&left), &edited).unwrap();
    // To somebody who only reads, they may be in use.
    let options = Options { settle: SETTLE, resync: Duration::from_secs(60), remembered: None, is_writer: false };
    let reader = DirectorySource::new(Root::new(root.to_str().unwrap(), None).unwrap(), options);
    let read = reader.events().take_while(|event| std::future::ready(*event != SourceEvent::InitDone)).collect::<Vec<_>>().await;
    assert!(applied(&read[1]).unwrap().text.contains("image: old") && root.join(&left).exists(), "{read:?}");
    let (rig, listing) = Rig::watch(outer, None).await;
    assert!(applied(&listing[1]).unwrap().text.contains("image: edited"), "{listing:?}");
    assert!(!rig.root.join(left).exists());
}

#[tokio::test]
async fn a_directory_that_is_made_again_is_watched_again() {
    let (mut rig, _) = Rig::start(&[("alice/a.yaml", &spec("a", "v0")), ("alice/sub/b.yaml", &spec("b", "v0"))]).await;
    // Away for a moment, as a move or a restore does it.
    fs::rename(rig.root.join("alice"), rig.outer.path().join("alice")).unwrap();
    fs::rename(rig.outer.path().join("alice"), rig.root.join("alice")).unwrap();
    assert_eq!(brief(&rig.rest().await), [] as [&str; 0]);
    rig.write("alice/sub/b.yaml", &spec("b", "v1"));
    assert_eq!(brief(&rig.rest().await), ["apply alice/sub/b.yaml#0"]);
    // Removed and made by another's hand.
    fs::remove_dir_all(rig.root.join("alice")).unwrap();
    rig.write("alice/a.yaml", &spec("a", "v0"));
    rig.write("alice/sub/b.yaml", &spec("b", "v1"));
    assert_eq!(brief(&rig.rest().await), ["reported alice/a.yaml false", "reported alice/sub/b.yaml false"]);
    rig.write("alice/sub/b.yaml", &spec("b", "v2"));
    assert_eq!(brief(&rig.rest().await), ["apply alice/sub/b.yaml#0"]);
    fs::remove_dir_all(rig.root.join("alice/sub")).unwrap();
    assert_eq!(brief(&rig.rest().await), ["gone alice/sub/b.yaml#0"]);
}

#[tokio::test]
async fn a_mounted_configuration_is_swapped_as_one() {
    let (mut rig, _) = Rig::start(&[("..1/a.yaml", &spec("a", "v0")), ("..1/b.yaml", &spec("b", "v0"))]).await;
    std::os::unix::fs::symlink("..1", rig.root.join("..data")).unwrap();
    for name in ["a.yaml", "b.yaml"] {
        std::os::unix::fs::symlink(format!("..data/{name}"), rig.root.join(name)).unwrap();
    }
    assert_eq!(brief(&rig.rest().await), ["apply a.yaml#0", "apply b.yaml#0"]);
    rig.write("..2/a.yaml", &spec("a", "v1"));
    rig.write("..2/b.yaml", &spec("b", "v1"));
    std::os::unix::fs::symlink("..2", rig.root.join("..data_tmp")).unwrap();
    fs::rename(rig.root.join("..data_tmp"), rig.root.join("..data")).unwrap();
    assert_eq!(brief(&rig.rest().await), ["apply a.yaml#0", "apply b.yaml#0"]);
}

#[tokio::test]
async fn a_file_that_goes_bad_keeps_what_it_held() {
    let two = format!("{}---\n{}", spec("a", "v0"), spec("b", "v0"));
    let (mut rig, _) = Rig::start(&[("alice/a.yaml", &two)]).await;
    rig.write("alice/a.yaml", &format!("{}---\nkind: {{\n", spec("a", "v1")));
    let events = rig.rest().await;
    assert_eq!(brief(&events), ["apply alice/a.yaml#0", "invalid alice/a.yaml 1 1"]);
    let SourceEvent::Invalid { shields, .. } = &events[1] else { panic!() };
    assert_eq!(*shields, [workspace("alice", "b")]);
    assert!(rig.source.holds(&workspace("alice", "b"), &rig.origin("alice/a.yaml", 1)));
    rig.write("alice/a.yaml", &spec("a", "v1"));
    assert_eq!(brief(&rig.rest().await), ["reported alice/a.yaml false", "invalid alice/a.yaml 0 0", "gone alice/a.yaml#1"]);
    rig.write("alice/a.yaml", "");
    assert_eq!(brief(&rig.rest().await), ["gone alice/a.yaml#0"]);
}

#[tokio::test]
async fn what_vanishes_together_is_gone_together() {
    let (mut rig, _) = Rig::start(&[("alice/a.yaml", &spec("a", "x")), ("alice/b.yaml", &spec("b", "x")), ("bob/c.yaml", &spec("c", "x"))]).await;
    fs::remove_dir_all(rig.root.join("alice")).unwrap();
    fs::remove_file(rig.root.join("bob/c.yaml")).unwrap();
    assert_eq!(brief(&[rig.next().await]), ["gone alice/a.yaml#0 alice/b.yaml#0 bob/c.yaml#0"]);
}

#[tokio::test]
async fn a_move_is_a_change_of_place_and_a_copy_is_a_second_document() {
    let (mut rig, _) = Rig::start(&[("alice/a.yaml", &spec("a", "x"))]).await;
    fs::rename(rig.root.join("alice/a.yaml"), rig.root.join("alice/b.yaml")).unwrap();
    assert_eq!(brief(&rig.rest().await), ["apply alice/b.yaml#0"]);
    assert!(!rig.source.holds(&workspace("alice", "a"), &rig.origin("alice/a.yaml", 0)));
    rig.write("alice/c.yaml", &spec("a", "x"));
    assert_eq!(brief(&rig.rest().await), ["apply alice/c.yaml#0"]);
    assert!(rig.source.holds(&workspace("alice", "a"), &rig.origin("alice/b.yaml", 0)));
    fs::remove_file(rig.root.join("alice/b.yaml")).unwrap();
    assert_eq!(brief(&rig.rest().await), ["gone alice/b.yaml#0"]);
    fs::create_dir(rig.root.join("bob")).unwrap();
    fs::rename(rig.root.join("alice/c.yaml"), rig.root.join("bob/c.yaml")).unwrap();
    assert_eq!(brief(&rig.rest().await), ["apply bob/c.yaml#0", "gone alice/c.yaml#0"]);
}

#[tokio::test]
async fn a_root_that_is_away_deletes_nothing() {
    let (mut rig, _) = Rig::start(&[("alice/a.yaml", &spec("a", "x"))]).await;
    let away = rig.outer.path().join("away");
    fs::rename(&rig.root, &away).unwrap();
    rig.source.rescan();
    let why = rig.next().await;
    assert!(unhealthy(&why).unwrap().contains("cannot be read"), "{why:?}");
    // Another directory in its place is not the root, however long it lies there.
    fs::create_dir(&rig.root).unwrap();
    let why = rig.next().await;
    assert!(unhealthy(&why).unwrap().contains("exchanged"), "{why:?}");
    rig.write("alice/b.yaml", &spec("b", "x"));
    assert_eq!(brief(&[rig.next().await]), ["apply alice/b.yaml#0"], "its documents count");
    assert_ne!(rig.source.identity(), walk::identity(&rig.root).ok());
    fs::rename(&rig.root, rig.outer.path().join("other")).unwrap();
    fs::rename(&away, &rig.root).unwrap();
    let events = rig.until(|event| gone(event).is_some()).await;
    assert_eq!(brief(&events), ["reported alice/a.yaml false", "healthy", "gone alice/b.yaml#0"]);
}

#[tokio::test]
async fn another_root_is_trusted_when_it_is_accepted_or_has_everything() {
    let (mut rig, _) = Rig::start(&[("alice/a.yaml", &spec("a", "x"))]).await;
    let again = |rig: &Rig| {
        fs::rename(&rig.root, rig.outer.path().join(format!("old{}", rand::random::<u32>()))).unwrap();
        fs::create_dir(&rig.root).unwrap();
    };
    again(&rig);
    rig.source.rescan();
    rig.until(|event| unhealthy(event).is_some_and(|why| why.contains("exchanged"))).await;
    rig.write("alice/a.yaml", &spec("a", "x"));
    assert_eq!(brief(&[rig.next().await, rig.next().await]), ["reported alice/a.yaml false", "healthy"]);
    assert_eq!(rig.source.identity(), walk::identity(&rig.root).ok());
    // A copy that is complete at first sight.
    fs::create_dir_all(rig.outer.path().join("copy/alice")).unwrap();
    fs::write(rig.outer.path().join("copy/alice/a.yaml"), spec("a", "x")).unwrap();
    let exchange = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, rig.outer.path().join("copy"), rustix::fs::CWD, &rig.root, exchange).unwrap();
    rig.source.rescan();
    assert_eq!(brief(&[rig.next().await, rig.next().await]), ["reported alice/a.yaml false", "healthy"]);
    assert_eq!(rig.source.identity(), walk::identity(&rig.root).ok());
    again(&rig);
    rig.source.rescan();
    rig.until(|event| unhealthy(event).is_some_and(|why| why.contains("exchanged"))).await;
    rig.source.accept();
    assert_eq!(brief(&[rig.next().await, rig.next().await]), ["healthy", "gone alice/a.yaml#0"]);
}

#[tokio::test]
async fn a_root_that_was_exchanged_while_nobody_looked_is_noticed() {
    let outer = tempfile::tempdir().unwrap();
    fs::create_dir(outer.path().join("specs")).unwrap();
    fs::write(outer.path().join("specs/a.yaml"), spec("a", "x")).unwrap();
    let mut rig = Rig::new(outer, Some("1:1".into()));
    assert_eq!(brief(&[rig.next().await, rig.next().await, rig.next().await]), ["init", "unhealthy", "apply a.yaml#0"]);
    rig.source.rescan();
    rig.write("b.yaml", &spec("b", "x"));
    assert_eq!(brief(&[rig.next().await]), ["apply b.yaml#0"], "it is not trusted by itself");
    assert_eq!(rig.source.identity().as_deref(), Some("1:1"));
    rig.source.accept();
    assert_eq!(brief(&[rig.next().await, rig.next().await]), ["healthy", "done"]);
}

#[tokio::test]
async fn a_root_that_is_missing_at_first_comes_later() {
    let outer = tempfile::tempdir().unwrap();
    let mut rig = Rig::new(outer, None);
    assert_eq!(brief(&[rig.next().await, rig.next().await]), ["init", "unhealthy"]);
    let away = rig.outer.path().join("away");
    fs::create_dir(&away).unwrap();
    fs::write(away.join("a.yaml"), spec("a", "x")).unwrap();
    fs::rename(away, &rig.root).unwrap();
    let events = rig.until(|event| *event == SourceEvent::InitDone).await;
    assert_eq!(brief(&events), ["apply a.yaml#0", "healthy", "done"]);
}

#[tokio::test]
async fn an_incomplete_listing_deletes_nothing() {
    let (mut rig, _) = Rig::start(&[("alice/a.yaml", &spec("a", "x"))]).await;
    let deep = (0..40).fold(rig.root.join("alice"), |path, _| path.join("d"));
    fs::create_dir_all(&deep).unwrap();
    fs::remove_file(rig.root.join("alice/a.yaml")).unwrap();
    let why = rig.next().await;
    assert!(unhealthy(&why).unwrap().contains("deep"), "{why:?}");
    fs::remove_dir_all(rig.root.join("alice/d")).unwrap();
    assert_eq!(brief(&[rig.next().await, rig.next().await]), ["healthy", "gone alice/a.yaml#0"]);
}

#[tokio::test]
async fn a_link_that_leads_nowhere_now_shields_what_was_below_it() {
    let (mut rig, _) = Rig::start(&[(".data/a.yaml", &spec("a", "x"))]).await;
    std::os::unix::fs::symlink(".data", rig.root.join("alice")).unwrap();
    assert_eq!(brief(&rig.rest().await), ["apply alice/a.yaml#0"]);
    fs::rename(rig.root.join(".data"), rig.outer.path().join("away")).unwrap();
    assert_eq!(brief(&rig.rest().await), ["invalid alice 1 1"]);
    assert!(rig.source.holds(&workspace("alice", "a"), &rig.origin("alice/a.yaml", 0)));
    fs::remove_file(rig.root.join("alice")).unwrap();
    assert_eq!(brief(&rig.rest().await), ["invalid alice 0 0", "gone alice/a.yaml#0"]);
}

fn git(root: &Path, arguments: &[&str]) {
    let mut git = Command::new("git");
    git.current_dir(root).args(["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "init.defaultBranch=main"]).args(arguments);
    let output = git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").output().expect("git is installed");
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn deletions_wait_for_git() {
    let (mut rig, _) = Rig::start(&[("alice/a.yaml", &spec("a", "x")), ("alice/b.yaml", &spec("b", "x"))]).await;
    git(&rig.root, &["init", "-q"]);
    assert!(!rig.source.is_tracked_by_git());
    git(&rig.root, &["add", "."]);
    assert!(rig.source.is_tracked_by_git());
    fs::write(rig.root.join(".git/index.lock"), "").unwrap();
    fs::remove_file(rig.root.join("alice/a.yaml")).unwrap();
    let why = rig.next().await;
    assert!(unhealthy(&why).unwrap().contains("git command is under way"), "{why:?}");
    // It comes back as the checkout goes on, and another one goes.
    rig.write("alice/a.yaml", &spec("a", "x"));
    fs::remove_file(rig.root.join("alice/b.yaml")).unwrap();
    fs::remove_file(rig.root.join(".git/index.lock")).unwrap();
    let events = rig.until(|event| gone(event).is_some()).await;
    assert_eq!(brief(&events), ["reported alice/a.yaml false", "healthy", "gone alice/b.yaml#0"]);
}

#[tokio::test]
async fn a_big_checkout_is_seen_whole() {
    const FILES: usize = 500;
    let (mut rig, _) = Rig::start(&[]).await;
    let every = |rig: &Rig, image: &str| (0..FILES).for_each(|index| rig.write(&format!("n{}/w{index}.yaml", index % 7), &spec(&format!("w{index}"), image)));
    every(&rig, "v1");
    git(&rig.root, &["init", "-q"]);
    git(&rig.root, &["add", "."]);
    git(&rig.root, &["commit", "-qm", "one"]);
    every(&rig, "v2");
    (0..10).for_each(|index| fs::remove_file(rig.root.join(format!("n{}/w{index}.yaml", index % 7))).unwrap());
    git(&rig.root, &["add", "-A"]);
    git(&rig.root, &["commit", "-qm", "two"]);
    git(&rig.root, &["checkout", "-q", "HEAD~1"]);
    let mut state = std::collections::BTreeMap::new();
    while state.len() < FILES || state.values().any(|image| image != "v1") {
        let event = rig.next().await;
        assert!(gone(&event).is_none(), "nothing was deleted for good: {event:?}");
        if let Some(item) = applied(&event) {
            let crate::resource::Resource::Workspace(object) = &item.resource else { panic!() };
            state.insert(item.resource.reference(), object.spec.image.clone().unwrap());
        }
    }
    git(&rig.root, &["checkout", "-q", "main"]);
    let events = rig.until(|event| gone(event).is_some()).await;
    assert_eq!(gone(events.last().unwrap()).unwrap().len(), 10);
    assert_eq!(events.iter().filter(|event| applied(event).is_some()).count(), FILES - 10, "each changed file once");
}

/// More files, and more events of the kernel, than its queue holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_of_five_thousand_files_is_seen_whole() {
    const FILES: usize = 5_000;
    let (mut rig, _) = Rig::start(&[]).await;
    (0..FILES).for_each(|index| rig.write(&format!("n{}/w{index}.yaml", index % 7), &spec(&format!("w{index}"), "x")));
    let mut seen = BTreeSet::new();
    while seen.len() < FILES {
        let event = rig.next().await;
        let item = applied(&event).unwrap_or_else(|| panic!("{event:?}"));
        assert!(seen.insert(item.resource.reference()), "each once");
    }
    // Some are made again, as a checkout does it; the others go, all at once.
    (1..7).for_each(|folder| fs::remove_dir_all(rig.root.join(format!("n{folder}"))).unwrap());
    fs::remove_file(rig.root.join("n0/w7.yaml")).unwrap();
    rig.write("n0/w7.yaml", &spec("w7", "x"));
    assert_eq!(brief(&[rig.next().await]), ["reported n0/w7.yaml false"]);
    let event = rig.next().await;
    assert_eq!(gone(&event).map(<[_]>::len), Some(FILES - FILES.div_ceil(7)), "{event:?}");
}

#[tokio::test]
async fn a_status_is_no_change() {
    let (mut rig, _) = Rig::start(&[("alice/a.yaml", &spec("a", "x"))]).await;
    let sink = Inline::new(vec![rig.source.root().clone()]);
    for phase in [Phase::Starting, Phase::Running] {
        let status = serde_json::from_value(serde_json::json!({"observedGeneration": 1, "phase": phase, "conditions": []})).unwrap();
        assert!(sink.write(&workspace("alice", "a"), &rig.origin("alice/a.yaml", 0), &status).await.unwrap());
        rig.source.rescan();
        assert_eq!(brief(&rig.rest().await), ["reported alice/a.yaml true"]);
    }
    rig.write("alice/a.yaml", &spec("a", "x"));
    assert_eq!(brief(&[rig.next().await]), ["reported alice/a.yaml false"]);
}

#[tokio::test]
async fn edits_change_one_document() {
    let (mut rig, _) = Rig::start(&[("alice/a.yaml", &format!("# mine\n{}", spec("a", "x")))]).await;
    let read = |rig: &Rig, path: &str| fs::read_to_string(rig.root.join(path)).unwrap();
    let (a, at) = (workspace("alice", "a"), rig.origin("alice/a.yaml", 0));
    let stop = Edit::Set { path: vec!["spec".into(), "state".into()], value: Some("Stopped".into()) };
    assert_eq!(rig.source.edit(&a, Some(&at), stop.clone()).await.unwrap(), at);
    assert_eq!(read(&rig, "alice/a.yaml"), format!("# mine\n{}  state: Stopped\n", spec("a", "x")));
    assert_eq!(brief(&[rig.next().await]), ["apply alice/a.yaml#0"]);

    let (b, tenant) = (workspace("bob", "b"), ObjectRef::new(Kind::Tenant, "", "t"));
    assert_eq!(rig.source.edit(&b, None, Edit::Put(spec("b", "x"))).await.unwrap().path, "bob/b.yaml");
    assert_eq!(read(&rig, "bob/b.yaml"), spec("b", "x"));
    let text = "apiVersion: dockmaster/v1\nkind: Tenant\nmetadata: {name: t}\n";
    assert_eq!(rig.source.edit(&tenant, None, Edit::Put(text.into())).await.unwrap().path, "tenant-t.yaml");
    rig.write("alice/c.yaml", &spec("other", "x"));
    let c = workspace("alice", "c");
    assert_eq!(rig.source.edit(&c, None, Edit::Put(spec("c", "x"))).await.unwrap(), rig.origin("alice/c.yaml", 1));
    assert_eq!(read(&rig, "alice/c.yaml"), format!("{}---\n{}", spec("other", "x"), spec("c", "x")), "never overwritten");
    assert_eq!(rig.source.edit(&c, Some(&rig.origin("alice/c.yaml", 1)), Edit::Put(spec("c", "y"))).await.unwrap(), rig.origin("alice/c.yaml", 1));
    rig.source.edit(&workspace("alice", "other"), Some(&rig.origin("alice/c.yaml", 0)), Edit::Remove).await.unwrap();
    assert!(read(&rig, "alice/c.yaml").contains("image: y") && !read(&rig, "alice/c.yaml").contains("other"));
    rig.write("bob/b.yaml.status.yaml", "x: y\n");
    rig.source.edit(&b, Some(&rig.origin("bob/b.yaml", 0)), Edit::Remove).await.unwrap();
    assert!(!rig.root.join("bob/b.yaml").exists() && !rig.root.join("bob/b.yaml.status.yaml").exists());

    let gone = rig.origin("alice/c.yaml", 0);
    assert_eq!(rig.source.edit(&workspace("alice", "other"), Some(&gone), Edit::PutBack(spec("other", "x"))).await.unwrap(), rig.origin("alice/c.yaml", 1));
    assert!(read(&rig, "alice/c.yaml").contains("image: y") && read(&rig, "alice/c.yaml").contains("other"), "behind what is there");
    assert_eq!(rig.source.edit(&b, Some(&rig.origin("bob/b.yaml", 0)), Edit::PutBack(spec("b", "x"))).await.unwrap(), rig.origin("bob/b.yaml", 0));
    assert_eq!(read(&rig, "bob/b.yaml"), spec("b", "x"), "made again");
    rig.source.edit(&b, Some(&rig.origin("bob/b.yaml", 0)), Edit::Remove).await.unwrap();

    let refusal = |result: Result<Origin, SourceError>| result.unwrap_err().to_string();
    assert!(refusal(rig.source.edit(&b, Some(&rig.origin("bob/b.yaml", 0)), Edit::Remove).await).contains("not in"));
    assert!(refusal(rig.source.edit(&b, None, Edit::Put(spec("a", "x"))).await).contains("does not declare"));
    assert!(refusal(rig.source.edit(&b, None, stop.clone()).await).contains("in no file"));
    fs::hard_link(rig.root.join("alice/a.yaml"), rig.outer.path().join("link")).unwrap();
    let why = refusal(rig.source.edit(&a, Some(&at), Edit::Set { path: vec!["spec".into(), "state".into()], value: Some("Running".into()) }).await);
    assert!(why.contains("hard links") && why.contains("by hand: set `spec.state` to `\"Running\"`"), "{why}");
}
