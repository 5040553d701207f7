//! `process;outermost;…;innermost;[reason] COUNT`: what flame graphs are drawn from.

use std::{collections::HashMap, fmt::Write as _};

use super::{Stacks, ran};
use crate::{
    export::text::{function, plain},
    model::{ProcessTasks, Site, Stack, Task},
};

pub fn render(told: &ProcessTasks, tasks: &[&Task]) -> String {
    let mut stacks = Stacks::default();
    let mut counts: HashMap<(Option<usize>, Option<&Site>, String), u64> = HashMap::new();
    for task in tasks {
        let number = task.stack.as_ref().map(|stack| stacks.number(stack));
        let doing = task
            .reason()
            .map_or_else(|| task.state().label().to_owned(), |reason| part(reason));
        *counts.entry((number, ran(task), doing)).or_default() += 1;
    }
    let mut lines: Vec<(String, u64)> = counts
        .into_iter()
        .map(|((number, ran, doing), count)| {
            let mut line = part(&told.process.comm);
            if let Some(stack) = number.and_then(|number| stacks.stacks.get(number)) {
                outermost_first(&mut line, stack);
            }
            if let Some(site) = ran {
                let _ = write!(line, ";{}", part(&site.function));
            }
            let _ = write!(line, ";[{doing}]");
            (line, count)
        })
        .collect();
    lines.sort();
    lines
        .into_iter()
        .map(|(line, count)| format!("{line} {count}\n"))
        .collect()
}

fn outermost_first(line: &mut String, stack: &Stack) {
    if stack.truncated {
        line.push_str(";…");
    }
    for frame in stack.frames.iter().rev() {
        let _ = write!(line, ";{}", part(&function(frame)));
    }
}

/// What separates the parts is in none of them.
fn part(text: &str) -> String {
    plain(text).replace(';', ":")
}
