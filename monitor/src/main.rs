//! The binary: the command line, or a helper process of the monitor.

use std::{path::PathBuf, process::ExitCode};

use taskleak::{cli, observe::helper};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    if arguments
        .next()
        .is_some_and(|argument| argument == helper::ARGUMENT)
    {
        return helper::serve(arguments.map(PathBuf::from)).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    cli::main()
}
