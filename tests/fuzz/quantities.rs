//! Sizes, CPUs, durations and running hours, one a line: what is read prints as what reads the same, is what the figures say, and lies within
//! its bounds; and the schema that editors use accepts it.

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::sync::LazyLock;

use dockmaster::resource::hours::{parse_days, parse_time};
use dockmaster::resource::{Bytes, Cpu, Duration};
use dockmaster::source::schema::schema;
use serde_json::{Value, json};

use crate::run::{Outcome, outcome};

pub fn check(input: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(input);
    outcome(text.lines().map(line).collect::<Vec<_>>())
}

fn line(text: &str) -> [bool; 5] {
    let size = read::<Bytes>("Bytes", text);
    if let Some(size) = size {
        assert!(i64::try_from(size.0).is_ok(), "{text}");
        let unit = |c: char| 1u64 << (10 * "bkmgtp".find(c).unwrap());
        let lower = text.trim().to_ascii_lowercase();
        let scale = lower.chars().find(char::is_ascii_alphabetic).map_or(1, unit);
        near(text, size.0 as f64, scale as f64, 1.0);
    }
    let cpu = read::<Cpu>("Cpu", text);
    if let Some(cpu) = cpu {
        assert!(cpu.0 >= 1_000_000, "{text}");
        near(text, cpu.0 as f64, if text.contains('m') { 1e6 } else { 1e9 }, 1.0);
    }
    let duration = read::<Duration>("Duration", text);
    if let Some(duration) = duration {
        assert!((1..=36_525 * 86_400).contains(&duration.as_secs()), "{text}");
    }
    // A day or a time that can be read is one of a week, and of a day.
    let days = parse_days(text).is_ok_and(|days| days.contains(&true));
    let time = parse_time(text).inspect(|time| assert_eq!(time.strftime("%H:%M").to_string(), text));
    [size.is_some(), cpu.is_some(), duration.is_some(), days, time.is_ok()]
}

/// Reads a quantity; what can be read prints and reads as itself, also as a value of JSON.
fn read<T: FromStr + Display + PartialEq + Debug + Copy + serde::de::DeserializeOwned + serde::Serialize>(name: &str, text: &str) -> Option<T> {
    let value: T = text.parse().ok()?;
    let printed = value.to_string();
    assert_eq!(printed.parse::<T>().ok(), Some(value), "{name} {text:?} prints as {printed:?}");
    assert_eq!(serde_json::from_value::<T>(serde_json::to_value(value).unwrap()).ok(), Some(value), "{name} {text:?} in JSON");
    for text in [text, &printed] {
        assert!(validator(name).is_valid(&json!(text)), "the schema refuses {name} {text:?}");
    }
    Some(value)
}

/// The figure that opens the text, times its unit, is the value but for what is cut.
fn near(text: &str, value: f64, scale: f64, cut: f64) {
    let figure: String = text.trim().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let figure: f64 = figure.parse().unwrap();
    let expected = figure * scale;
    assert!((value - expected).abs() <= cut + expected * 1e-9 + scale * 1e-9, "{text:?} is read as {value}, not {expected}");
}

/// What an editor thinks of a quantity.
fn validator(name: &str) -> &'static jsonschema::Validator {
    static ALL: LazyLock<Vec<(&str, jsonschema::Validator)>> = LazyLock::new(|| {
        let definition = |name| {
            let Value::Object(all) = &schema(dockmaster::resource::Kind::Workspace)["$defs"] else { panic!("no definitions") };
            (name, jsonschema::validator_for(&all[name]).unwrap())
        };
        ["Bytes", "Cpu", "Duration"].map(definition).into()
    });
    &ALL.iter().find(|(known, _)| *known == name).unwrap().1
}
