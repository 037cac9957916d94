//! Samples, what is made of them, and the tables of docs/performance.md.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// The middle one.
pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// The one that this share of them does not exceed.
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 - 1.0) * share).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Milliseconds.
pub fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// What the same work cost each contender, in milliseconds, one sample a round.
#[derive(Default)]
pub struct Race {
    /// The work.
    pub what: String,
    /// The floor.
    pub floor: Vec<f64>,
    /// The operator, from its first call.
    pub ours: Vec<f64>,
    /// The operator, from what a person does.
    pub whole: Vec<f64>,
    /// `docker compose`, from its start to its end.
    pub compose: Vec<f64>,
    /// The most that the operator may take, as a multiple of the floor.
    pub budget: f64,
    /// The same of the 95th of a hundred, where there is one.
    pub tail: Option<f64>,
    /// Whether `docker compose` must not be faster.
    pub beats_compose: bool,
}

impl Race {
    /// The work with its budget.
    pub fn new(what: impl Into<String>, budget: f64) -> Self {
        Self { what: what.into(), budget, ..Self::default() }
    }

    fn row(&self) -> String {
        let ratios = |samples: &[f64]| samples.iter().zip(&self.floor).map(|(sample, floor)| sample / floor).collect::<Vec<_>>();
        let ours = ratios(&self.ours);
        let mut budget = met(&format!("≤ {} ×", self.budget), median(&ours) / self.budget);
        if let Some(tail) = self.tail {
            let found = quantile(&self.ours, 0.95) / median(&self.floor);
            let _ = write!(budget, "; p95 {found:.2} ×: {}", met(&format!("≤ {tail} ×"), found / tail));
        }
        if !self.compose.is_empty() {
            let slower = median(&self.whole) > median(&self.compose);
            budget += match (slower, self.beats_compose) {
                (true, true) => "; not slower than compose, all in: **missed**",
                (true, false) => "; slower than compose",
                (false, true) => "; not slower than compose: met",
                (false, false) => "",
            };
        }
        let cells = [format!("{:.0} ms", median(&self.floor)), spread(&ours), spread(&ratios(&self.whole)), spread(&ratios(&self.compose)), budget];
        format!("| {} | {} |", self.what, cells.join(" | "))
    }
}

/// The median of ratios, with the least and the most.
fn spread(ratios: &[f64]) -> String {
    if ratios.is_empty() {
        return String::new();
    }
    format!("**{:.2} ×** ({:.2}–{:.2})", median(ratios), quantile(ratios, 0.0), quantile(ratios, 1.0))
}

/// Whether a budget is met; `used` is the share of it that is used.
pub fn met(budget: &str, used: f64) -> String {
    if used <= 1.0 { format!("{budget}: met") } else { format!("{budget}: **missed by {:.0} %**", (used - 1.0) * 100.0) }
}

/// One figure that has a budget of its own.
pub struct Figure {
    /// What it is of.
    pub what: String,
    /// What was found, in words.
    pub found: String,
    /// Its budget, and whether that is met.
    pub budget: String,
}

/// The table of one real engine.
pub fn of_engine(heading: &str, races: &[Race], figures: &[Figure]) -> String {
    let mut text =
        format!("{heading}\n\n| | floor | operator, from its first call | operator, all in | docker compose | budget |\n|---|---|---|---|---|---|\n");
    for race in races {
        text += &race.row();
        text.push('\n');
    }
    text += "\n| | found | budget |\n|---|---|---|\n";
    for figure in figures {
        let _ = writeln!(text, "| {} | {} | {} |", figure.what, figure.found, figure.budget);
    }
    text
}

/// What was found with that many objects.
#[derive(Default)]
pub struct Crowd {
    /// How many.
    pub size: usize,
    /// Time of a core to make them all.
    pub converge: Duration,
    /// From the start of a run to its end, with nothing to do.
    pub cold: Duration,
    /// Time of a core for that.
    pub cold_cpu: Duration,
    /// Time of a core for a pass over all of them.
    pub resync: Duration,
    /// Time of a core for the bytes of its calls alone.
    pub floor: Duration,
    /// Calls of a pass.
    pub calls: f64,
    /// Inspects among them.
    pub inspects: f64,
    /// From an event to the first call, after a second in which nothing happened.
    pub event: Vec<Duration>,
    /// The same of events that follow each other.
    pub event_in_a_row: Vec<Duration>,
    /// The same of a client that does nothing else.
    pub event_floor: Vec<Duration>,
    /// To read a byte of a page of memory that rested for two seconds.
    pub page: Duration,
    /// Resident memory at rest, in bytes.
    pub memory: u64,
    /// The most memory that was seen.
    pub peak: u64,
}

/// The table of the simulated engine.
pub fn of_crowds(heading: &str, crowds: &[Crowd]) -> String {
    let each = |time: Duration, crowd: &Crowd| time.as_secs_f64() * 1e6 / crowd.size as f64;
    let all_ms = |times: &[Duration]| times.iter().map(|time| ms(*time)).collect::<Vec<_>>();
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    type Column<'a> = Box<dyn Fn(&Crowd) -> f64 + 'a>;
    type Budget = Option<fn(&Crowd) -> Option<f64>>;
    let rows: Vec<(&str, &str, Column, Budget)> = vec![
        ("make them all, µs of a core each", "", Box::new(|crowd| each(crowd.converge, crowd)), None),
        ("cold start, s", "", Box::new(|crowd| crowd.cold.as_secs_f64()), None),
        ("cold start, µs of a core each", "", Box::new(|crowd| each(crowd.cold_cpu, crowd)), None),
        ("quiet resync, µs of a core each", "≤ 5 µs", Box::new(|crowd| each(crowd.resync, crowd)), Some(|_| Some(5.0))),
        ("the bytes of its calls alone, µs of a core each", "", Box::new(|crowd| each(crowd.floor, crowd)), None),
        ("quiet resync, calls", "", Box::new(|crowd| crowd.calls), None),
        ("quiet resync, inspects among them", "0", Box::new(|crowd| crowd.inspects), Some(|_| Some(0.0))),
        ("an event after a rest to the first call, ms", "≤ 1 ms", Box::new(|crowd| median(&all_ms(&crowd.event))), Some(|_| Some(1.0))),
        ("the same, p95, ms", "", Box::new(|crowd| quantile(&all_ms(&crowd.event), 0.95)), None),
        ("one of events in a row to the first call, ms", "≤ 1 ms", Box::new(|crowd| median(&all_ms(&crowd.event_in_a_row))), Some(|_| Some(1.0))),
        ("the same of a client that does nothing else, ms", "", Box::new(|crowd| median(&all_ms(&crowd.event_floor))), None),
        ("a page of memory that rested for two seconds, µs", "", Box::new(|crowd| crowd.page.as_secs_f64() * 1e6), None),
        (
            "memory at rest, MB",
            "≤ 30 MB with 100, ≤ 150 MB with 10,000",
            Box::new(|crowd| megabytes(crowd.memory)),
            Some(|crowd| match crowd.size {
                ..=100 => Some(30.0),
                101..=10_000 => Some(150.0),
                _ => None,
            }),
        ),
        ("most memory, MB", "", Box::new(|crowd| megabytes(crowd.peak)), None),
    ];
    let sizes: Vec<String> = crowds.iter().map(|crowd| crowd.size.to_string()).collect();
    let mut text = format!("{heading}\n\n| objects | {} | growth | budget |\n|---{}|---|---|\n", sizes.join(" | "), "|---".repeat(crowds.len()));
    for (what, budget, value, limit) in rows {
        let cells: Vec<String> = crowds.iter().map(|crowd| number(value(crowd))).collect();
        let over = |crowd: &&Crowd| limit.and_then(|limit| limit(crowd)).is_some_and(|limit| value(crowd) > limit);
        let missed: Vec<String> = crowds.iter().filter(over).map(|crowd| crowd.size.to_string()).collect();
        let verdict = match (budget, missed.as_slice()) {
            ("", _) => String::new(),
            (_, []) => format!("{budget}: met"),
            (_, missed) => format!("{budget}: **missed with {}**", missed.join(", ")),
        };
        let _ = writeln!(text, "| {what} | {} | {} | {verdict} |", cells.join(" | "), growth(crowds, &value));
    }
    text
}

fn number(value: f64) -> String {
    if value >= 100.0 || value == value.trunc() { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// The exponent of the growth over the last two sizes: 0 stays the same, 1 grows as the number of objects does.
fn growth(crowds: &[Crowd], value: &dyn Fn(&Crowd) -> f64) -> String {
    let [.., before, last] = crowds else { return String::new() };
    let exponent = (value(last) / value(before)).ln() / (last.size as f64 / before.size as f64).ln();
    if exponent.is_finite() { format!("n^{exponent:.2}") } else { String::new() }
}

/// Puts a part into the file, in the place of what was there under that name.
pub fn write(file: &Path, name: &str, part: &str) -> std::io::Result<()> {
    let (begin, end) = (format!("<!-- {name}: written by the benchmark -->\n"), format!("<!-- end of {name} -->\n"));
    let text = std::fs::read_to_string(file)?;
    let whole = format!("{begin}{part}{end}");
    let text = match (text.find(&begin), text.find(&end)) {
        (Some(from), Some(to)) => text[..from].to_owned() + &whole + &text[to + end.len()..],
        _ => text + "\n" + &whole,
    };
    std::fs::write(file, text)
}
