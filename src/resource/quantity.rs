//! Quantities as Docker users write them: `512m` of memory, `"0.5"` of a CPU, `30m` of time.
//!
//! Sizes are powers of 1024 in every spelling (`512m`, `512M`, `512mb`, `512Mi`, `512MiB`), as in Docker's own command line
//! (docker/go-units `RAMInBytes`). CPUs are decimal (`0.5`, `2`) or thousandths (`500m`). Durations follow systemd and Go
//! (`90s`, `1h30m`, `7d`), from one second up.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A quantity that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}; write it like {example}")]
pub struct QuantityError {
    text: String,
    what: &'static str,
    example: &'static str,
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || QuantityError { text: text.to_owned(), what: "a size", example: "`512m`, `2g` or `10Gi`" };
        let trimmed = text.trim();
        let split = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(split);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "ki" | "kib" => 10,
            "m" | "mb" | "mi" | "mib" => 20,
            "g" | "gb" | "gi" | "gib" => 30,
            "t" | "tb" | "ti" | "tib" => 40,
            "p" | "pb" | "pi" | "pib" => 50,
            _ => return Err(error()),
        };
        let value = decimal(number, 9).ok_or_else(error)?;
        let bytes = value.checked_mul(1u128 << shift).ok_or_else(error)? / 1_000_000_000;
        // Docker keeps sizes in an i64; more than that is a typing error.
        u64::try_from(bytes).ok().filter(|b| i64::try_from(*b).is_ok()).map(Bytes).ok_or_else(error)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "t"), (30, "g"), (20, "m"), (10, "k")] {
            if self.0 != 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// An amount of CPU time per wall-clock time, in billionths of one CPU (Docker's `NanoCpus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpu(pub i64);

impl FromStr for Cpu {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || QuantityError { text: text.to_owned(), what: "a number of CPUs", example: "`\"0.5\"`, `\"2\"` or `500m`" };
        let trimmed = text.trim();
        let (number, divisor) = match trimmed.strip_suffix('m') {
            Some(millis) => (millis, 1000),
            None => (trimmed, 1),
        };
        let value = decimal(number, 9).ok_or_else(error)? / divisor;
        i64::try_from(value).ok().filter(|n| *n >= 1_000_000).map(Cpu).ok_or_else(error)
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0 / 1_000_000_000;
        let rest = format!("{:09}", self.0 % 1_000_000_000);
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() { write!(f, "{whole}") } else { write!(f, "{whole}.{rest}") }
    }
}

/// A span of time of at least one second, in whole milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub jiff::SignedDuration);

impl Duration {
    /// So many seconds.
    pub const fn from_secs(seconds: i64) -> Self {
        Self(jiff::SignedDuration::from_secs(seconds))
    }

    /// The length in whole seconds.
    pub fn as_secs(self) -> i64 {
        self.0.as_secs()
    }
}

impl FromStr for Duration {
    type Err = QuantityError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || QuantityError { text: text.to_owned(), what: "a duration of one second or more", example: "`90s`, `30m`, `1h30m` or `7d`" };
        let parsed = Some(text.trim()).filter(|text| is_spelled_out(text)).and_then(|text| humantime::parse_duration(text).ok()).ok_or_else(error)?;
        let whole = i64::try_from(parsed.as_millis()).map_err(|_| error())?;
        let signed = jiff::SignedDuration::from_millis(whole);
        // A century bounds the arithmetic on instants.
        let valid = signed >= jiff::SignedDuration::from_secs(1) && signed <= jiff::SignedDuration::from_hours(24 * 36_525);
        valid.then_some(Duration(signed)).ok_or_else(error)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0ms");
        }
        for (unit, name) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")] {
            if millis >= unit {
                write!(f, "{}{name}", millis / unit)?;
                millis %= unit;
            }
        }
        Ok(())
    }
}

/// Whether a text is figures with their units, as the schema has it; to the library `5 0m` is 50 minutes.
fn is_spelled_out(text: &str) -> bool {
    let skip = |text: &mut &str, is: fn(char) -> bool| {
        let rest = text.trim_start_matches(is);
        let skipped = rest.len() < text.len();
        *text = rest;
        skipped
    };
    let mut rest = text;
    while !rest.is_empty() {
        let whole = skip(&mut rest, |c| c.is_ascii_digit());
        let fraction = rest.strip_prefix('.').inspect(|after| rest = after).is_none() || skip(&mut rest, |c| c.is_ascii_digit());
        skip(&mut rest, char::is_whitespace);
        let unit = skip(&mut rest, |c| c.is_ascii_alphabetic());
        skip(&mut rest, char::is_whitespace);
        if !(whole && fraction && unit) {
            return false;
        }
    }
    true
}

/// A non-negative decimal as an integer scaled by 10^`digits`; further digits are cut.
fn decimal(text: &str, digits: usize) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if text.is_empty() || text.ends_with('.') || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') || fraction.contains('.') {
        return None;
    }
    let padded: String = fraction.chars().chain(std::iter::repeat('0')).take(digits).collect();
    format!("{whole}{padded}").parse().ok()
}

macro_rules! textual {
    ($type:ident, $name:literal, $expecting:literal, $pattern:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: de::Error>(self, value: u64) -> Result<$type, E> {
                        value.to_string().parse().map_err(E::custom)
                    }
                    fn visit_i64<E: de::Error>(self, value: i64) -> Result<$type, E> {
                        value.to_string().parse().map_err(E::custom)
                    }
                    fn visit_f64<E: de::Error>(self, value: f64) -> Result<$type, E> {
                        value.to_string().parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({"description": $expecting, "type": ["string", "number"], "pattern": $pattern})
            }
        }
    };
}

textual!(Bytes, "Bytes", "a size such as `512m`, `2g` or `10Gi`", r"^\s*[0-9]*\.?[0-9]+\s*([kKmMgGtTpP]?[iI]?[bB]?)\s*$");
textual!(Cpu, "Cpu", "a number of CPUs such as `\"0.5\"`, `\"2\"` or `500m`", r"^\s*[0-9]*\.?[0-9]+m?\s*$");
textual!(Duration, "Duration", "a duration such as `90s`, `30m`, `1h30m` or `7d`", r"^\s*([0-9]+(\.[0-9]+)?\s*[a-zA-Z]+\s*)+$");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in
            [("512m", 512 << 20), ("2g", 2 << 30), ("512Mi", 512 << 20), ("2Gi", 2 << 30), ("10k", 10 << 10), ("1.5g", 3 << 29), ("42", 42), ("1TB", 1 << 40)]
        {
            assert_eq!(text.parse::<Bytes>(), Ok(Bytes(bytes)), "{text}");
        }
        for text in ["", "m", "-1m", "1x", "1.2.3m", "99999999999999p", "1e3", "2."] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn cpus_are_decimal_or_thousandths() {
        for (text, nanos) in [("0.5", 500_000_000), ("2", 2_000_000_000), ("500m", 500_000_000), ("1.25", 1_250_000_000)] {
            assert_eq!(text.parse::<Cpu>(), Ok(Cpu(nanos)), "{text}");
        }
        for text in ["", "0", "-1", "1c", "0.0000001"] {
            assert!(text.parse::<Cpu>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_start_at_one_second() {
        for (text, seconds) in [("1s", 1), ("90s", 90), ("1h30m", 5400), ("7d", 604_800), ("2w", 1_209_600), ("1.5h", 5400)] {
            assert_eq!(text.parse::<Duration>(), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "0s", "500ms", "30", "-5m", "5x", "9999999d", "2000000µs", "5 0m", "1.h", ".5h"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_keep_their_milliseconds() {
        assert_eq!("1500ms".parse::<Duration>().map(|duration| duration.to_string()), Ok("1s500ms".to_owned()));
        assert_eq!("2s 300us".parse::<Duration>().map(|duration| duration.to_string()), Ok("2s".to_owned()));
    }

    proptest! {
        #[test]
        fn printing_and_reading_agree(bytes in 0u64..(i64::MAX as u64), nanos in 1_000_000i64..1_000_000_000_000, seconds in 1i64..3_000_000_000) {
            prop_assert_eq!(Bytes(bytes).to_string().parse(), Ok(Bytes(bytes)));
            prop_assert_eq!(Cpu(nanos).to_string().parse(), Ok(Cpu(nanos)));
            let duration = Duration(jiff::SignedDuration::from_millis(seconds * 1000 + nanos % 1000));
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (text.parse::<Bytes>(), text.parse::<Cpu>(), text.parse::<Duration>());
        }
    }
}
