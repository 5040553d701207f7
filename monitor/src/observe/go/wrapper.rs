//! What a wrapper runs. `go f(x)` makes a function without arguments that calls `f` (`main.main.gowrap1`, before Go
//! 1.22 `main.main.func1`, as a method value makes `…-fm`): tracebacks leave it out, and so do we.

use iced_x86::{Code, Decoder, DecoderOptions};

use super::{
    frames::{begin, site},
    pclntab::Function,
    program::Program,
};
use crate::{model::Site, observe::memory::space::SpaceExt as _};

/// Wrappers are short; they copy arguments and call.
const MAX_CODE: usize = 512;
/// A wrapper may call a wrapper.
const MAX_DEPTH: usize = 4;

/// The function that a wrapper calls, or that was inlined into it. `None` where it calls through a pointer.
pub fn inside(program: &Program, wrapper: &Function) -> Option<Site> {
    let mut wrapper = wrapper.clone();
    for _ in 0..MAX_DEPTH {
        let length = usize::try_from(wrapper.end.checked_sub(wrapper.entry)?).ok()?;
        let code = program
            .functions
            .space()
            .some(wrapper.entry, length.min(MAX_CODE), 1);
        let mut inlined = None;
        let mut called = None;
        for instruction in &mut Decoder::with_ip(64, &code, wrapper.entry, DecoderOptions::NONE) {
            if instruction.is_invalid() {
                break;
            }
            let mut calls = program.functions.calls(&wrapper, instruction.ip());
            if calls.len() > 1 {
                // The outermost of those that were inlined: the last one is the wrapper itself.
                let outermost = calls.swap_remove(calls.len() - 2);
                if !outermost.function.starts_with("runtime.") {
                    inlined = Some(outermost);
                    break;
                }
            }
            if instruction.code() == Code::Call_rel32_64 {
                let target = instruction.near_branch_target();
                let function = program.functions.function(target).filter(|it| it.entry == target);
                let name = function
                    .as_ref()
                    .and_then(|function| program.functions.name(function));
                if name.is_some_and(|name| !name.starts_with("runtime.")) {
                    called = function;
                    break;
                }
            }
        }
        if let Some(call) = inlined {
            // The line is that of what it does first: a function has none of its own once it is inlined.
            return Some(Site {
                line: None,
                ..site(call)
            });
        }
        let called = called?;
        if program.marked.wrapper != Some(called.id) {
            return begin(&program.functions, called.entry);
        }
        wrapper = called;
    }
    None
}
