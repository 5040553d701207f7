//! The binary: the command line, or a helper process of the monitor.

use std::process::ExitCode;

use taskleak::{cli, observe::memory};

fn main() -> ExitCode {
    if std::env::args_os()
        .nth(1)
        .is_some_and(|argument| argument == memory::HELPER_ARGUMENT)
    {
        return memory::serve().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    cli::main()
}
