//! As the Go runtime prints all goroutines (`runtime.Stack`, `pprof/goroutine?debug=2`; runtime/traceback.go,
//! `goroutineheader`, `traceback1`, `printcreatedby1`, Go 1.19 to 1.27), so that whoever reads that reads this. Arguments are
//! not told, nor is `(scan)`: the runtime stops the world for it, and then no collection scans anybody. Tasks of other kinds
//! are put into the same form.

use std::fmt::Write as _;

use super::labels;
use crate::{
    export::text::plain,
    model::{Creator, Frame, Kind, ProcessTasks, Stack, State, Task, Trace},
};

/// `tracebackInnerFrames` and `tracebackOuterFrames`; in Go up to 1.20 the first hundred.
const INNER: usize = 50;
const OUTER: usize = 50;

/// `is_chosen`: the kinds of the tasks were asked for by name; otherwise a Go program's goroutines are meant.
pub fn render(told: &ProcessTasks, tasks: &[&Task], is_chosen: bool) -> String {
    let has_goroutines = told.tasks.iter().any(|task| task.kind == Kind::Goroutine);
    let trace = |task: &Task| task.facts.as_ref().and_then(|facts| facts.trace.clone());
    let mut shown: Vec<(&Task, Option<Trace>)> = tasks
        .iter()
        .filter(|task| is_chosen || !has_goroutines || task.kind == Kind::Goroutine)
        .map(|task| (*task, trace(task)))
        .filter(|(_, trace)| !trace.as_ref().is_some_and(|trace| trace.is_hidden))
        .collect();
    shown.sort_by_key(|(task, trace)| (task.kind, trace.as_ref().map(|trace| trace.order), task.id));
    let minor = told.go_version.as_deref().and_then(minor);
    let mut text = String::new();
    for (task, trace) in &shown {
        if !text.is_empty() {
            text.push('\n');
        }
        header(&mut text, task, trace.as_ref(), minor);
        stack(
            &mut text,
            task,
            trace.as_ref(),
            minor.is_some_and(cuts_at_the_end),
        );
        match trace {
            Some(trace) => {
                if let Some(creator) = &trace.creator {
                    created_by(
                        &mut text,
                        creator,
                        task.facts.as_ref().and_then(|facts| facts.made_by),
                    );
                }
            }
            None => {
                if let Some(site) = &task.spawn_site {
                    let creator = Creator {
                        site: crate::model::Site::clone(site),
                        within: 0,
                    };
                    created_by(&mut text, &creator, None);
                }
            }
        }
    }
    text
}

fn header(text: &mut String, task: &Task, trace: Option<&Trace>, minor: Option<u32>) {
    let (status, minutes) = match trace {
        Some(trace) => (plain(&trace.status), trace.minutes),
        None => {
            let status = task
                .reason()
                .map_or_else(|| task.state().label().to_owned(), |reason| plain(reason));
            (status, task.age().map_or(0, |age| age.as_secs() / 60))
        }
    };
    let _ = write!(text, "goroutine {} [{status}", task.id);
    if minutes >= 1 {
        let _ = write!(text, ", {minutes} minutes");
    }
    if trace.is_some_and(|trace| trace.is_locked) {
        text.push_str(", locked to thread");
    }
    if let Some(bubble) = trace.and_then(|trace| trace.bubble) {
        let name = if minor == Some(24) { "group" } else { "bubble" };
        let _ = write!(text, ", synctest {name} {bubble}");
    }
    let printed = trace.filter(|trace| trace.prints_labels);
    let printed = printed.and_then(|trace| trace.labels.as_deref());
    match printed.filter(|labels| !labels.pairs.is_empty()) {
        None => text.push(']'),
        Some(labels) if minor == Some(26) => {
            let _ = write!(text, " labels:{}]", labels::in_quotes(labels));
        }
        Some(labels) => {
            let _ = write!(text, "] {}", labels::bare(labels));
        }
    }
    text.push_str(":\n");
}

fn stack(text: &mut String, task: &Task, trace: Option<&Trace>, is_old: bool) {
    let Some(stack) = &task.stack else {
        let why = match task.state() {
            State::Running => "goroutine running on other thread; stack unavailable",
            _ => "stack unavailable",
        };
        let _ = writeln!(text, "\t{why}");
        return;
    };
    let all = stack.frames.len();
    let (first, last) = shown_frames(stack, is_old);
    let within = |number: usize| trace.and_then(|trace| trace.within.get(number)).copied();
    for number in 0..first {
        frame(text, &stack.frames[number], within(number));
    }
    if stack.truncated || (is_old && first < all) {
        text.push_str("...additional frames elided...\n");
    } else if first + last < all {
        let _ = writeln!(text, "...{} frames elided...", all - first - last);
    }
    for number in all - last..all {
        frame(text, &stack.frames[number], within(number));
    }
}

/// How many of the innermost and of the outermost frames are printed.
fn shown_frames(stack: &Stack, is_old: bool) -> (usize, usize) {
    let all = stack.frames.len();
    if stack.truncated || is_old {
        (all.min(INNER + OUTER), 0)
    } else if all <= INNER + OUTER {
        (all, 0)
    } else {
        (INNER, OUTER)
    }
}

fn frame(text: &mut String, frame: &Frame, within: Option<u32>) {
    let function = match &frame.function {
        Some(function) => plain(function),
        None => format!("[{}]", plain(&frame.module)),
    };
    let _ = writeln!(text, "{function}(...)");
    let (file, line) = match (&frame.file, frame.line) {
        (Some(file), line) => (plain(file), line.unwrap_or(0)),
        (None, _) => (plain(&frame.module), 0),
    };
    let _ = write!(text, "\t{}:{line}", if file.is_empty() { "?" } else { &file });
    offset(text, within.unwrap_or(0));
}

fn created_by(text: &mut String, creator: &Creator, id: Option<u64>) {
    let _ = write!(text, "created by {}", plain(&creator.site.function));
    if let Some(id) = id {
        let _ = write!(text, " in goroutine {id}");
    }
    let file = creator.site.file.as_deref().map_or("?".to_owned(), plain);
    let _ = write!(text, "\n\t{file}:{}", creator.site.line.unwrap_or(0));
    offset(text, creator.within);
}

fn offset(text: &mut String, within: u32) {
    if within > 0 {
        let _ = write!(text, " +{within:#x}");
    }
    text.push('\n');
}

/// `go1.27.3` → 27.
fn minor(version: &str) -> Option<u32> {
    let digits = version
        .strip_prefix("go1.")?
        .split(|c: char| !c.is_ascii_digit())
        .next()?;
    digits.parse().ok()
}

/// Whether a version of Go leaves out the outermost frames of a long stack, not those in the middle.
const fn cuts_at_the_end(minor: u32) -> bool {
    minor < 21
}
