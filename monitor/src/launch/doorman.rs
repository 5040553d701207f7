//! A process that lets others end, when taskleak is not there any more: what a command has left running would otherwise
//! crash at its end, for nobody answers the filter's question.

use std::{
    io,
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    process::{Command, ExitCode, Stdio},
};

use super::gate::Gate;

/// First argument that makes this binary one.
pub const ARGUMENT: &str = "--doorman";

/// Starts one, which lives for as long as anybody could ask.
pub(super) fn start(gate: &Gate) -> io::Result<()> {
    let listener = gate.as_fd().try_clone_to_owned()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg0("taskleak-doorman")
        .arg(ARGUMENT)
        .stdin(Stdio::from(listener))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        // What is sent to our terminal's processes is not meant for it.
        .process_group(0);
    command.spawn().map(drop)
}

/// Its whole life; the listener is its standard input.
pub fn serve() -> ExitCode {
    let listener = io::stdin().as_fd().try_clone_to_owned();
    let Ok(gate) = listener.map(Gate::of) else {
        return ExitCode::FAILURE;
    };
    while let Ok(true) = gate.wait_for_question(None) {
        if let Some((id, _)) = gate.question() {
            gate.allow(id);
        }
    }
    ExitCode::SUCCESS
}
