//! The command line: one file a subcommand.

mod check;
mod connect;
mod doctor;
mod failure;
mod generate;
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
    #[command(hide = true)]
    Generate(generate::GenerateCommand),
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
        Command::Generate(command) => command.execute(),
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

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// As a shell parts them; nothing is put in for variables.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
        for character in line.chars() {
            match (character, quote) {
                ('\'' | '"', None) => quote = Some(character),
                (end, Some(begun)) if end == begun => quote = None,
                (' ', None) => words.extend(Some(std::mem::take(&mut word)).filter(|it| !it.is_empty())),
                (other, _) => word.push(other),
            }
        }
        words.extend(Some(word).filter(|it| !it.is_empty()));
        words
    }

    /// The commands of ours in a text's examples, as their arguments.
    fn examples(text: &str) -> Vec<Vec<String>> {
        let commands = text
            .lines()
            .filter_map(|line| line.strip_prefix("    "))
            .filter(|line| line.starts_with("taskleak "));
        commands
            .map(|line| {
                let words = words(line);
                let ends = |word: &String| matches!(word.as_str(), ">" | "|" | "&" | "#" | ";");
                let until = words.iter().position(ends).unwrap_or(words.len());
                let fill = |word: &String| match word.as_str() {
                    "PID" | "$PID" => "7".to_owned(),
                    other => other.to_owned(),
                };
                words[..until].iter().map(fill).collect()
            })
            .collect()
    }

    #[test]
    fn the_examples_of_the_documents_are_understood() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut files = vec![root.join("README.md")];
        let documents = fs::read_dir(root.join("docs")).unwrap();
        files.extend(documents.map(|entry| entry.unwrap().path()));
        files.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
        let mut seen = 0;
        for file in files {
            for example in examples(&fs::read_to_string(&file).unwrap()) {
                if let Err(error) = Cli::try_parse_from(&example) {
                    panic!("{}: {example:?}: {error}", file.display());
                }
                seen += 1;
            }
        }
        assert!(seen >= 10, "{seen}");
    }

    #[test]
    fn the_examples_of_the_help_are_understood() {
        let mut seen = 0;
        for command in Cli::command().get_subcommands() {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let indented: String = help
                .lines()
                .filter_map(|line| line.strip_prefix("  "))
                .map(|line| format!("    {line}\n"))
                .collect();
            for example in examples(&indented) {
                // What stands behind `&&` is another command.
                let until = example
                    .iter()
                    .position(|word| word == "&&")
                    .unwrap_or(example.len());
                if let Err(error) = Cli::try_parse_from(&example[..until]) {
                    panic!("{example:?}: {error}");
                }
                seen += 1;
            }
        }
        assert!(seen >= 3, "{seen}");
    }
}
