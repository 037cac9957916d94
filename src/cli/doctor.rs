//! `doctor`: what its checks found, and how that is told. The checks themselves need adapters; the program makes them.

use serde::Serialize;
use serde_json::json;

use super::args::TextOrJson;
use super::out::{self, Failure, Out};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// Something does not work.
    Fail,
}

impl Verdict {
    fn as_str(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        }
    }
}

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at: `engine`, `rights`, `source specs`.
    pub check: String,
    /// How it ended.
    pub result: Verdict,
    /// What was found: one line.
    pub message: String,
    /// What to do; only where it is not ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// All that was found, in the order of looking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The checks.
    pub checks: Vec<Check>,
}

impl Report {
    /// As it should be.
    pub fn ok(&mut self, check: &str, message: impl Into<String>) {
        self.add(check, Verdict::Ok, message.into(), None);
    }

    /// It works, and somebody should do this.
    pub fn warn(&mut self, check: &str, message: impl Into<String>, next: impl Into<String>) {
        self.add(check, Verdict::Warn, message.into(), Some(next.into()));
    }

    /// It does not work until somebody does this.
    pub fn fail(&mut self, check: &str, message: impl Into<String>, next: impl Into<String>) {
        self.add(check, Verdict::Fail, message.into(), Some(next.into()));
    }

    fn add(&mut self, check: &str, result: Verdict, message: String, next: Option<String>) {
        self.checks.push(Check { check: check.to_owned(), result, message, next });
    }

    /// The worst of it.
    pub fn worst(&self) -> Verdict {
        self.checks.iter().map(|check| check.result).max().unwrap_or(Verdict::Ok)
    }

    /// Prints it and gives the exit code: 0, or 1 where a check failed.
    ///
    /// # Errors
    /// Standard output is gone.
    pub fn print(&self, out: &mut Out, form: TextOrJson) -> Result<u8, Failure> {
        match form {
            TextOrJson::Json => out.line(format_args!("{:#}", json!({ "result": self.worst(), "checks": self.checks })))?,
            TextOrJson::Text => self.text(out)?,
        }
        Ok(if self.worst() == Verdict::Fail { out::ERROR } else { out::DONE })
    }

    fn text(&self, out: &mut Out) -> Result<(), Failure> {
        use owo_colors::OwoColorize;
        let width = self.checks.iter().map(|check| check.check.chars().count()).max().unwrap_or_default();
        for Check { check, result, message, next } in &self.checks {
            let word = format!("{:<4}", result.as_str());
            let word = match result {
                Verdict::Ok => word.green().to_string(),
                Verdict::Warn => word.yellow().to_string(),
                Verdict::Fail => word.red().bold().to_string(),
            };
            let indent = " ".repeat(width + 8);
            out.line(format_args!("{word}  {check:<width$}  {}", message.replace('\n', &format!("\n{indent}"))))?;
            if let Some(next) = next {
                out.line(format_args!("{:indent$}-> {next}", "", indent = width + 8))?;
            }
        }
        let count = |verdict| self.checks.iter().filter(|check| check.result == verdict).count();
        out.line(format_args!("\n{} ok, {} to look at, {} failed", count(Verdict::Ok), count(Verdict::Warn), count(Verdict::Fail)))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Sink;
    use super::*;

    fn printed(report: &Report, form: TextOrJson) -> (u8, String) {
        let sink = Sink::default();
        let code = report.print(&mut Out::to(sink.clone(), Sink::default()), form).unwrap();
        (code, sink.text())
    }

    #[test]
    fn lines_are_aligned_and_each_trouble_has_a_next_step() {
        let mut report = Report::default();
        report.ok("engine", "Docker 28.5.1");
        report.warn("source specs", "one file cannot be used\nshop.yaml:3:1: error", "run `dockmaster validate specs`");
        assert_eq!(
            printed(&report, TextOrJson::Text),
            (
                0,
                "ok    engine        Docker 28.5.1\n\
                 warn  source specs  one file cannot be used\n                    shop.yaml:3:1: error\n                    \
                 -> run `dockmaster validate specs`\n\n1 ok, 1 to look at, 0 failed\n"
                    .to_owned()
            )
        );
    }

    #[test]
    fn a_failure_is_the_exit_code_in_both_forms() {
        let mut report = Report::default();
        assert_eq!(printed(&report, TextOrJson::Text).0, 0);
        report.fail("rights", "POST /containers/create is denied", "allow it");
        report.ok("clock", "they agree");
        assert_eq!(printed(&report, TextOrJson::Text).0, 1);
        let (code, text) = printed(&report, TextOrJson::Json);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((code, &value["result"], &value["checks"][0]["next"]), (1, &json!("fail"), &json!("allow it")));
        assert_eq!(value["checks"][1], json!({"check": "clock", "result": "ok", "message": "they agree"}));
    }
}
