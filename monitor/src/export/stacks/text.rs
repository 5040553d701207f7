//! For people: what is the same is told once, most of it first.

use std::{collections::HashMap, fmt::Write as _, time::Duration};

use super::{Stacks, labels, maker, no_stack};
use crate::{
    export::text::{base_name, duration, frames, plain, plural},
    model::{Kind, ProcessTasks, Reason, Site, State, Task},
};

/// Ids that a line shows.
const IDS_SHOWN: usize = 6;

/// What the tasks of one paragraph have in common.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    kind: Kind,
    state: State,
    reason: Option<&'a Reason>,
    is_blocked: bool,
    is_leaked: bool,
    stack: Option<usize>,
    entry: Option<&'a Site>,
    spawn_site: Option<&'a Site>,
    /// Where each task is told by itself.
    id: Option<u64>,
}

pub fn render(told: &ProcessTasks, tasks: &[&Task], each: bool) -> String {
    let mut text = String::new();
    head(&mut text, told);
    let mut stacks = Stacks::default();
    let mut groups: Vec<Vec<&Task>> = Vec::new();
    let mut numbers = HashMap::new();
    for task in tasks {
        let key = Key {
            kind: task.kind,
            state: task.state(),
            reason: task.reason(),
            is_blocked: task.wait.is_some(),
            is_leaked: is_leaked(task),
            stack: task.stack.as_ref().map(|stack| stacks.number(stack)),
            entry: task.entry.as_deref(),
            spawn_site: task.spawn_site.as_deref(),
            id: each.then_some(task.id),
        };
        let number = *numbers.entry(key).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[number].push(task);
    }
    if !each {
        // The order of their first members decides between as many.
        groups.sort_by_key(|members| std::cmp::Reverse(members.len()));
    }
    for members in &groups {
        group(&mut text, members);
    }
    if tasks.is_empty() {
        text.push_str("\nNo task of it is to be shown.\n");
    }
    text
}

fn head(text: &mut String, told: &ProcessTasks) {
    let process = &told.process;
    let mut what = vec![format!("pid {}", process.id.pid)];
    what.extend(Some(plain(&process.exe)).filter(|exe| !exe.is_empty()));
    what.extend(told.go_version.as_deref().map(plain));
    let count = |kind: Kind, is_kept| {
        let of_kind = told.tasks.iter().filter(|task| task.kind == kind);
        of_kind.filter(|task| task.is_kept == is_kept).count()
    };
    let counts: Vec<String> = Kind::ALL
        .iter()
        .flat_map(|kind| [(*kind, false), (*kind, true)])
        .map(|(kind, is_kept)| (count(kind, is_kept), kind, is_kept))
        .filter(|(count, ..)| *count > 0)
        .map(|(count, kind, is_kept)| {
            let ended = if is_kept { " that have ended" } else { "" };
            format!("{}{ended}", plural(count, kind.noun()))
        })
        .collect();
    let _ = writeln!(
        text,
        "{} ({}): {}",
        plain(&process.comm),
        what.join(", "),
        counts.join(", ")
    );
    if told.is_gone {
        let _ = writeln!(
            text,
            "  partial: the process ended while it was looked at; this is what was seen until then"
        );
    }
    if !told.incomplete.is_empty() {
        let causes: Vec<_> = told.incomplete.iter().map(|cause| cause.label()).collect();
        let _ = writeln!(text, "  incomplete: {}", causes.join(", "));
    }
}

fn group(text: &mut String, members: &[&Task]) {
    let Some(first) = members.first() else { return };
    let doing = match first.reason() {
        Some(reason) => plain(reason),
        None => first.state().label().to_owned(),
    };
    let blocked = match (&first.wait, first.state()) {
        (Some(wait), _) => format!(", {}", wait.class.label()),
        (None, State::Waiting) => ", ends by itself".to_owned(),
        _ => String::new(),
    };
    let _ = writeln!(
        text,
        "\n{}: {doing}{}{blocked}{}; {}",
        plural(members.len(), first.kind.noun()),
        ages(members),
        if is_leaked(first) {
            ", leaked as the program itself has found"
        } else {
            ""
        },
        names(members),
    );
    match &first.stack {
        Some(stack) => frames(text, stack, 4),
        None => {
            let _ = writeln!(text, "    ({})", no_stack(first));
        }
    }
    // Of a goroutine it is not always on the stack, of a thread it may be a name only.
    if let Some(entry) = &first.entry {
        let is_shown = first.stack.as_ref().is_some_and(|stack| {
            let mut frames = stack.frames.iter();
            frames.any(|frame| frame.function.as_deref() == Some(entry.function.as_str()))
        });
        if !is_shown {
            let _ = writeln!(text, "    runs {}", place(entry));
        }
    }
    let made = [made_at(first, members), made_ago(members)];
    let made: Vec<String> = made.into_iter().flatten().collect();
    if !made.is_empty() {
        let _ = writeln!(text, "    made {}", made.join(", "));
    }
    if let Some(labels) = labels::line(members) {
        let _ = writeln!(text, "    labels {labels}");
    }
    if let Some(chain) = &first.waits_for {
        let ids: Vec<String> = chain.iter().take(IDS_SHOWN).map(u64::to_string).collect();
        let _ = writeln!(text, "    waiting for {}", ids.join(" → "));
    }
}

/// `at main.handle (http.go:88) in goroutine 7`.
fn made_at(first: &Task, members: &[&Task]) -> Option<String> {
    let site = first.spawn_site.as_ref()?;
    let by = match (maker(first), members) {
        (Some(id), [_]) => format!(" in {} {id}", first.kind.noun()),
        _ => String::new(),
    };
    Some(format!("at {}{by}", place(site)))
}

/// `2s to 3m 05s ago`, or `at least 2s to 3m 05s ago` where some may be older; as far as it is known.
fn made_ago(members: &[&Task]) -> Option<String> {
    let made = || {
        let facts = members.iter().filter_map(|task| task.facts.as_ref());
        facts.filter_map(|facts| facts.made)
    };
    let least = if made().all(|made| made.is_exact) {
        ""
    } else {
        "at least "
    };
    let span = span(
        made().map(|made| made.ago).min()?,
        made().map(|made| made.ago).max()?,
    );
    Some(format!("{least}{span} ago"))
}

fn span(least: Duration, most: Duration) -> String {
    match (duration(least), duration(most)) {
        (least, most) if least == most => most,
        (least, most) => format!("{least} to {most}"),
    }
}

fn is_leaked(task: &Task) -> bool {
    let trace = task.facts.as_ref().and_then(|facts| facts.trace.as_ref());
    trace.is_some_and(|trace| trace.is_leaked)
}

/// ` for 2.0s to 3m 05s`, as far as it is known; waits that have only just been met have no age yet.
fn ages(members: &[&Task]) -> String {
    let ages = || members.iter().filter_map(|task| task.age());
    let (Some(youngest), Some(oldest)) = (ages().min(), ages().max()) else {
        return String::new();
    };
    if oldest < Duration::from_millis(1) {
        return String::new();
    }
    format!(" for {}", span(youngest, oldest))
}

fn names(members: &[&Task]) -> String {
    let mut names: Vec<String> = members
        .iter()
        .take(IDS_SHOWN)
        .map(|task| match &task.name {
            Some(name) => format!("{} ({})", task.id, plain(name)),
            None => task.id.to_string(),
        })
        .collect();
    if members.len() > IDS_SHOWN {
        names.push("…".to_owned());
    }
    format!(
        "id{} {}",
        if members.len() == 1 { "" } else { "s" },
        names.join(" ")
    )
}

fn place(site: &Site) -> String {
    match (&site.file, site.line) {
        (Some(file), Some(line)) => format!("{} ({}:{line})", plain(&site.function), plain(base_name(file))),
        _ => plain(&site.function),
    }
}
