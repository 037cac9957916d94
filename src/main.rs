//! The binary: the helper program inside the helper image, else the command line over its adapters.

mod wiring;

use std::process::ExitCode;

use dockmaster::cli::{self, Out};

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
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
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
