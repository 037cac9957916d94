//! Reading `runningHours`: days of the week, times of day and time zones.
//!
//! Zones come from the database inside the program, so that the same spec means the same instants on every host.

use std::sync::LazyLock;

use jiff::civil::{Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::workspace::RunningHours;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A value of `runningHours` that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HoursError {
    /// `days`.
    #[error("`{0}` is no list of days; write it like `Mon-Fri`, `Sat,Sun` or `Mon-Wed,Fri`")]
    Days(String),
    /// `from` or `to`.
    #[error("`{0}` is no time of day; write it like `\"08:00\"`, from 00:00 to 23:59")]
    Time(String),
    /// `timeZone`.
    #[error("`{0}` is no time zone; write a name of the IANA database such as `Europe/Berlin` or `UTC`")]
    Zone(String),
}

/// `runningHours` with every value understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Hours {
    /// The days on which the hours start, Monday first.
    pub days: [bool; 7],
    /// When they begin.
    pub from: Time,
    /// When they end; not later than `from` means the next day.
    pub to: Time,
    /// Where that is.
    pub zone: TimeZone,
}

impl RunningHours {
    /// Understands every value; the error is about the first that cannot be read.
    pub fn read(&self) -> Result<Hours, HoursError> {
        let zone = self.time_zone.as_deref().unwrap_or("UTC");
        Ok(Hours {
            days: self.days.as_deref().map_or(Ok([true; 7]), parse_days)?,
            from: parse_time(&self.from)?,
            to: parse_time(&self.to)?,
            zone: ZONES.get(zone).map_err(|_| HoursError::Zone(zone.to_owned()))?,
        })
    }
}

/// Days of the week, Monday first, from `Mon-Fri`, `Sat,Sun` or `Fri-Mon,Wed`; any case.
pub fn parse_days(text: &str) -> Result<[bool; 7], HoursError> {
    let error = || HoursError::Days(text.to_owned());
    let day = |name: &str| {
        let name = name.trim().to_ascii_lowercase();
        DAYS.iter().position(|known| *known == name).ok_or_else(error)
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        let length = (last + 7 - first) % 7;
        for offset in 0..=length {
            days[(first + offset) % 7] = true;
        }
    }
    Ok(days)
}

/// `HH:MM`, as the schema has it; `24:00` is written `00:00`.
pub fn parse_time(text: &str) -> Result<Time, HoursError> {
    let digits = |part: &str| (part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse::<i8>().ok()).flatten();
    text.split_once(':').and_then(|(hour, minute)| Time::new(digits(hour)?, digits(minute)?, 0, 0).ok()).ok_or_else(|| HoursError::Time(text.to_owned()))
}

impl Hours {
    /// Whether hours start on this day of the week.
    pub fn starts_on(&self, weekday: Weekday) -> bool {
        self.days[usize::from(weekday.to_monday_zero_offset().unsigned_abs())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(days: [bool; 7]) -> String {
        let marks = days.map(|day| if day { 'x' } else { '.' });
        marks.into_iter().collect()
    }

    #[test]
    fn days_are_ranges_and_lists() {
        for (text, expected) in [
            ("Mon-Fri", "xxxxx.."),
            ("Sat,Sun", ".....xx"),
            ("Mon-Wed,Fri", "xxx.x.."),
            ("fri-mon", "x...xxx"),
            ("Sun", "......x"),
            ("Mon - Tue , THU", "xx.x..."),
            ("Mon-Mon", "x......"),
        ] {
            assert_eq!(parse_days(text).map(written).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "Monday", "Mon-", "-Fri", "Mon,,Tue", "Mon-Wed-Fri", "weekdays"] {
            assert!(parse_days(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_and_zones_are_checked() {
        let hours =
            |from: &str, zone: Option<&str>| RunningHours { days: None, from: from.to_owned(), to: "18:00".to_owned(), time_zone: zone.map(str::to_owned) };
        assert!(hours("08:00", Some("Europe/Berlin")).read().is_ok());
        assert!(hours("00:00", None).read().is_ok());
        for from in ["24:00", "8:00", "08:60", "08:00:00", "+8:00", ""] {
            assert_eq!(hours(from, None).read(), Err(HoursError::Time(from.to_owned())));
        }
        assert_eq!(hours("08:00", Some("Mars/Olympus")).read(), Err(HoursError::Zone("Mars/Olympus".to_owned())));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (parse_days(&text), parse_time(&text));
        }
    }
}
