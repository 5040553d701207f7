//! Which frame of a stack stands for it: where it blocks, and what it runs. Pure; the rules are in `rules`.
//!
//! The block site is the innermost frame of the program's own code, the entry its outermost. Between them and the
//! kernel are libraries that wait on behalf of others: C's, C++'s and Rust's, and runtimes.

mod callable;
mod names;
mod rules;
mod table;

pub use callable::{Callable, callable};
use names::short;
use rules::{Role, Rules};

use crate::model::{Frame, Site};

/// Stands for a function that nothing is known of.
pub const UNKNOWN: &str = "[unknown]";

/// Where a thread blocks. When none of its frames is the program's own, the innermost of the runtime that it
/// belongs to: what an idle pool looks like. `None` when there is no other code than the C library's.
pub fn block_site(frames: &[Frame]) -> Option<Site> {
    let rules = Rules::of(frames);
    let told = |index: &usize| matches!(rules.role(*index), Role::Own | Role::Interpreter(_));
    if let Some(index) = (0..frames.len()).find(told) {
        return site(&rules, index);
    }
    let runtime = outermost_of_runtime(&rules, frames)?;
    let name = rules.runtime(runtime);
    let index = (0..frames.len()).find(|index| rules.runtime(*index) == name)?;
    site(&rules, index)
}

/// What a thread runs: its start routine, or a closure. Its line is left out: a frame knows but the one where it
/// is now, which is no part of what a thread *is*. Not to be asked of a stack whose outermost frames are missing.
pub fn entry(frames: &[Frame]) -> Option<Site> {
    let rules = Rules::of(frames);
    let told = |index: &usize| matches!(rules.role(*index), Role::Own | Role::Interpreter(_));
    let index = (0..frames.len())
        .rev()
        .find(told)
        .or_else(|| outermost_of_runtime(&rules, frames))?;
    Some(Site {
        line: None,
        ..site(&rules, index)?
    })
    .filter(|entry| !entry.function.starts_with(table::GO_RUNTIME))
}

/// Whether a function is the program's own, by its name alone.
pub fn is_own(function: &str) -> bool {
    let frame = Frame {
        function: Some(function.to_owned()),
        file: None,
        line: None,
        inlined: false,
        module: String::new(),
        offset: 0,
        guessed: false,
    };
    own_entry(&[frame]).is_some()
}

/// Whose code the functions are that stand at one place: the one that was compiled there, and those that were put into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The program's own.
    Own(Site),
    /// A library's, as its source tells, that is no runtime's.
    Library(Site),
    /// A language's or a runtime's.
    Runtime,
}

/// The owner of a place, by its frames, innermost first; where there are several, the program, then a library.
pub fn owner(frames: &[Frame]) -> Owner {
    let rules = Rules::of(frames);
    let innermost = |wanted: &dyn Fn(&Frame) -> bool| {
        let is_meant =
            |index: &usize| rules.role(*index) == Role::Own && rules.frame(*index).is_some_and(wanted);
        let mut all = (0..frames.len()).filter(is_meant);
        let index = all.next()?;
        // Line tables call the body of an async function, or a closure, by its number alone: around it are others.
        let is_called = |index: &usize| {
            let function = rules.frame(*index).and_then(|frame| frame.function.as_deref());
            function.is_some_and(|function| !function.starts_with('{'))
        };
        let called = std::iter::once(index).chain(all).find(is_called).unwrap_or(index);
        let frame = rules.frame(index)?;
        Some(Site {
            function: site(&rules, called)?.function,
            file: frame.file.clone(),
            line: frame.line,
        })
    };
    let is_library = |frame: &Frame| frame.file.as_deref().is_some_and(is_library);
    match innermost(&|frame| !is_library(frame)) {
        Some(site) => Owner::Own(site),
        None => innermost(&is_library).map_or(Owner::Runtime, Owner::Library),
    }
}

/// Whether a source is no part of the program itself: Rust's libraries lie where they were fetched to, or built.
pub fn is_library(file: &str) -> bool {
    const PLACES: [&str; 3] = ["/registry/src/", "/git/checkouts/", "/rustc/"];
    PLACES.iter().any(|place| file.contains(place))
}

/// What a start routine says of the thread, if it is the program's own code and no library's or runtime's.
pub fn own_entry(frames: &[Frame]) -> Option<Site> {
    let rules = Rules::of(frames);
    let index = (0..frames.len())
        .rev()
        .find(|index| rules.role(*index) == Role::Own)?;
    Some(Site {
        line: None,
        ..site(&rules, index)?
    })
}

fn outermost_of_runtime(rules: &Rules<'_>, frames: &[Frame]) -> Option<usize> {
    (0..frames.len())
        .rev()
        .find(|index| rules.role(*index) == Role::Runtime)
}

fn site(rules: &Rules<'_>, index: usize) -> Option<Site> {
    let frame = rules.frame(index)?;
    let function = match (rules.role(index), &frame.function) {
        (Role::Interpreter(name), _) => return Some(named(name.to_owned())),
        (_, Some(function)) => own_name(rules, index, short(function)),
        (_, None) => return Some(named(in_brackets(&frame.module))),
    };
    Some(Site {
        function,
        file: frame.file.clone(),
        line: frame.line,
    })
}

/// The debug information of a lambda that was put into another function has but `operator()`. Where that function is
/// the one that a C++ thread begins with, its type has all of it.
fn own_name(rules: &Rules<'_>, index: usize, name: String) -> String {
    if name != "operator()" {
        return name;
    }
    let chain = (index..).map_while(|index| rules.frame(index));
    let mut is_inside = true;
    let callable = chain
        .take_while(|frame| std::mem::replace(&mut is_inside, frame.inlined))
        .find_map(|frame| callable(frame.function.as_deref()?));
    match callable {
        Some(Callable::Object(full)) => full,
        _ => name,
    }
}

/// What stands for code of a module of which no more is known.
pub fn nameless(module: &str) -> Site {
    named(in_brackets(module))
}

fn named(function: String) -> Site {
    Site {
        function,
        file: None,
        line: None,
    }
}

/// `[libfoo.so.1]`; what has brackets already (`[jit]`) keeps them.
fn in_brackets(module: &str) -> String {
    match module {
        "" => UNKNOWN.to_owned(),
        module if module.starts_with('[') => module.to_owned(),
        module => format!("[{module}]"),
    }
}

#[cfg(test)]
mod tests;
