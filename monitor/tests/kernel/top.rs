//! `taskleak top`, in a real terminal and without one.

use std::{
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use testbed::Program;

use crate::support::{Daemon, PATIENCE, TASKLEAK, skip, start, stderr, taskleak};

/// A terminal with a shell's command in it, gone when dropped.
struct Terminal {
    name: String,
}

impl Terminal {
    /// `None` (and the test is skipped) without tmux.
    fn start(test: &str, command: &str) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            skip(test, "no tmux: `cargo xtask setup --tests` brings it");
            return None;
        }
        let terminal = Self {
            name: format!("taskleak-{}-{}", test.replace("::", "-"), std::process::id()),
        };
        // What is left when it has ended tells whether the terminal was given back.
        let command = format!("{command}; echo exit $?; exec sleep 1000");
        let output = terminal.tmux(&["new-session", "-d", "-x", "160", "-y", "40", &command]);
        assert!(output.status.success(), "{}", stderr(&output));
        Some(terminal)
    }

    fn tmux(&self, args: &[&str]) -> Output {
        Command::new("tmux")
            .args(["-L", &self.name, "-f", "/dev/null"])
            .args(args)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .output()
            .unwrap()
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.tmux(&["capture-pane", "-p"]).stdout).into_owned()
    }

    fn press(&self, keys: &[&str]) {
        assert!(self.tmux(&[&["send-keys"], keys].concat()).status.success());
    }

    /// Waits until the screen is so.
    fn until(&self, what: &str, is_so: impl Fn(&str) -> bool) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if is_so(&screen) {
                return screen;
            }
            assert!(begun.elapsed() < PATIENCE, "not {what}:\n{screen}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

const ARGS: &str = "--interval 300ms --blocked-after 500ms";

/// The place of a line with this in it.
fn line(screen: &str, text: &str) -> Option<usize> {
    screen.lines().position(|line| line.contains(text))
}

#[test]
fn groups_are_sorted_filtered_opened_and_left() {
    let target = start("top::keys", Program::CBlockers, &["mutex=3", "cond=5", "read=4"]).unwrap();
    let command = format!("{TASKLEAK} top --pid {} {ARGS}", target.pid());
    let Some(terminal) = Terminal::start("top::keys", &command) else {
        return;
    };
    let screen = terminal.until("two groups", |screen| {
        line(screen, "mutex_acquire_forever").is_some() && line(screen, "cond_wait_forever").is_some()
    });
    assert!(
        line(&screen, "cond_wait_forever") < line(&screen, "mutex_acquire_forever"),
        "{screen}"
    );
    assert!(
        screen.contains("sort: blocked") && !screen.contains("pipe_read_forever"),
        "{screen}"
    );
    terminal.press(&["e"]);
    terminal.until("all", |screen| line(screen, "pipe_read_forever").is_some());
    terminal.press(&["e", "s"]);
    terminal.until("sorted by growth", |screen| screen.contains("sort: growth"));
    terminal.press(&["a"]);
    terminal.until("sorted by age", |screen| screen.contains("sort: age"));
    // `q` in a filter is a letter.
    terminal.press(&["/", "acquire", "Enter"]);
    terminal.until("filtered", |screen| {
        line(screen, "mutex_acquire_forever").is_some() && line(screen, "cond_wait_forever").is_none()
    });
    terminal.press(&["Enter"]);
    let screen = terminal.until("a stack", |screen| line(screen, "leak_mutex").is_some());
    assert!(screen.contains("3 threads of blockers"), "{screen}");
    terminal.press(&["Escape"]);
    terminal.until("the table", |screen| screen.contains("sort: age"));
    terminal.press(&["p"]);
    terminal.until("paused", |screen| screen.contains("[paused]"));
    terminal.press(&["q"]);
    let screen = terminal.until("the shell again", |screen| screen.contains("exit 0"));
    assert!(!screen.contains("WAITS IN"), "{screen}");
}

#[test]
fn a_daemon_is_shown_without_privileges_and_missed_when_it_goes() {
    let target = start("top::connect", Program::CBlockers, &["mutex=3"]).unwrap();
    let daemon = Daemon::watch(target.pid(), "200ms", "500ms");
    let address = daemon.address.to_string();
    let command = format!("{TASKLEAK} top --connect {address} --interval 200ms");
    let Some(terminal) = Terminal::start("top::connect", &command) else {
        return;
    };
    terminal.until("a group", |screen| {
        line(screen, "mutex_acquire_forever").is_some()
    });
    terminal.press(&["Enter"]);
    terminal.until("no stack", |screen| {
        screen.contains("not shown here: see --expose-stacks")
    });
    drop(daemon);
    terminal.until("the loss", |screen| screen.contains("no taskleak answers"));
    terminal.press(&["q"]);
    terminal.until("the shell again", |screen| screen.contains("exit 0"));
}

#[test]
fn without_a_terminal_it_is_a_plain_table() {
    let target = start("top::plain", Program::CBlockers, &["mutex=3", "cond=5"]).unwrap();
    let pid = target.pid().to_string();
    let args = [
        "top",
        "--pid",
        &pid,
        "--interval",
        "700ms",
        "--blocked-after",
        "500ms",
    ];
    let output = taskleak(&args);
    assert!(output.status.success(), "{}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\u{1b}'), "{text:?}");
    let row: Vec<&str> = text
        .lines()
        .find(|line| line.contains("mutex_acquire_forever"))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(row[..5], [&pid, "blockers", "3", "thread", "futex"], "{text}");
    assert!(
        line(&text, "cond_wait_forever") < line(&text, "mutex_acquire_forever"),
        "{text}"
    );
    let tables = taskleak(&[args.as_slice(), &["--iterations", "2", "--filter", "cond_"]].concat());
    let text = String::from_utf8(tables.stdout).unwrap();
    assert_eq!(text.matches("WAITS IN").count(), 2, "{text}");
    assert!(!text.contains("mutex_acquire_forever"), "{text}");
}

#[test]
fn who_cannot_be_asked_is_named() {
    let output = taskleak(&["top", "--connect", "127.0.0.1:1"]);
    assert_eq!(output.status.code(), Some(4));
    assert!(stderr(&output).contains("no taskleak answers at http://127.0.0.1:1"));
    let output = taskleak(&["top", "--connect", "somewhere"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("neither HOST:PORT nor unix:PATH"));
}
