//! The binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|verb| verb == "helper") {
        return dockmaster::helper::main(arguments);
    }
    ExitCode::FAILURE
}
