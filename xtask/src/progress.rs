//! Long commands: a line that ticks while they run, and what they said only if they fail.

use std::collections::VecDeque;
use std::io::{IsTerminal as _, Read, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// Lines of a failed command that are shown.
const TAIL: usize = 25;
/// How often a log that is no terminal gets a sign of life.
const LOG_EVERY: Duration = Duration::from_secs(15);
/// What is kept of one line.
const LINE: usize = 500;

/// Runs a command behind the line `what …`; gives back how long it took.
///
/// The error holds the command's last lines.
pub fn run(what: &str, command: &mut Command) -> Result<Duration> {
    let started = Instant::now();
    let mut line = Line {
        what,
        terminal: std::io::stderr().is_terminal(),
        logged: started,
        started,
    };
    line.start();
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("cannot copy a pipe")?)
        .stderr(writer);
    let spawned = command.spawn();
    // The command holds our ends of the pipe: without this, its end would never be seen.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => {
            line.clear();
            return Err(error).with_context(|| format!("cannot start {}", workspace::name(command)));
        }
    };
    let (sender, receiver) = channel();
    std::thread::spawn(move || split_lines(reader, &sender));
    let tail = follow(&receiver, &mut line, || matches!(child.try_wait(), Ok(None)));
    let status = child.wait().context("cannot wait for a command")?;
    line.clear();
    if !status.success() {
        let said = tail
            .iter()
            .fold(String::new(), |text, line| text + "\n    " + line);
        bail!(
            "{what}: {} failed ({status}). Its last lines:{said}",
            workspace::name(command)
        );
    }
    Ok(started.elapsed())
}

/// Shows each line in passing and keeps the last ones.
fn follow(lines: &Receiver<String>, line: &mut Line<'_>, running: impl FnMut() -> bool) -> VecDeque<String> {
    let mut running = running;
    let mut tail = VecDeque::new();
    loop {
        match lines.recv_timeout(Duration::from_secs(1)) {
            Ok(text) => {
                line.tick(&text);
                tail.push_back(text);
                if tail.len() > TAIL {
                    tail.pop_front();
                }
            }
            Err(RecvTimeoutError::Disconnected) => return tail,
            // A process that the command left behind may hold the pipe open for ever.
            Err(RecvTimeoutError::Timeout) if !running() => return tail,
            Err(RecvTimeoutError::Timeout) => line.tick(tail.back().map_or("", String::as_str)),
        }
    }
}

/// Sends what is read in lines; a carriage return ends a line too.
fn split_lines(mut reader: impl Read, lines: &Sender<String>) {
    let mut buffer = [0; 4096];
    let mut line = Vec::new();
    loop {
        let count = match reader.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        for byte in &buffer[..count] {
            match byte {
                b'\n' | b'\r' => send(&mut line, lines),
                byte if line.len() < LINE => line.push(*byte),
                _ => {}
            }
        }
        if count == 0 {
            send(&mut line, lines);
            return;
        }
    }
}

fn send(line: &mut Vec<u8>, lines: &Sender<String>) {
    let text = String::from_utf8_lossy(line).trim_end().to_owned();
    line.clear();
    if !text.is_empty() {
        // Nobody listens any more once the command has ended.
        let _ = lines.send(text);
    }
}

/// The line that ticks: rewritten in place on a terminal, repeated now and then in a log.
struct Line<'a> {
    what: &'a str,
    terminal: bool,
    started: Instant,
    logged: Instant,
}

impl Line<'_> {
    fn start(&mut self) {
        if self.terminal {
            self.tick("");
        } else {
            eprintln!("set-up: {} …", self.what);
        }
    }

    fn tick(&mut self, said: &str) {
        let seconds = self.started.elapsed().as_secs();
        if self.terminal {
            let mut text = format!("set-up: {} … {seconds} s  ", self.what);
            text.extend(said.chars().filter(|c| !c.is_control()));
            // No longer than a terminal is wide, or the line could not be rewritten.
            eprint!("\r\x1b[K{}", text.chars().take(79).collect::<String>());
            // A line that does not reach the terminal is nothing to stop for.
            let _ = std::io::stderr().flush();
        } else if self.logged.elapsed() >= LOG_EVERY {
            self.logged = Instant::now();
            eprintln!("set-up: {} … {seconds} s: {said}", self.what);
        }
    }

    fn clear(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_last_lines() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo first; printf 'half\\rwhole\\n'; echo wrong >&2; exit 3",
        ]);
        let error = run("trying", &mut command).unwrap_err().to_string();
        assert!(error.contains("exit status: 3"), "{error}");
        assert!(
            error.ends_with("first\n    half\n    whole\n    wrong"),
            "{error}"
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run("trying", &mut Command::new("/nowhere/tool")).unwrap_err();
        assert!(
            format!("{error:#}").starts_with("cannot start tool: "),
            "{error:#}"
        );
    }

    #[test]
    fn a_process_left_behind_does_not_hold_us() {
        let started = Instant::now();
        run(
            "leaving one behind",
            Command::new("sh").args(["-c", "sleep 20 & echo done"]),
        )
        .unwrap();
        assert!(started.elapsed() < Duration::from_secs(15));
    }
}
