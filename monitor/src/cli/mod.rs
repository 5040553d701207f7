//! The command line: one file a subcommand.

mod check;
mod connect;
mod doctor;
mod failure;
mod health;
mod judge;
mod permissions;
mod run;
mod snapshot;
mod stacks;
mod top;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use regex::Regex;

pub use self::failure::Failure;
use crate::config::Level;

/// Which threads of which programs are blocked for good, seen from outside: nothing is rebuilt, restarted or
/// paused.
#[derive(Parser)]
#[command(
    name = "taskleak",
    version,
    after_help = "Exit codes: 0 fine, 1 leak found, 2 usage, 3 not permitted or not supported here, 4 target gone or \
                  unreadable.\nEvery option of `run` can be set in the environment (TASKLEAK_…) and in a TOML file \
                  (--config)."
)]
struct Cli {
    /// Print messages of this level and above to standard error
    #[arg(
        long,
        global = true,
        env = "TASKLEAK_LOG",
        value_name = "LEVEL",
        default_value = "info",
        help_heading = "Messages"
    )]
    log: Level,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::RunCommand),
    Snapshot(snapshot::SnapshotCommand),
    Stacks(stacks::StacksCommand),
    Top(top::TopCommand),
    Check(check::CheckCommand),
    Judge(judge::JudgeCommand),
    Doctor(doctor::DoctorCommand),
    Health(health::HealthCommand),
}

/// Runs what the command line says.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(cli.log);
    let done = match cli.command {
        Command::Run(command) => command.execute(),
        Command::Snapshot(command) => command.execute(),
        Command::Stacks(command) => command.execute(),
        Command::Top(command) => command.execute(),
        Command::Check(command) => command.execute(),
        Command::Judge(command) => command.execute(),
        Command::Doctor(command) => command.execute(),
        Command::Health(command) => command.execute(),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("taskleak: {error:#}");
            Failure::exit_code(&error)
        }
    }
}

/// # Errors
/// When one of them is no regular expression.
fn patterns(texts: &[String]) -> Result<Vec<Regex>, Failure> {
    let one = |text: &String| {
        Regex::new(text)
            .map_err(|error| Failure::Usage(format!("`{text}` is not a regular expression: {error}")))
    };
    texts.iter().map(one).collect()
}

fn start_log(level: Level) {
    let filter: tracing_subscriber::filter::LevelFilter = match level {
        Level::Off => tracing_subscriber::filter::LevelFilter::OFF,
        Level::Error => tracing::Level::ERROR.into(),
        Level::Warn => tracing::Level::WARN.into(),
        Level::Info => tracing::Level::INFO.into(),
        Level::Debug => tracing::Level::DEBUG.into(),
        Level::Trace => tracing::Level::TRACE.into(),
    };
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_max_level(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false)
        .init();
}
