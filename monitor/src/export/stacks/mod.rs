//! All tasks of a process with their stacks: `taskleak stacks`, and the daemon's `/debug/pprof/…`.

mod debug2;
mod folded;
mod json;
mod labels;
mod pprof;
mod text;

use std::{collections::HashMap, ptr, sync::Arc, time::Duration};

use regex::Regex;

use crate::model::{Kind, ProcessTasks, Site, Stack, State, Task};

/// How they are rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// As `goroutine?debug=2` of Go's net/http/pprof prints goroutines, arguments aside
    Debug2,
    /// A line for each different stack and how many there are of it: for flame graphs
    Folded,
    /// Schema 1, see docs/stacks.schema.json
    Json,
    /// A gzipped profile.proto: for `go tool pprof`, Pyroscope, Parca
    Pprof,
}

impl Format {
    /// Whether it tells of the files that the code is from.
    pub const fn has_modules(self) -> bool {
        matches!(self, Self::Pprof)
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Pprof => "application/octet-stream",
            Self::Text | Self::Debug2 | Self::Folded => "text/plain; charset=utf-8",
        }
    }
}

/// Which tasks are shown, and how.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Empty: all.
    pub kinds: Vec<Kind>,
    /// With a function like one of these on the stack, as entry, or where it was made; empty: all.
    pub sites: Vec<Regex>,
    /// Only what is blocked for so long.
    pub blocked_after: Option<Duration>,
    /// Each task by itself.
    pub each: bool,
}

impl Choice {
    fn takes(&self, task: &Task) -> bool {
        let is_kind = self.kinds.is_empty() || self.kinds.contains(&task.kind);
        let is_blocked = self
            .blocked_after
            .is_none_or(|least| task.wait.as_ref().is_some_and(|wait| wait.age >= least));
        is_kind && is_blocked && (self.sites.is_empty() || self.is_site(task))
    }

    fn is_site(&self, task: &Task) -> bool {
        let matches = |name: &str| self.sites.iter().any(|regex| regex.is_match(name));
        let stack = task.stack.as_ref();
        let sites = [
            stack.and_then(|stack| stack.block_site.as_ref()),
            task.entry.as_ref(),
            task.spawn_site.as_ref(),
        ];
        let mut frames = stack.into_iter().flat_map(|stack| &stack.frames);
        sites.into_iter().flatten().any(|site| matches(&site.function))
            || frames.any(|frame| frame.function.as_deref().is_some_and(matches))
    }
}

/// Renders the tasks that are chosen.
///
/// # Errors
/// Never in practice: every value has a form.
pub fn render(told: &ProcessTasks, choice: &Choice, format: Format) -> anyhow::Result<Vec<u8>> {
    let tasks: Vec<&Task> = told.tasks.iter().filter(|task| choice.takes(task)).collect();
    Ok(match format {
        Format::Text => text::render(told, &tasks, choice.each).into_bytes(),
        Format::Debug2 => debug2::render(told, &tasks, !choice.kinds.is_empty()).into_bytes(),
        Format::Folded => folded::render(told, &tasks).into_bytes(),
        Format::Json => json::render(told, &tasks)?.into_bytes(),
        Format::Pprof => pprof::render(told, &tasks)?,
    })
}

/// Stacks by number. Most tasks share theirs, and most of those the same memory.
#[derive(Default)]
struct Stacks<'a> {
    by_place: HashMap<*const Stack, usize>,
    by_content: HashMap<&'a Stack, usize>,
    stacks: Vec<&'a Stack>,
}

impl<'a> Stacks<'a> {
    fn number(&mut self, stack: &'a Arc<Stack>) -> usize {
        let next = self.stacks.len();
        let Self {
            by_place,
            by_content,
            stacks,
        } = self;
        *by_place.entry(ptr::from_ref(&**stack)).or_insert_with(|| {
            *by_content.entry(stack).or_insert_with(|| {
                stacks.push(stack);
                next
            })
        })
    }
}

/// Why a task has no stack.
fn no_stack(task: &Task) -> &'static str {
    match task.state() {
        State::Running => "running: there is no stack to read",
        State::Runnable => "runnable: it may run on at any moment",
        State::Stopped => "stopped: not looked at",
        State::Complete => "it has ended: what it has returned is kept with its handle",
        State::Unknown => "what it does is not known",
        State::Waiting => "its stack was not read",
    }
}

/// What a task has run that has ended: it stands for the stack that it does not have.
fn ran(task: &Task) -> Option<&Site> {
    task.entry.as_deref().filter(|_| task.is_kept)
}

/// `Some` with the id of the task that made it, for a text that follows the place.
fn maker(task: &Task) -> Option<u64> {
    task.facts.as_ref()?.made_by
}

#[cfg(test)]
mod tests;
