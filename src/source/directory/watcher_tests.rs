//! What the task behind the events makes of single looks at a root.

use std::fs;

use tempfile::TempDir;

use super::scan::tests::{look_at_once, scanner, write};
use super::tests::{brief, spec};
use super::*;

const RESYNC: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// A watcher of a root of its own with `a.yaml`, which was listed, and what it says.
struct Rig {
    directory: TempDir,
    watcher: Watcher,
    said: mpsc::Receiver<SourceEvent>,
}

impl Rig {
    async fn listed(settle: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = Options { settle, resync: RESYNC, remembered: None, is_writer: true };
        let source = DirectorySource::new(Root::new(directory.path().to_str().unwrap(), None).unwrap(), options);
        let (sender, said) = mpsc::channel(64);
        let mut watcher = Watcher::new(source.shared.clone(), sender);
        watcher.eyes = Some((scanner(directory.path()), Watch::default()));
        watcher.is_watched = true;
        let mut rig = Self { directory, watcher, said };
        write(rig.directory.path(), "a.yaml", &spec("a", "x"));
        let look = rig.look();
        assert_eq!(rig.tell(&look, true).await, ["apply a.yaml#0"]);
        rig
    }

    /// One whose file was found missing, without any trouble.
    async fn missing(settle: Duration) -> Self {
        let mut rig = Self::listed(settle).await;
        fs::remove_file(rig.directory.path().join("a.yaml")).unwrap();
        let look = rig.look();
        assert_eq!(rig.tell(&look, false).await, [] as [&str; 0]);
        rig
    }

    fn look(&mut self) -> Look {
        look_at_once(&mut self.watcher.eyes.as_mut().unwrap().0)
    }

    /// What is said of a look.
    async fn tell(&mut self, look: &Look, first: bool) -> Vec<String> {
        assert!(self.watcher.tell(look, first).await.is_ok());
        let mut events = Vec::new();
        while let Ok(event) = self.said.try_recv() {
            events.push(event);
        }
        brief(&events)
    }

    fn due(&self) -> Instant {
        self.watcher.teller.due(HOUR).unwrap()
    }
}

fn in_trouble(look: Look) -> Look {
    Look { trouble: Some("not all of it can be read".into()), ..look }
}

/// Found by the benchmark: while the statuses of 50,000 objects were written, half of the work was looking at their directory.
#[tokio::test]
async fn a_well_directory_of_very_many_files_is_left_alone_between_two_looks() {
    let mut rig = Rig::listed(HOUR).await;
    let look = |milliseconds| Look { restless: true, walked: Duration::from_millis(milliseconds), ..Look::default() };
    let pauses = |rig: &Rig| [1, 500, 60_000].map(|walked| rig.watcher.pause(&look(walked), rig.watcher.leisure(&look(walked))).as_millis());
    assert_eq!(pauses(&rig), [200, 4000, 10_000]);
    rig.watcher.trouble = Some("away".into());
    assert_eq!(pauses(&rig), [200, 200, 200]);
}

#[tokio::test]
async fn the_next_look_comes_sooner_where_something_is_not_as_it_should_be() {
    let mut rig = Rig::listed(HOUR).await;
    let restless = Look { restless: true, ..Look::default() };
    assert_eq!(rig.watcher.pause(&Look::default(), Duration::ZERO), RESYNC);
    assert_eq!(rig.watcher.pause(&restless, Duration::ZERO), REST);
    rig.watcher.is_watched = false;
    assert_eq!(rig.watcher.pause(&Look::default(), Duration::ZERO), POLL);
    rig.watcher.trouble = Some("away".into());
    assert_eq!(rig.watcher.pause(&Look::default(), Duration::ZERO), RETRY);
    assert_eq!(rig.watcher.pause(&restless, Duration::ZERO), REST);
}

#[tokio::test]
async fn git_at_work_matters_only_where_something_could_be_deleted() {
    let git = Look { git: Some("a git merge is under way".into()), ..Look::default() };
    let mut well = Rig::listed(HOUR).await;
    assert_eq!(well.watcher.diagnose(&git, false), None);
    assert_eq!(well.watcher.diagnose(&git, true), git.git, "in the first listing");
    well.watcher.trouble = Some("away".into());
    assert_eq!(well.watcher.diagnose(&git, false), git.git, "in trouble");
    assert_eq!(Rig::missing(HOUR).await.watcher.diagnose(&git, false), git.git, "while something is missing");
}

#[tokio::test]
async fn another_root_is_trusted_if_the_trusted_one_was_listed_and_nothing_of_it_is_missing() {
    for (has_listed, is_missing, is_trusted) in [(true, false, true), (false, false, false), (true, true, false), (false, true, false)] {
        let mut rig = if is_missing { Rig::missing(HOUR).await } else { Rig::listed(HOUR).await };
        rig.watcher.has_listed = has_listed;
        let look = Look { identity: Some("1:2".into()), ..Look::default() };
        let why = rig.watcher.diagnose(&look, false);
        assert_eq!(why.is_none(), is_trusted, "{has_listed} {is_missing}: {why:?}");
        assert_eq!(rig.watcher.shared.state().trusted.as_deref() == Some("1:2"), is_trusted);
    }
}

#[tokio::test]
async fn a_root_counts_as_listed_after_one_look_without_trouble() {
    let mut rig = Rig::listed(HOUR).await;
    rig.watcher.has_listed = false;
    for (look, has_listed) in [(in_trouble(Look::default()), false), (Look::default(), true), (in_trouble(Look::default()), true)] {
        rig.watcher.diagnose(&look, false);
        assert_eq!(rig.watcher.has_listed, has_listed);
    }
}

#[tokio::test]
async fn what_is_missing_counts_anew_in_trouble_and_in_the_look_that_ends_it() {
    let mut rig = Rig::missing(HOUR).await;
    let mut dues = vec![rig.due()];
    for (is_well, said) in [(true, vec![]), (false, vec!["unhealthy"]), (false, vec![]), (true, vec!["healthy"]), (true, vec![])] {
        let look = rig.look();
        let look = if is_well { look } else { in_trouble(look) };
        assert_eq!(rig.tell(&look, false).await, said);
        dues.push(rig.due());
    }
    let later: Vec<bool> = dues.windows(2).map(|pair| pair[0] < pair[1]).collect();
    assert_eq!(later, [false, true, true, true, false]);
}

#[tokio::test]
async fn nothing_is_gone_in_the_first_listing_or_while_files_are_being_written() {
    let mut rig = Rig::missing(Duration::ZERO).await;
    let long_ago = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
    rig.watcher.teller.doubt(long_ago);
    let look = rig.look();
    let restless = Look { restless: true, ..rig.look() };
    assert_eq!(rig.tell(&restless, false).await, [] as [&str; 0]);
    assert_eq!(rig.tell(&look, true).await, [] as [&str; 0]);
    assert_eq!(rig.tell(&look, false).await, ["gone a.yaml#0"]);
}

#[tokio::test]
async fn whoever_asks_for_another_look_hints() {
    let source = DirectorySource::new(Root::new("specs", None).unwrap(), Options { settle: HOUR, resync: RESYNC, remembered: None, is_writer: false });
    let mut hints = source.shared.hints.subscribe();
    for ask in [DirectorySource::rescan as fn(&DirectorySource), DirectorySource::accept] {
        ask(&source);
        assert!(hints.has_changed().unwrap());
        hints.mark_unchanged();
    }
}

#[tokio::test(start_paused = true)]
async fn files_that_are_written_all_the_time_are_trouble_in_the_first_listing() {
    // The looks take no time by this clock, and little by that of the file: where that is enough for it to come to rest, once more.
    for _ in 0..20 {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "a.yaml", &spec("a", "x"));
        let options = Options { settle: HOUR, resync: RESYNC, remembered: None, is_writer: true };
        let source = DirectorySource::new(Root::new(directory.path().to_str().unwrap(), None).unwrap(), options);
        let begin = tokio::time::Instant::now();
        let events: Vec<SourceEvent> = source.events().take(2).collect().await;
        if let [SourceEvent::Init, SourceEvent::Unhealthy(why)] = events.as_slice() {
            assert!(why.contains("are being written all the time"), "{why}");
            assert!(begin.elapsed() >= REST * PATIENCE, "{:?}", begin.elapsed());
            return;
        }
        let metadata = fs::metadata(directory.path().join("a.yaml")).unwrap();
        assert!(walk::Stamp::of(&metadata).age().is_some_and(|age| age >= REST), "{:?}", brief(&events));
    }
    panic!("it was never trouble");
}
