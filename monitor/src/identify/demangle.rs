//! From a symbol to the name that a person reads: Rust (v0 and legacy) and C++.
//!
//! Not left to blazesym, which sets no bound: names may come from a hostile file, and a mangled name can refer to
//! its own parts over and over.

use std::fmt::Write as _;

use cpp_demangle::{DemangleOptions, ParseOptions, Symbol};

use super::text::{Bounded, clean};

/// Longest name of a function, in characters.
pub const MAX_NAME: usize = 512;
/// Longer symbols are shown as they are: nothing that a compiler makes of real code is so long.
const MAX_MANGLED: usize = 16 * 1024;
/// How deep a C++ name may nest; each level takes some kilobytes of our own stack.
const MAX_DEPTH: u32 = 96;

/// What Go's linker puts behind the names of functions in assembly (cmd/link, `mangleABIName`); its own table of functions
/// has them without.
const GO_ASSEMBLY: &str = ".abi0";

/// At most [`MAX_NAME`] characters, without the hash that Rust puts at the end of a symbol.
pub fn demangle(symbol: &str) -> String {
    rust(symbol)
        .or_else(|| cpp(symbol))
        .unwrap_or_else(|| clean(symbol.strip_suffix(GO_ASSEMBLY).unwrap_or(symbol), MAX_NAME))
}

fn rust(symbol: &str) -> Option<String> {
    if symbol.len() > MAX_MANGLED {
        return None;
    }
    let demangled = rustc_demangle::try_demangle(symbol).ok()?;
    let mut text = Bounded::new(MAX_NAME);
    // An error is the cut, which `finish` marks.
    let _ = write!(text, "{demangled:#}");
    Some(text.finish())
}

fn cpp(symbol: &str) -> Option<String> {
    if symbol.len() > MAX_MANGLED || !symbol.starts_with("_Z") {
        return None;
    }
    let parse = ParseOptions::default().recursion_limit(MAX_DEPTH);
    let symbol = Symbol::new_with_options(symbol, &parse).ok()?;
    let mut text = Bounded::new(MAX_NAME);
    let options = DemangleOptions::new()
        .hide_expression_literal_types()
        .recursion_limit(MAX_DEPTH);
    match symbol.structured_demangle(&mut text, &options) {
        Ok(()) => Some(text.finish()),
        Err(_) if text.is_cut() => Some(text.finish()),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_mangling_is_read() {
        let pairs = [
            ("mutex_acquire_forever", "mutex_acquire_forever"),
            ("_ZN3std6thread5sleep17h0123456789abcdefE", "std::thread::sleep"),
            ("_RNvCs4fqI2P2rA04_7mycrate3foo", "mycrate::foo"),
            ("_ZN4Pool7acquireEv", "Pool::acquire()"),
            ("_ZL18mutex_lock_foreverv", "mutex_lock_forever()"),
            ("runtime.futex.abi0", "runtime.futex"),
            ("_Z", "_Z"),
            ("", ""),
        ];
        for (symbol, name) in pairs {
            assert_eq!(demangle(symbol), name);
        }
    }

    #[test]
    fn long_names_are_cut() {
        let name = demangle(&"x".repeat(1_000_000));
        assert_eq!(name.chars().count(), MAX_NAME);
        assert!(name.ends_with('…'));
        let mangled = format!("_Z600{}v", "y".repeat(600));
        assert_eq!(demangle(&mangled).chars().count(), MAX_NAME);
    }

    /// Each parameter is a pair of the one before: written out, the name has 2⁶⁰ parts.
    #[test]
    fn a_name_that_doubles_with_each_byte_is_cut() {
        let mut mangled = String::from("_Z1fI1aE1bIS_S_E");
        for index in 0..60_u32 {
            let digit = char::from_digit(index % 36, 36)
                .unwrap_or('0')
                .to_ascii_uppercase();
            let high = if index < 36 { String::new() } else { "1".to_owned() };
            mangled.push_str(&format!("1pIS{high}{digit}_S{high}{digit}_E"));
        }
        assert!(demangle(&mangled).chars().count() <= MAX_NAME);
    }

    #[test]
    fn deep_nesting_does_not_reach_the_end_of_our_stack() {
        for open in ["P", "N1aI", "F", "DpT_"] {
            let mangled = format!("_Z1f{}", open.repeat(4000));
            assert!(demangle(&mangled).chars().count() <= MAX_NAME);
        }
    }

    proptest! {
        #[test]
        fn any_symbol_becomes_a_bounded_name(symbol in "(_Z|_ZN|_R|_RNv)?[ -~\\PC\\u{0}-\\u{20}]{0,200}") {
            let name = demangle(&symbol);
            prop_assert!(name.chars().count() <= MAX_NAME);
            prop_assert!(!name.chars().any(char::is_control));
        }

        #[test]
        fn any_mangled_looking_symbol_becomes_a_bounded_name(symbol in "_Z[NILESTKPRFv0-9_a-c]{0,400}") {
            prop_assert!(demangle(&symbol).chars().count() <= MAX_NAME);
        }
    }
}
