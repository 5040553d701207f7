//! From a trace to what is told of it: the frames of its stack, where it awaits, and what for.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{
    awaits::{Holds, Node, Together, Trace},
    names::short,
    reasons::{Meaning, meaning},
    types::{Layout, Line, Reader, Shape, Suspended},
};
use crate::{
    identify::sites,
    model::{Frame, Site, WaitClass},
};

/// What a task awaits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Innermost first.
    pub frames: Vec<Frame>,
    pub truncated: bool,
    pub block_site: Option<Site>,
    /// `None` when the wait ends by itself.
    pub waits: Option<(String, WaitClass)>,
}

impl Chain {
    /// About what it takes when it is told.
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let frame = |frame: &Frame| 64 + text(&frame.function) + text(&frame.file) + frame.module.len();
        512 + self.frames.iter().map(frame).sum::<usize>()
    }
}

/// A future in words.
struct Told {
    name: String,
    at: Line,
    /// It is the program's own.
    is_own: bool,
    has_begun: bool,
    holds: Holds,
}

/// What a trace says. `module`: the program's name.
pub fn describe(trace: &Trace, types: &mut Reader<'_>, module: &str) -> Chain {
    let told: Vec<Told> = trace
        .nodes
        .iter()
        .filter_map(|node| {
            let layout = types.layout(node.of_type)?;
            Some(tell(node, &layout, types.owns(&layout.name)))
        })
        .collect();
    if told.len() != trace.nodes.len() {
        return nothing();
    }
    let (shown, inside) = shown(&trace.nodes, &told);
    let shown: Vec<&Told> = shown.iter().filter_map(|index| told.get(*index)).collect();
    let frame = |told: &&Told| Frame {
        function: Some(short(&told.name)),
        file: told.at.file.clone(),
        line: told.at.line,
        inlined: false,
        module: module.to_owned(),
        offset: 0,
        guessed: false,
    };
    let own = shown.iter().rfind(|told| told.is_own).or(shown.first());
    Chain {
        frames: shown.iter().rev().map(frame).collect(),
        truncated: trace.is_cut,
        block_site: own.map(|told| Site {
            function: short(&told.name),
            file: told.at.file.clone(),
            line: told.at.line,
        }),
        waits: waits(trace, &told, inside),
    }
}

fn nothing() -> Chain {
    Chain {
        frames: Vec::new(),
        truncated: true,
        block_site: None,
        waits: None,
    }
}

/// `is_own`: whether it is of one of the program's own crates, if that is known.
fn tell(node: &Node, layout: &Layout, is_own: Option<bool>) -> Told {
    let (at, has_begun) = match &layout.shape {
        Shape::Coroutine { states, .. } => {
            let state = states.iter().find(|state| Some(state.value) == node.state);
            (
                line_of(state, states.first()),
                state.is_none_or(|state| state.is_suspended),
            )
        }
        _ => (Line::default(), true),
    };
    Told {
        is_own: sites::is_own(&layout.name) && is_own.unwrap_or_else(|| !is_library(at.file.as_deref())),
        name: layout.name.clone(),
        at,
        has_begun,
        holds: node.holds,
    }
}

/// A macro of a library awaits where the library is: what is of interest is the function that it stands in.
fn line_of(state: Option<&Suspended>, definition: Option<&Suspended>) -> Line {
    let at = state.map(|state| state.at.clone()).unwrap_or_default();
    match definition {
        Some(definition) if is_library(at.file.as_deref()) && !is_library(definition.at.file.as_deref()) => {
            definition.at.clone()
        }
        _ => at,
    }
}

fn is_library(file: Option<&str>) -> bool {
    file.is_some_and(sites::is_library)
}

/// How many of the futures are within one another, before several are awaited at once.
fn trunk(nodes: &[Node]) -> usize {
    let mut least = u16::MAX;
    let mut trunk = nodes.len();
    for (index, node) in nodes.iter().enumerate().rev() {
        if node.depth >= least {
            trunk = index;
        }
        least = least.min(node.depth);
    }
    trunk
}

/// Which futures are told: those before several are awaited at once; and where these are libraries' all, those of the one
/// branch that has the program's own in it: a server awaits its connection and its end, and in the connection waits what
/// answers. With them the futures among which the wait is, all unless there was such a branch.
fn shown(nodes: &[Node], told: &[Told]) -> (Vec<usize>, Range<usize>) {
    let is_own = |index: &usize| told.get(*index).is_some_and(|told| told.is_own);
    let mut shown = Vec::new();
    let mut inside = 0..nodes.len();
    loop {
        let fork = inside.start + trunk(nodes.get(inside.clone()).unwrap_or_default());
        shown.extend(inside.start..fork);
        if shown.iter().any(is_own) {
            return (shown, inside);
        }
        let branches = branches(nodes, fork..inside.end);
        let mut own = branches
            .into_iter()
            .filter(|branch| branch.clone().any(|index| is_own(&index)));
        match (own.next(), own.next()) {
            (Some(branch), None) => inside = branch,
            _ => return (shown, inside),
        }
    }
}

/// The futures that are awaited at once, each with what is in it.
fn branches(nodes: &[Node], within: Range<usize>) -> Vec<Range<usize>> {
    let depth = |index: usize| nodes.get(index).map_or(0, |node| node.depth);
    let mut starts: Vec<usize> = Vec::new();
    for index in within.clone() {
        if starts.last().is_none_or(|start| depth(index) <= depth(*start)) {
            starts.push(index);
        }
    }
    let ends = starts.iter().skip(1).copied().chain([within.end]);
    starts.iter().zip(ends).map(|(start, end)| *start..end).collect()
}

/// `inside`: the futures among which the wait is.
fn waits(trace: &Trace, told: &[Told], inside: Range<usize>) -> Option<(String, WaitClass)> {
    let mut found: Vec<(String, WaitClass)> = Vec::new();
    let mut leaves = 0;
    let mut path: Vec<usize> = Vec::new();
    for (index, node) in trace.nodes.iter().enumerate() {
        while path
            .last()
            .and_then(|last| trace.nodes.get(*last))
            .is_some_and(|last| last.depth >= node.depth)
        {
            path.pop();
        }
        path.push(index);
        let is_leaf = trace
            .nodes
            .get(index + 1)
            .is_none_or(|next| next.depth <= node.depth);
        if is_leaf {
            let path: Vec<&Told> = path.iter().filter_map(|index| told.get(*index)).collect();
            // With one of them ends the wait.
            let wait = of_path(&path)?;
            if inside.contains(&index) {
                leaves += 1;
                if !found.contains(&wait) {
                    found.push(wait);
                }
            }
        }
    }
    let is_whole = inside.len() == trace.nodes.len();
    let together = trace.together.filter(|_| is_whole && leaves > 1);
    let is_external = |(_, class): &(String, WaitClass)| *class == WaitClass::External;
    // What the world may end waits for the world.
    let is_worlds = match together {
        Some(Together::Join) => found.iter().all(is_external),
        Some(Together::Select) | None => found.iter().any(is_external),
    };
    let class = if is_worlds {
        WaitClass::External
    } else {
        WaitClass::Internal
    };
    let words: Vec<String> = found.into_iter().map(|(word, _)| word).collect();
    match together {
        _ if words.is_empty() => None,
        Some(Together::Select) => Some(("select!".to_owned(), class)),
        Some(Together::Join) => Some(("join!".to_owned(), class)),
        None => Some((words.join(" or "), class)),
    }
}

/// What the innermost future of a path waits for: what the program, or a library, calls of tokio's.
fn of_path(path: &[&Told]) -> Option<(String, WaitClass)> {
    // Whatever timer is on the way ends the wait.
    let last = path.last()?;
    if last.holds == Holds::Futures || path.iter().any(|told| meaning(&told.name) == Meaning::Passing) {
        return None;
    }
    if !last.has_begun {
        return Some(("not polled yet".to_owned(), WaitClass::Internal));
    }
    let is_runtimes = |told: &&&Told| {
        let name = told.name.as_str();
        ["tokio::", "core::", "std::"]
            .iter()
            .any(|root| name.starts_with(root))
    };
    let called = path.iter().rev().take_while(is_runtimes).last().unwrap_or(last);
    match meaning(&called.name) {
        Meaning::Open(word, class) => Some((
            word,
            if last.holds == Holds::World {
                WaitClass::External
            } else {
                class
            },
        )),
        Meaning::Passing => None,
    }
}

#[cfg(test)]
mod tests;
