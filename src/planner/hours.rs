//! Running hours: whether an instant lies within them, and when that changes.
//!
//! A window belongs to the day on which it starts. Where the clock jumps, a time in the gap means the instant after it by the same
//! distance (02:30 becomes 03:30), and a time that comes twice means the first.

use jiff::civil::DateTime;
use jiff::{Span, Timestamp};

use crate::resource::hours::{Hours, HoursError};
use crate::resource::workspace::RunningHours;

/// What the hours say of an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoursState {
    /// Whether it may run.
    pub inside: bool,
    /// The first later instant at which that is no longer so; `None`: never, the hours cover the whole week.
    pub next_change: Option<Timestamp>,
}

/// Two weeks hold every window of a weekly pattern, even where a gap swallows one.
const AHEAD: i32 = 16;
/// A window starts at most two days before it ends, and neighbours join.
const BEHIND: i32 = 3;

/// Whether `now` lies within the hours, and when that changes.
pub fn window(hours: &RunningHours, now: Timestamp) -> Result<HoursState, HoursError> {
    let hours = hours.read()?;
    let spans = joined(&hours, now);
    let current = spans.iter().find(|(start, end)| *start <= now && now < *end);
    let (inside, next_change) = match current {
        Some((_, end)) => (true, Some(*end)),
        None => (false, spans.iter().map(|(start, _)| *start).find(|start| *start > now)),
    };
    // Windows that join up over more than a week join up for ever.
    let endless = inside && next_change.is_some_and(|end| end.duration_since(now).as_hours() > 10 * 24);
    Ok(HoursState { inside, next_change: next_change.filter(|_| !endless) })
}

/// The windows around an instant in their order, those that touch made one.
fn joined(hours: &Hours, now: Timestamp) -> Vec<(Timestamp, Timestamp)> {
    let today = now.to_zoned(hours.zone.clone()).date();
    let instant = |local: DateTime| local.to_zoned(hours.zone.clone()).ok().map(|zoned| zoned.timestamp());
    let mut spans: Vec<(Timestamp, Timestamp)> = Vec::new();
    for offset in -BEHIND..=AHEAD {
        let Ok(day) = today.checked_add(Span::new().days(offset)) else { continue };
        if !hours.starts_on(day.weekday()) {
            continue;
        }
        let last = if hours.to <= hours.from { day.tomorrow() } else { Ok(day) };
        let (Some(start), Some(end)) = (instant(day.to_datetime(hours.from)), last.ok().and_then(|last| instant(last.to_datetime(hours.to)))) else {
            continue;
        };
        match spans.last_mut() {
            Some((_, known)) if *known >= start => *known = end.max(*known),
            Some(_) | None if start < end => spans.push((start, end)),
            // A gap in the clock swallowed it.
            Some(_) | None => {}
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hours(days: &str, from: &str, to: &str, zone: &str) -> RunningHours {
        RunningHours { days: Some(days.to_owned()), from: from.to_owned(), to: to.to_owned(), time_zone: Some(zone.to_owned()) }
    }

    /// days, from, to, zone, now, inside, next change
    type Row = (&'static str, &'static str, &'static str, &'static str, &'static str, bool, &'static str);

    fn check(rows: &[Row]) {
        for (days, from, to, zone, now, inside, next) in rows {
            let state = window(&hours(days, from, to, zone), now.parse().unwrap()).unwrap();
            let found = (state.inside, state.next_change.map(|at| at.to_string()));
            assert_eq!(found, (*inside, Some((*next).to_owned())), "{days} {from}-{to} {zone} at {now}");
        }
    }

    #[test]
    fn working_hours_and_nights() {
        check(&[
            // 2026-03-02 is a Monday.
            ("Mon-Fri", "08:00", "19:00", "UTC", "2026-03-02T07:59:59Z", false, "2026-03-02T08:00:00Z"),
            ("Mon-Fri", "08:00", "19:00", "UTC", "2026-03-02T08:00:00Z", true, "2026-03-02T19:00:00Z"),
            ("Mon-Fri", "08:00", "19:00", "UTC", "2026-03-06T19:00:00Z", false, "2026-03-09T08:00:00Z"),
            ("Mon-Fri", "08:00", "19:00", "Europe/Berlin", "2026-03-02T07:00:00Z", true, "2026-03-02T18:00:00Z"),
            ("Mon-Fri", "08:00", "19:00", "America/New_York", "2026-03-02T12:59:59Z", false, "2026-03-02T13:00:00Z"),
            // The night of Friday goes on into Saturday, and Saturday has none of its own.
            ("Fri", "22:00", "06:00", "UTC", "2026-03-07T05:59:00Z", true, "2026-03-07T06:00:00Z"),
            ("Fri", "22:00", "06:00", "UTC", "2026-03-07T22:30:00Z", false, "2026-03-13T22:00:00Z"),
            // Equal times are a whole day, and neighbouring days join.
            ("Sat,Sun", "00:00", "00:00", "UTC", "2026-03-07T12:00:00Z", true, "2026-03-09T00:00:00Z"),
            ("Mon-Tue", "20:00", "20:00", "UTC", "2026-03-02T21:00:00Z", true, "2026-03-04T20:00:00Z"),
        ]);
    }

    #[test]
    fn spring_nights() {
        check(&[
            // Berlin, 2026-03-29: 02:00 CET is 03:00 CEST.
            ("Sun", "02:30", "06:00", "Europe/Berlin", "2026-03-29T00:59:00Z", false, "2026-03-29T01:30:00Z"),
            ("Sun", "02:30", "06:00", "Europe/Berlin", "2026-03-29T01:30:00Z", true, "2026-03-29T04:00:00Z"),
            ("Sat", "22:00", "02:30", "Europe/Berlin", "2026-03-29T01:00:00Z", true, "2026-03-29T01:30:00Z"),
            ("Sat", "20:00", "08:00", "Europe/Berlin", "2026-03-28T20:00:00Z", true, "2026-03-29T06:00:00Z"),
            // 02:30 means 03:30, after the end: the window is swallowed, the next is a week later.
            ("Sun", "02:30", "03:15", "Europe/Berlin", "2026-03-28T12:00:00Z", false, "2026-04-05T00:30:00Z"),
            // And at its end exactly: nothing is left of the window.
            ("Sun", "02:30", "03:30", "Europe/Berlin", "2026-03-28T12:00:00Z", false, "2026-04-05T00:30:00Z"),
            // New York, 2026-03-08: 02:00 EST is 03:00 EDT.
            ("Sun", "02:30", "06:00", "America/New_York", "2026-03-08T06:00:00Z", false, "2026-03-08T07:30:00Z"),
            ("Mon-Sun", "09:00", "17:00", "America/New_York", "2026-03-07T23:00:00Z", false, "2026-03-08T13:00:00Z"),
        ]);
    }

    #[test]
    fn autumn_nights() {
        check(&[
            // Berlin, 2026-10-25: 03:00 CEST is 02:00 CET; 02:30 comes at 00:30Z and again at 01:30Z.
            ("Sun", "02:30", "06:00", "Europe/Berlin", "2026-10-25T00:00:00Z", false, "2026-10-25T00:30:00Z"),
            ("Sat", "22:00", "02:30", "Europe/Berlin", "2026-10-25T00:29:59Z", true, "2026-10-25T00:30:00Z"),
            ("Sat", "22:00", "02:30", "Europe/Berlin", "2026-10-25T01:00:00Z", false, "2026-10-31T21:00:00Z"),
            ("Sat", "20:00", "08:00", "Europe/Berlin", "2026-10-24T19:00:00Z", true, "2026-10-25T07:00:00Z"),
            // New York, 2026-11-01: 01:30 comes at 05:30Z and again at 06:30Z.
            ("Sun", "01:30", "06:00", "America/New_York", "2026-11-01T05:00:00Z", false, "2026-11-01T05:30:00Z"),
            ("Sun", "01:30", "06:00", "America/New_York", "2026-11-01T06:00:00Z", true, "2026-11-01T11:00:00Z"),
        ]);
    }

    #[test]
    fn hours_that_cover_the_week_never_change() {
        for zone in ["UTC", "Europe/Berlin", "America/New_York"] {
            let state = window(&hours("Mon-Sun", "02:30", "02:30", zone), "2026-03-28T12:00:00Z".parse().unwrap()).unwrap();
            assert_eq!(state, HoursState { inside: true, next_change: None }, "{zone}");
        }
    }

    #[test]
    fn unreadable_hours_are_errors() {
        let now = Timestamp::UNIX_EPOCH;
        assert!(window(&hours("Mo-Fr", "08:00", "19:00", "UTC"), now).is_err());
        assert!(window(&hours("Mon-Fri", "08:00", "19:00", "Nowhere"), now).is_err());
    }

    proptest! {
        #[test]
        fn the_next_change_is_later_and_is_one(
            days in proptest::array::uniform7(any::<bool>()), from in 0i32..1440, to in 0i32..1440,
            zone in proptest::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
            second in 1_700_000_000i64..1_900_000_000,
        ) {
            let names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
            let days: Vec<&str> = names.into_iter().zip(days).filter_map(|(name, on)| on.then_some(name)).collect();
            prop_assume!(!days.is_empty());
            let clock = |minutes: i32| format!("{:02}:{:02}", minutes / 60, minutes % 60);
            let hours = hours(&days.join(","), &clock(from), &clock(to), zone);
            let now = Timestamp::from_second(second).unwrap();
            let state = window(&hours, now).unwrap();
            match state.next_change {
                Some(next) => {
                    prop_assert!(next > now);
                    prop_assert_eq!(window(&hours, next).unwrap().inside, !state.inside);
                    let before = next - jiff::SignedDuration::from_secs(1);
                    prop_assert_eq!(window(&hours, before).unwrap().inside, state.inside);
                }
                None => prop_assert!(state.inside && days.len() == 7),
            }
        }
    }
}
