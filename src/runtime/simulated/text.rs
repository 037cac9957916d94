//! How Docker writes instants, durations and commands.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

/// RFC 3339 as Go writes it: without zeros at the end of the fraction.
pub fn instant(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| at.to_string())
}

/// `5 minutes`, `About an hour`.
pub fn about(time: Duration) -> String {
    let seconds = time.as_secs();
    let minutes = seconds / 60;
    // Docker rounds hours.
    let hours = (seconds + 1800) / 3600;
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3600 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// A command as a list shows it: arguments with blanks in quotes.
pub fn command(argv: &[String]) -> String {
    let mut words = argv.iter();
    let mut text = words.next().cloned().unwrap_or_default();
    for word in words {
        let quoted = word.contains(' ');
        text.push(' ');
        if quoted {
            text.push('\'');
        }
        text.push_str(word);
        if quoted {
            text.push('\'');
        }
    }
    text
}

/// An address.
pub fn ip(number: u32) -> String {
    std::net::Ipv4Addr::from(number).to_string()
}

/// Output as a terminal passes it on: each end of a line with a carriage return.
pub fn as_on_a_terminal(bytes: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        if *byte == b'\n' {
            out.push(b'\r');
        }
        out.push(*byte);
    }
    Bytes::from(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_as_docker_rounds_them() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (185, "3 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (172_800, "2 days"),
            (86_400 * 20, "2 weeks"),
        ] {
            assert_eq!(about(Duration::from_secs(seconds)), text);
        }
    }
}
