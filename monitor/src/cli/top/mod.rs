//! `taskleak top`: the groups of blocked tasks, live in a terminal.

mod draw;
mod rows;
mod source;
mod state;

use std::{
    io::IsTerminal as _,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
};

use self::{
    source::Told,
    state::{Key, Sort, State},
};
use super::{Failure, connect::Connect, permissions, snapshot::print};
use crate::{
    config::{Span, Watch},
    pipeline::Monitor,
};

/// How long a pass waits for stacks.
const PATIENCE: Duration = Duration::from_millis(500);
/// Keys are looked for so often at least.
const BLINK: Duration = Duration::from_millis(50);
/// Without a terminal the first look is not told: a goroutine's wait has no age in it.
const LOOKS: u32 = 2;

/// Show live which groups of tasks are blocked; a plain table where there is no terminal
#[derive(Args)]
#[command(
    after_help = "Keys: ↑↓ choose, Enter the group's stack, s sorts by the next of blocked, growth and age (b, g, a: by that), \
                  / filters, p pauses, e shows also what waits for the world or is stable, q quits.\nWithout a terminal one \
                  table is printed (--iterations for more)."
)]
pub struct TopCommand {
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    connect: Connect,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    interval: Span,
    /// What the groups are in order of; those that leak or grow come first in any
    #[arg(long, value_enum, default_value_t = Sort::Blocked)]
    sort: Sort,
    /// Show only groups with this text in their process's name, reason, verdict, or functions
    #[arg(long, value_name = "TEXT", default_value = "")]
    filter: String,
    /// Show also what waits for the world (epoll, accept, read, …) or is stable
    #[arg(long)]
    all_groups: bool,
    /// End after so many tables, and print them as plain text
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    iterations: Option<u32>,
}

impl TopCommand {
    pub fn execute(&self) -> Result<ExitCode> {
        if self.interval.0 < Duration::from_millis(100) {
            return Err(Failure::Usage("--interval must be at least 100ms".to_owned()).into());
        }
        let told = self.source()?;
        let mut state = State::new(self.sort, self.filter.clone(), self.all_groups);
        let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        if self.iterations.is_none() && is_terminal {
            let ended = Arc::new(AtomicBool::new(false));
            for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
                signal_hook::flag::register(signal, Arc::clone(&ended))?;
            }
            let mut terminal = ratatui::try_init().context("the terminal cannot be used")?;
            let shown = show(&mut terminal, &mut state, &told, &ended);
            ratatui::try_restore().context("the terminal cannot be given back")?;
            shown?;
        } else {
            self.print(&mut state, &told)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn source(&self) -> Result<Receiver<Told>> {
        if let Some(api) = self.connect.api()? {
            let first = source::snapshot(&api)?;
            return Ok(source::ask(api, first, self.interval.0)?);
        }
        let options = self
            .watch
            .check(Duration::from_secs(1), PATIENCE, false)
            .map_err(Failure::from)?;
        permissions::check()?;
        let monitor = Monitor::start(options).map_err(Failure::from)?;
        Ok(source::sweep(monitor, self.interval.0)?)
    }

    fn print(&self, state: &mut State, told: &Receiver<Told>) -> Result<()> {
        let looks = if self.connect.is_given() { 1 } else { LOOKS };
        for _ in 1..looks {
            next(told)?;
        }
        for _ in 0..self.iterations.unwrap_or(1) {
            state.take(next(told)?);
            print(&draw::plain_text(state))?;
        }
        Ok(())
    }
}

fn next(told: &Receiver<Told>) -> Result<rows::Document> {
    let told = told.recv().context("nobody looks any more")?;
    told.map_err(|trouble| anyhow!(Failure::TargetGone(trouble)))
}

/// Draws and listens to keys until somebody ends it.
fn show(
    terminal: &mut DefaultTerminal,
    state: &mut State,
    told: &Receiver<Told>,
    ended: &AtomicBool,
) -> Result<()> {
    let mut is_stale = true;
    while !state.is_over && !ended.load(Ordering::Relaxed) {
        is_stale |= take_all(state, told)?;
        if is_stale {
            terminal.draw(|frame| draw::draw(frame, state))?;
            is_stale = false;
        }
        if event::poll(BLINK)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => press(state, key),
                _ => {}
            }
            is_stale = true;
        }
    }
    Ok(())
}

/// Takes in what has come. Whether something has.
fn take_all(state: &mut State, told: &Receiver<Told>) -> Result<bool> {
    let mut any = false;
    loop {
        match told.try_recv() {
            Ok(Ok(document)) => state.take(document),
            Ok(Err(trouble)) => state.trouble = Some(trouble),
            Err(TryRecvError::Empty) => return Ok(any),
            Err(TryRecvError::Disconnected) => return Err(RecvTimeoutError::Disconnected.into()),
        }
        any = true;
    }
}

fn press(state: &mut State, key: KeyEvent) {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        state.is_over |= matches!(key.code, KeyCode::Char('c' | 'd'));
        return;
    }
    let key = match key.code {
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Escape,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Char(character) => Key::Char(character),
        _ => return,
    };
    state.press(key);
}
