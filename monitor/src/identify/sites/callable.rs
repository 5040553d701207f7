//! What a C++ `std::thread` was made of, by the type of its state object (libstdc++):
//! `std::thread::_State_impl<std::thread::_Invoker<std::tuple<CALLABLE, ARGUMENTS…>>>`.

use super::names::short;

/// The state object's type.
const STATE: &str = "std::thread::_State_impl<";

/// What is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callable {
    /// A pointer to a function or to a member, of this type.
    Pointer(String),
    /// An object (a lambda), by its function's name.
    Object(String),
}

/// The first type of the tuple in a demangled type or function of it; `None` in any other, and in one that was cut.
pub fn callable(readable: &str) -> Option<Callable> {
    let (_, state) = readable.split_once(STATE)?;
    let (_, inside) = state.split_once("std::tuple<")?;
    let mut depth = 0_i32;
    let end = inside.char_indices().find_map(|(at, c)| {
        match c {
            '<' | '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => depth -= 1,
            '>' | ',' if depth == 0 => return Some(at),
            '>' => depth -= 1,
            _ => {}
        }
        None
    })?;
    let text = inside.get(..end)?.trim();
    Some(if text.contains("*)(") {
        Callable::Pointer(text.to_owned())
    } else {
        Callable::Object(short(&format!("{text}::operator()()")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identify::demangle::demangle;
    use proptest::prelude::*;

    #[test]
    fn callables_are_found_in_types() {
        let pairs = [
            ("JPFviEiE", Callable::Pointer("void (*)(int)".to_owned())),
            (
                "JM6ServerFvvEPS3_E",
                Callable::Pointer("void (Server::*)()".to_owned()),
            ),
            (
                "JZ4mainEUlvE_E",
                Callable::Object("main::{lambda()#1}::operator()".to_owned()),
            ),
            ("J6WorkeriE", Callable::Object("Worker::operator()".to_owned())),
        ];
        for (tuple, expected) in pairs {
            let mangled = format!("_ZTSNSt6thread11_State_implINS_8_InvokerISt5tupleI{tuple}EEEEE");
            assert_eq!(callable(&demangle(&mangled)), Some(expected), "{mangled}");
        }
        for other in [
            "Worker",
            "std::tuple<Worker>",
            "std::thread::_State_impl<std::tuple<Wor…",
        ] {
            assert_eq!(callable(other), None, "{other}");
        }
    }

    #[test]
    fn a_function_of_the_state_object_tells_it_as_well() {
        let run = "std::thread::_State_impl<std::thread::_Invoker<std::tuple<void hold<f(int)::{lambda()#1}>(f(int)::{lambda()#1})::{lambda()#2}> > >::_M_run()";
        assert_eq!(
            callable(run),
            Some(Callable::Object(
                "hold<f(int)::{lambda()#1}>(f(int)::{lambda()#1})::{lambda()#2}::operator()".to_owned()
            ))
        );
    }

    proptest! {
        #[test]
        fn any_type_is_taken(before in "(std::thread::_State_impl<)?[a<>(){},]{0,20}", inside in "(std::tuple<)?[a-c<>(){}\\[\\],*:é ]{0,40}") {
            let _ = callable(&format!("{before}{inside}"));
        }
    }
}
