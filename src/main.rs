//! The binary: the helper program inside the helper image, else the command line over its adapters.

mod wiring;

use std::process::ExitCode;

use dockmaster::cli::args::Verb;
use dockmaster::cli::{self, Out};
use tokio::runtime::Builder;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|verb| verb == "helper") {
        return dockmaster::helper::main(arguments);
    }
    let mut out = Out::of_process();
    let cli = match cli::parse(std::env::args_os(), &mut out) {
        Ok(cli) => cli,
        Err(code) => return ExitCode::from(code),
    };
    // A command that is over at once would spend its time on starting threads.
    let serves = matches!(cli.verb, Verb::Run(_) | Verb::Simulate(_));
    let mut runtime = if serves { Builder::new_multi_thread() } else { Builder::new_current_thread() };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            drop(out.note(format_args!("error: the program cannot start: {error}")));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli::run(cli, &wiring::Program, &mut out));
    // What still blocks (a read of a terminal) must not keep the program.
    runtime.shutdown_background();
    ExitCode::from(code)
}
