//! What a future is called: its type, as the symbols of a program tell it. Pure.

use crate::identify::clean;

/// Longest name, in characters.
const MAX_NAME: usize = 512;
/// Names that are longer than this say less of their parameters.
const LONG: usize = 100;
/// How far parameters within parameters are told of a long name: the first that makes it short enough.
const DEPTHS: [usize; 3] = [2, 1, 0];

/// Types of tokio that have the future as their first parameter, behind whose name that begins.
const HOLDERS: [&str; 4] = [
    "tokio::runtime::task::core::Cell<",
    "tokio::runtime::task::core::CoreStage<",
    "tokio::runtime::task::core::Stage<",
    "tokio::runtime::task::core::Core<",
];
/// The function that every vtable begins with, where its symbol has its parameters.
const POLL: &str = "tokio::runtime::task::raw::poll::<";

/// The future that a demangled symbol speaks of: the poll function's own (only the newer mangling has its parameters), or
/// that of a function that drops a task's cell.
pub fn future_of(symbol: &str) -> Option<String> {
    let inside = symbol.strip_prefix(POLL).or_else(|| {
        if !symbol.contains("drop_in_place") {
            return None;
        }
        HOLDERS
            .iter()
            .find_map(|holder| symbol.split_once(holder))
            .map(|(_, inside)| inside)
    })?;
    Some(readable(first_parameter(inside)))
}

/// The body of an async function or block, by its symbol, if it is not of a library that every program with tokio has.
pub fn body_of(symbol: &str) -> Option<String> {
    let is_body = symbol.ends_with("{{closure}}") || symbol.ends_with('}') && symbol.contains("{closure#");
    let root = symbol.trim_start_matches('<').split("::").next()?;
    let is_library = matches!(root, "tokio" | "core" | "std" | "alloc");
    (is_body && !is_library).then(|| readable(symbol))
}

/// Up to the comma or bracket that ends a parameter.
fn first_parameter(text: &str) -> &str {
    let mut depth = 0_i32;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '<' | '(' | '[' | '{' => depth += 1,
            // The arrow of a function's type closes nothing.
            '>' if before == '-' => {}
            '>' | ',' if depth == 0 => return text.get(..at).unwrap_or(text),
            '>' | ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        before = c;
    }
    text
}

/// A type as a person would say it: `app::fetch::{async block}`, whatever its compiler calls that.
pub fn readable(name: &str) -> String {
    let mut text = name.trim().to_owned();
    // DWARF knows functions from blocks: a function's future is called like the function.
    text = text.replace("::{async_fn_env#0}", "");
    // What stands in the body of one stands in the function.
    text = text.replace("::{async_fn#0}", "");
    text = without_implementations(&text);
    for (from, to) in [
        ("{async_block_env#", "{async block#"),
        ("{closure_env#", "{closure#"),
    ] {
        text = text.replace(from, to);
    }
    text = text.replace(", alloc::alloc::Global>", ">");
    text = text.replace("{{closure}}", "{closure}");
    // What a task runs is no closure.
    if let Some((path, number)) = text.rsplit_once("::{closure")
        && let Some(number) = number.strip_suffix('}')
        && number
            .strip_prefix('#')
            .unwrap_or(number)
            .bytes()
            .all(|byte| byte.is_ascii_digit())
    {
        text = format!("{path}::{{async block{number}}}");
    }
    clean(&text.replace("{async block#0}", "{async block}"), MAX_NAME)
}

/// A long name with its innermost parameters left out, as far as need be: `app::serve<…>`.
pub fn short(name: &str) -> String {
    let mut text = name.to_owned();
    for depth in DEPTHS {
        if text.chars().count() <= LONG {
            break;
        }
        text = without_parameters(name, depth);
    }
    text
}

/// A name with its parameters as far as they are no deeper than this in others.
fn without_parameters(name: &str, most: usize) -> String {
    let mut text = String::with_capacity(name.len());
    let mut depth = 0_usize;
    let mut before = ' ';
    for c in name.chars() {
        let is_end = c == '>' && before != '-';
        if is_end {
            depth = depth.saturating_sub(1);
        }
        if depth <= most {
            text.push(c);
        }
        if c == '<' {
            depth += 1;
            if depth == most + 1 {
                text.push('…');
            }
        }
        before = c;
    }
    // Of a name that was cut.
    text.extend(std::iter::repeat_n('>', depth.min(most + 1)));
    text
}

/// DWARF numbers implementations: `{impl#3}`. Nobody else does.
fn without_implementations(text: &str) -> String {
    const BEGINNING: &str = "{impl#";
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, from)) = rest.split_once(BEGINNING) {
        match from.split_once("}::") {
            Some((number, after)) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                kept.push_str(before);
                rest = after;
            }
            _ => {
                kept.push_str(before);
                kept.push_str(BEGINNING);
                rest = from;
            }
        }
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn futures_are_found_in_symbols_of_either_mangling() {
        let pairs = [
            (
                "tokio::runtime::task::raw::poll::<app::main::{closure#0}, alloc::sync::Arc<tokio::runtime::scheduler::multi_thread::handle::Handle>>",
                Some("app::main::{async block}"),
            ),
            (
                "core::ptr::drop_in_place<tokio::runtime::task::core::Cell<app::run::{{closure}}::{{closure}},alloc::sync::Arc<tokio::runtime::scheduler::current_thread::Handle>>>",
                Some("app::run::{closure}::{async block}"),
            ),
            (
                "core::ptr::drop_in_place<alloc::boxed::Box<tokio::runtime::task::core::Cell<core::pin::Pin<alloc::boxed::Box<dyn core::future::future::Future<Output = (u8, u8)> + core::marker::Send>>, S>>>",
                Some(
                    "core::pin::Pin<alloc::boxed::Box<dyn core::future::future::Future<Output = (u8, u8)> + core::marker::Send>>",
                ),
            ),
            (
                "core::ptr::drop_in_place<tokio::runtime::task::core::CoreStage<app::Job<fn(u8) -> u8>>>",
                Some("app::Job<fn(u8) -> u8>"),
            ),
            ("tokio::runtime::task::raw::poll", None),
            ("core::ptr::drop_in_place<app::Job>", None),
            ("", None),
        ];
        for (symbol, expected) in pairs {
            assert_eq!(future_of(symbol).as_deref(), expected, "{symbol}");
        }
    }

    #[test]
    fn a_type_is_told_as_a_person_would() {
        let pairs = [
            ("app::fetch::{async_fn_env#0}", "app::fetch"),
            ("app::main::{async_block_env#0}", "app::main::{async block}"),
            ("app::main::{async_block_env#3}", "app::main::{async block#3}"),
            (
                "app::main::{closure#0}::{closure#2}",
                "app::main::{closure#0}::{async block#2}",
            ),
            (
                "tracing::instrument::Instrumented<app::f::{async_fn_env#0}>",
                "tracing::instrument::Instrumented<app::f>",
            ),
            (
                "app::echo::{async_fn#0}::{async_block_env#0}",
                "app::echo::{async block}",
            ),
            (
                "app::{impl#3}::call::{async_block_env#1}",
                "app::call::{async block#1}",
            ),
            ("app::{impl#x}::call", "app::{impl#x}::call"),
            (
                "app::f::{closure#19}::{async_block_env#0}",
                "app::f::{closure#19}::{async block}",
            ),
            ("app::Future", "app::Future"),
        ];
        for (name, expected) in pairs {
            assert_eq!(readable(name), expected);
        }
    }

    #[test]
    fn bodies_are_those_of_the_program() {
        assert_eq!(
            body_of("app::f::{{closure}}").as_deref(),
            Some("app::f::{async block}")
        );
        assert_eq!(
            body_of("app::f::{closure#1}").as_deref(),
            Some("app::f::{async block#1}")
        );
        for other in ["app::f", "tokio::sync::f::{{closure}}", "core::f::{closure#0}"] {
            assert_eq!(body_of(other), None, "{other}");
        }
    }

    #[test]
    fn long_names_say_less_of_their_parameters() {
        assert_eq!(short("app::serve<app::A<u8>>"), "app::serve<app::A<u8>>");
        let boxed = format!(
            "core::pin::Pin<alloc::boxed::Box<dyn app::Future<app::{}>>>",
            "a".repeat(90)
        );
        assert_eq!(
            short(&boxed),
            "core::pin::Pin<alloc::boxed::Box<dyn app::Future<…>>>"
        );
        let wide = format!(
            "app::serve<app::{0}, app::B<u8>>::{{async block#3}}<app::{0}>",
            "a".repeat(90)
        );
        assert_eq!(short(&wide), "app::serve<…>::{async block#3}<…>");
        let call = format!("app::call<fn() -> app::{}>", "a".repeat(90));
        assert_eq!(short(&call), "app::call<…>");
        let cut = format!("app::wide<((u8, {}", "u8, ".repeat(90));
        assert_eq!(short(&cut), "app::wide<…>");
    }

    proptest! {
        #[test]
        fn any_symbol_is_taken(before in "(tokio::runtime::task::raw::poll::<|drop_in_place<tokio::runtime::task::core::Cell<)?", text in "[a-b<>(){},:#é \\-]{0,60}") {
            let _ = future_of(&format!("{before}{text}"));
            let _ = body_of(&text);
        }
    }
}
