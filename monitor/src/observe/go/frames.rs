//! From the addresses of a stack to the frames that `goroutine?debug=2` of the same process prints: inlined calls
//! each by itself, the runtime's inner workings left out (runtime/traceback.go, `showframe`, `showfuncinfo` and
//! `funcNamePiecesForPrint`).

use std::borrow::Cow;

use super::{
    pclntab::{Call, Function, Pclntab},
    program::{Marked, Program},
};
use crate::{
    identify::clean,
    model::{Creator, Frame, Site},
    observe::memory::space::Space,
};

/// Frames of one stack, inlined ones included.
const MAX_FRAMES: usize = 128;
/// Longest name of a function or file, in characters.
const MAX_NAME: usize = 512;

/// The frames of a stack.
#[derive(Debug, Default)]
pub struct Frames {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// How far into its function each is; 0 of inlined ones.
    pub within: Vec<u32>,
    /// There were more.
    pub truncated: bool,
}

pub fn of_stack(program: &Program, module: &str, pcs: &[u64]) -> Frames {
    let mut told = Frames::default();
    let frames = &mut told.frames;
    // What the frame inside of this one is: a wrapper is shown where a panic goes through it.
    let mut inner = None;
    let mut interrupted = false;
    for pc in pcs {
        let Some(function) = program.functions.function(*pc) else {
            frames.push(nowhere(module, program.file_offset(*pc)));
            told.within.push(0);
            interrupted = false;
            continue;
        };
        // What a return address stands behind is the call. A signal interrupts an instruction, and an instruction
        // that a function begins with was called by nobody.
        let is_exact = interrupted || *pc == function.entry;
        let at = if is_exact { *pc } else { pc.wrapping_sub(1) };
        for call in program.functions.calls(&function, at) {
            let outer = inner.replace(call.id);
            if !is_shown(&program.marked, &call, frames.is_empty(), outer) {
                continue;
            }
            if frames.len() == MAX_FRAMES {
                told.truncated = true;
                return told;
            }
            told.within.push(match call.inlined {
                true => 0,
                false => within(&function, *pc),
            });
            frames.push(Frame {
                function: Some(clean(&printed(&call.function), MAX_NAME)),
                file: call.file.map(|file| clean(&file, MAX_NAME)),
                line: call.line,
                inlined: call.inlined,
                module: module.to_owned(),
                offset: program.file_offset(*pc),
                guessed: false,
            });
        }
        interrupted = program.marked.signal_panic == Some(function.id);
    }
    told
}

fn within(function: &Function, pc: u64) -> u32 {
    u32::try_from(pc.saturating_sub(function.entry)).unwrap_or(0)
}

/// What a traceback calls the place that a goroutine was made at: the function that stands there, whatever was put into
/// it (`printcreatedby1`).
pub fn creator(program: &Program, gopc: u64) -> Option<Creator> {
    let function = program.functions.function(gopc)?;
    let (file, line) = program
        .functions
        .line(&function, gopc.saturating_sub(u64::from(gopc > function.entry)));
    let call = Call {
        function: program.functions.name(&function)?,
        file,
        line,
        id: function.id,
        inlined: false,
    };
    is_shown(&program.marked, &call, false, None).then(|| Creator {
        site: site(call),
        within: within(&function, gopc),
    })
}

/// What made a goroutine, by the address behind the call. The first one and the runtime's own were made by nobody.
pub fn spawn_site(program: &Program, gopc: u64) -> Option<Site> {
    let at = gopc.wrapping_sub(1);
    let function = program.functions.function(at)?;
    let call = program.functions.calls(&function, at).into_iter().next()?;
    (!call.function.starts_with("runtime.")).then(|| site(call))
}

/// What a goroutine runs, by its first function.
pub fn entry(program: &Program, startpc: u64) -> Option<Site> {
    let function = program.functions.function(startpc)?;
    if program.runtime_main == Some(function.entry)
        && let Some(main) = &program.main
    {
        return begin(&program.functions, main.entry);
    }
    let wrapped = (program.marked.wrapper == Some(function.id))
        .then(|| super::wrapper::inside(program, &function))
        .flatten();
    wrapped.or_else(|| begin(&program.functions, function.entry))
}

/// The function that begins at an address, and where.
pub fn begin<S: Space>(functions: &Pclntab<S>, entry: u64) -> Option<Site> {
    let function = functions
        .function(entry)
        .filter(|function| function.entry == entry)?;
    let (file, line) = functions.line(&function, entry);
    Some(site(Call {
        function: functions.name(&function)?,
        file,
        line,
        id: function.id,
        inlined: false,
    }))
}

pub fn site(call: Call) -> Site {
    Site {
        function: clean(&printed(&call.function), MAX_NAME),
        file: call.file.map(|file| clean(&file, MAX_NAME)),
        line: call.line,
    }
}

fn nowhere(module: &str, offset: u64) -> Frame {
    Frame {
        function: None,
        file: None,
        line: None,
        inlined: false,
        module: module.to_owned(),
        offset,
        guessed: false,
    }
}

fn is_shown(marked: &Marked, call: &Call, is_first: bool, inner: Option<u8>) -> bool {
    let is = |known: Option<u8>, id: u8| known == Some(id);
    if is(marked.wrapper, call.id) {
        let panics = [marked.panic, marked.signal_panic, marked.wrapper_panic];
        if !inner.is_some_and(|inner| panics.iter().any(|known| is(*known, inner))) {
            return false;
        }
    }
    if marked.finalizers.iter().any(|known| is(*known, call.id)) {
        return true;
    }
    let name = call.function.as_str();
    match name.strip_prefix("runtime.") {
        Some("gopanic") => !is_first,
        Some(inside) => is_exported(inside),
        None => name.contains('.'),
    }
}

/// `NumGoroutine`, `(*Frames).Next`.
fn is_exported(name: &str) -> bool {
    let upper = |text: &str| text.starts_with(|c: char| c.is_ascii_uppercase());
    match name.rsplit_once('.') {
        Some((receiver, name)) => {
            let receiver = receiver
                .strip_prefix("(*")
                .and_then(|it| it.strip_suffix(')'))
                .unwrap_or(receiver);
            upper(name) && upper(receiver)
        }
        None => upper(name),
    }
}

/// As a traceback prints it: type arguments are left out, and a panic is called so.
pub fn printed(name: &str) -> Cow<'_, str> {
    if name == "runtime.gopanic" {
        return "panic".into();
    }
    match (name.find('['), name.rfind(']')) {
        (Some(from), Some(to)) if from < to => format!("{}[...]{}", &name[..from], &name[to + 1..]).into(),
        _ => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_printed_as_the_runtime_prints_them() {
        for (name, expected) in [
            ("main.Gen[go.shape.string]", "main.Gen[...]"),
            (
                "main.(*T[go.shape.string,go.shape.int]).Wait",
                "main.(*T[...]).Wait",
            ),
            ("main.(*T[main.U[int]]).Wait.func1", "main.(*T[...]).Wait.func1"),
            ("runtime.gopanic", "panic"),
            ("main.main", "main.main"),
            ("main.]odd[", "main.]odd["),
        ] {
            assert_eq!(printed(name), expected);
        }
    }

    #[test]
    fn of_the_runtime_only_what_a_program_can_call_is_shown() {
        let shown = |name: &str, is_first| {
            let call = Call {
                function: name.to_owned(),
                file: None,
                line: None,
                id: 0,
                inlined: false,
            };
            is_shown(&Marked::default(), &call, is_first, None)
        };
        for name in [
            "main.f",
            "sync.(*Mutex).Lock",
            "runtime.Gosched",
            "runtime.(*Frames).Next",
        ] {
            assert!(shown(name, true), "{name}");
        }
        for name in [
            "runtime.gopark",
            "runtime.(*mheap).Alloc",
            "runtime.(*Frames).next",
            "gogo",
            "runtime.",
        ] {
            assert!(!shown(name, true), "{name}");
        }
        assert!(shown("runtime.gopanic", false) && !shown("runtime.gopanic", true));
    }

    #[test]
    fn wrappers_are_shown_only_around_a_panic() {
        let marked = Marked {
            wrapper: Some(23),
            panic: Some(5),
            ..Marked::default()
        };
        let wrapper = Call {
            function: "main.(*T).M".to_owned(),
            file: None,
            line: None,
            id: 23,
            inlined: false,
        };
        assert!(!is_shown(&marked, &wrapper, true, None));
        assert!(!is_shown(&marked, &wrapper, false, Some(0)));
        assert!(is_shown(&marked, &wrapper, false, Some(5)));
    }
}
