//! `validate`, `schema`, `explain`: what can be said of specs without an operator.

use std::io::Read;
use std::path::PathBuf;

use clap::Args;

use super::out::{self, Failure};
use super::{Context, names};
use crate::source::parse::{Parsed, parse_bytes};
use crate::source::report::{Report, validate_paths};
use crate::source::select::{FileContext, MAX_FILE_BYTES, NamespaceRule};
use crate::source::{explain as explanation, schema as schemas};

/// `validate`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster validate ./my-specs
  dockmaster validate shop.yaml blog.yaml
  cat shop.yaml | dockmaster validate -

All errors of all files are printed, each with file, line and column. Exit code 1 if there are any.")]
pub struct ValidateArgs {
    /// Files and directories; - reads standard input
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
}

/// `schema`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster schema
  dockmaster schema workspace > workspace.json")]
pub struct SchemaArgs {
    /// The kind
    #[arg(value_name = "KIND")]
    pub kind: Option<String>,
}

/// `explain`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:
  dockmaster explain workspace
  dockmaster explain workspace.spec.idle.timeout")]
pub struct ExplainArgs {
    /// KIND or KIND.path.to.field
    #[arg(value_name = "KIND[.path]")]
    pub path: String,
}

/// Prints every error of every file; the exit code says whether there are any.
pub fn validate(context: &mut Context<'_>, arguments: &ValidateArgs) -> Result<u8, Failure> {
    let report = read(&arguments.paths)?;
    let errors = tell(context, &report)?;
    let (files, objects) = (report.files.len(), report.items.len());
    context.out.note(format_args!("{}, {}, {}", count(files, "file"), count(objects, "good object"), count(errors, "error")))?;
    Ok(if errors > 0 { out::ERROR } else { out::DONE })
}

/// Reads files, directories and, as `-`, standard input.
pub fn read(paths: &[PathBuf]) -> Result<Report, Failure> {
    let (stdin, paths): (Vec<PathBuf>, Vec<PathBuf>) = paths.iter().cloned().partition(|path| path.as_os_str() == "-");
    let mut report = validate_paths(&paths);
    if !stdin.is_empty() {
        let mut bytes = Vec::new();
        std::io::stdin().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        let file = FileContext {
            display: "-".to_owned(),
            source: "-".to_owned(),
            path: "-".to_owned(),
            directory: std::env::current_dir()?,
            namespace: NamespaceRule::Root,
        };
        let Parsed { items, problems, .. } = parse_bytes(&bytes, &file);
        report.files.insert(PathBuf::from("-"));
        report.items.extend(items);
        report.problems.extend(problems);
    }
    Ok(report)
}

/// Prints what is wrong and counts the errors.
pub fn tell(context: &mut Context<'_>, report: &Report) -> Result<usize, Failure> {
    for problem in &report.problems {
        context.out.note(problem.rendered())?;
    }
    Ok(report.problems.iter().filter(|problem| problem.severity == crate::source::render::Severity::Error).count())
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Prints the JSON Schema.
pub fn schema(context: &mut Context<'_>, arguments: &SchemaArgs) -> Result<(), Failure> {
    let schema = match &arguments.kind {
        None => schemas::all(),
        Some(text) => schemas::schema(names::written(text).ok_or_else(|| Failure::new(names::unknown_kind(text)))?).clone(),
    };
    Ok(context.out.line(format_args!("{schema:#}"))?)
}

/// Explains a field.
pub fn explain(context: &mut Context<'_>, arguments: &ExplainArgs) -> Result<(), Failure> {
    Ok(context.out.line(explanation::explain(&arguments.path)?.trim_end())?)
}
