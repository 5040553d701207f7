//! From a trace to what is told of it: the frames of its stack, where it awaits, and what for.

use serde::{Deserialize, Serialize};

use super::{
    awaits::{Node, Together, Trace},
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
}

/// What a trace says. `module`: the program's name.
pub fn describe(trace: &Trace, types: &mut Reader<'_>, module: &str) -> Chain {
    let told: Vec<Told> = trace
        .nodes
        .iter()
        .filter_map(|node| Some(tell(node, &*types.layout(node.of_type)?)))
        .collect();
    if told.len() != trace.nodes.len() {
        return nothing();
    }
    let trunk = trunk(&trace.nodes);
    let frame = |told: &Told| Frame {
        function: Some(told.name.clone()),
        file: told.at.file.clone(),
        line: told.at.line,
        inlined: false,
        module: module.to_owned(),
        offset: 0,
        guessed: false,
    };
    let shown = &told[..trunk];
    let own = shown.iter().rfind(|told| told.is_own).or(shown.first());
    Chain {
        frames: shown.iter().rev().map(frame).collect(),
        truncated: trace.is_cut,
        block_site: own.map(|told| Site {
            function: told.name.clone(),
            file: told.at.file.clone(),
            line: told.at.line,
        }),
        waits: waits(trace, &told, trunk),
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

fn tell(node: &Node, layout: &Layout) -> Told {
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
        is_own: sites::is_own(&layout.name) && !is_library(at.file.as_deref()),
        name: layout.name.clone(),
        at,
        has_begun,
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

fn waits(trace: &Trace, told: &[Told], trunk: usize) -> Option<(String, WaitClass)> {
    let mut found: Vec<(String, WaitClass)> = Vec::new();
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
            if !found.contains(&wait) {
                found.push(wait);
            }
        }
    }
    let is_several = trunk < trace.nodes.len();
    let all = |class: WaitClass| found.iter().all(|(_, known)| *known == class);
    match (found.len(), trace.together) {
        (0, _) => None,
        (_, Some(together)) if is_several => {
            let class = if all(WaitClass::External) {
                WaitClass::External
            } else {
                WaitClass::Internal
            };
            let word = match together {
                Together::Select => "select!",
                Together::Join => "join!",
            };
            Some((word.to_owned(), class))
        }
        (1, _) => found.pop(),
        _ => {
            let class = if all(WaitClass::External) {
                WaitClass::External
            } else {
                WaitClass::Internal
            };
            let words: Vec<String> = found.into_iter().map(|(word, _)| word).collect();
            Some((words.join(" or "), class))
        }
    }
}

/// What the innermost future of a path waits for: what the program, or a library, calls of tokio's.
fn of_path(path: &[&Told]) -> Option<(String, WaitClass)> {
    // Whatever timer is on the way ends the wait.
    if path.iter().any(|told| meaning(&told.name) == Meaning::Passing) {
        return None;
    }
    let last = path.last()?;
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
        Meaning::Open(word, class) => Some((word, class)),
        Meaning::Passing => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(depth: u16) -> Node {
        Node {
            of_type: 0,
            state: None,
            depth,
        }
    }

    fn told(name: &str) -> Told {
        Told {
            name: name.to_owned(),
            at: Line::default(),
            is_own: false,
            has_begun: true,
        }
    }

    fn said(names: &[(&str, u16)], together: Option<Together>) -> Option<String> {
        let trace = Trace {
            nodes: names.iter().map(|(_, depth)| node(*depth)).collect(),
            together,
            is_cut: false,
        };
        let told: Vec<Told> = names.iter().map(|(name, _)| told(name)).collect();
        waits(&trace, &told, trunk(&trace.nodes)).map(|(word, _)| word)
    }

    #[test]
    fn the_trunk_ends_where_several_are_awaited() {
        let depths = |depths: &[u16]| trunk(&depths.iter().map(|depth| node(*depth)).collect::<Vec<_>>());
        assert_eq!(depths(&[0, 1, 2]), 3);
        assert_eq!(depths(&[0, 1, 3, 4, 3, 4]), 2);
        assert_eq!(depths(&[0, 1, 1]), 1);
        assert_eq!(depths(&[]), 0);
    }

    #[test]
    fn a_wait_is_what_the_program_calls_of_tokios() {
        let lock = [
            ("app::f", 0),
            ("tokio::sync::mutex::lock", 1),
            ("tokio::sync::batch_semaphore::Acquire", 2),
        ];
        assert_eq!(said(&lock, None).as_deref(), Some("Mutex::lock"));
        let library = [
            ("app::f", 0),
            ("hyper::g", 1),
            ("tokio::sync::notify::Notified", 2),
        ];
        assert_eq!(said(&library, None).as_deref(), Some("Notified"));
        assert_eq!(
            said(&[("app::f", 0), ("app::jobs::Queue", 1)], None).as_deref(),
            Some("jobs::Queue")
        );
    }

    #[test]
    fn several_waits_are_one_and_a_timer_ends_them_all() {
        let mut two = vec![
            ("app::f", 0),
            ("tokio::sync::notify::Notified", 2),
            ("app::g", 2),
            ("tokio::sync::oneshot::Receiver<u8>", 3),
        ];
        assert_eq!(said(&two, Some(Together::Select)).as_deref(), Some("select!"));
        assert_eq!(said(&two, Some(Together::Join)).as_deref(), Some("join!"));
        assert_eq!(said(&two, None).as_deref(), Some("Notified or oneshot::Receiver"));
        two.push(("tokio::time::sleep::Sleep", 2));
        assert_eq!(said(&two, Some(Together::Select)), None);
        assert_eq!(
            said(&[("app::f", 0)], Some(Together::Join)).as_deref(),
            Some("app::f")
        );
    }
}
