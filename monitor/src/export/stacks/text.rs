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
    let counts: Vec<String> = Kind::ALL
        .iter()
        .map(|kind| (told.tasks.iter().filter(|task| task.kind == *kind).count(), kind))
        .filter(|(count, _)| *count > 0)
        .map(|(count, kind)| plural(count, kind.noun()))
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
    if let Some(site) = &first.spawn_site {
        let by = match (maker(first), members) {
            (Some(id), [_]) => format!(" in {} {id}", first.kind.noun()),
            _ => String::new(),
        };
        let _ = writeln!(text, "    made at {}{by}", place(site));
    }
    if let Some(labels) = labels::line(members) {
        let _ = writeln!(text, "    labels {labels}");
    }
    if let Some(chain) = &first.waits_for {
        let ids: Vec<String> = chain.iter().take(IDS_SHOWN).map(u64::to_string).collect();
        let _ = writeln!(text, "    waiting for {}", ids.join(" → "));
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
    let told = (duration(youngest), duration(oldest));
    match told {
        _ if oldest < Duration::from_millis(1) => String::new(),
        (youngest, oldest) if youngest == oldest => format!(" for {oldest}"),
        (youngest, oldest) => format!(" for {youngest} to {oldest}"),
    }
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
