//! Spans that began at an instant of a clock that may have been set back since.
//!
//! Instants of containers and of history are those of a wall clock. One that lies far ahead of now was taken before the clock was set back:
//! nothing tells how much time has passed since, and nothing is to wait for it to come round again.

use jiff::{SignedDuration, Timestamp};

/// The most that the engine's clock may be ahead of ours.
const SKEW: SignedDuration = SignedDuration::from_mins(1);

/// Whether an instant is of the present clock.
pub fn is_of_this_clock(at: Timestamp, now: Timestamp) -> bool {
    at <= now + SKEW
}

/// When a span is over that began at an instant; at once, where that is of a clock that was set back.
pub fn end_of(since: Timestamp, span: SignedDuration, now: Timestamp) -> Timestamp {
    if is_of_this_clock(since, now) { since + span } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_waited_for_and_a_clock_that_was_set_back_is_not() {
        let now: Timestamp = "2026-03-02T10:00:00Z".parse().unwrap();
        let (span, second) = (SignedDuration::from_secs(2), SignedDuration::from_secs(1));
        assert_eq!(end_of(now - second, span, now), now + second);
        assert_eq!(end_of(now + second, span, now), now + SignedDuration::from_secs(3), "the engine's clock is a little ahead");
        assert_eq!(end_of(now + SignedDuration::from_hours(24), span, now), now);
    }
}
