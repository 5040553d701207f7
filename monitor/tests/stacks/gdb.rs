//! What gdb says of the same program: every frame of every thread, by the name of its function.

use std::{collections::BTreeMap, process::Command};

/// A thread's functions, innermost first; `None` where gdb knows no name either.
pub type Frames = Vec<Option<String>>;

/// A frame that a signal has made.
pub const SIGNAL: &str = "<signal>";

/// All threads of a process of the test's own. It is stopped meanwhile.
pub fn backtraces(pid: u32) -> BTreeMap<u32, Frames> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stacks/programs/frames.py");
    let output = Command::new("gdb")
        .args(["-batch", "-nx", "-iex", "set debuginfod enabled off"])
        .args(["-p", &pid.to_string(), "-x", script])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let mut threads: BTreeMap<u32, Frames> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        match (line.split_once(' '), current) {
            (Some(("thread", tid)), _) => current = tid.parse().ok(),
            (Some(("frame", name)), Some(tid)) => {
                let name = (name != "?").then(|| name.to_owned());
                threads.entry(tid).or_default().push(name);
            }
            _ => {}
        }
    }
    assert!(
        !threads.is_empty(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    threads
}

/// A function's own name: the last part of its path, without parameters and generics; closures have no number.
/// gdb and the demanglers write the rest in different ways.
pub fn last_part(function: &str) -> String {
    let mut depth = 0_usize;
    let mut bare = String::new();
    let bytes: Vec<char> = function.chars().collect();
    for (at, character) in bytes.iter().enumerate() {
        let operator = bare.ends_with("operator");
        match character {
            '(' if operator && bytes.get(at + 1) == Some(&')') => bare.push_str("()"),
            ')' if bare.ends_with("operator()") && depth == 0 => {}
            '<' | '(' | '[' => depth += 1,
            '>' if at > 0 && bytes[at - 1] == '-' => {}
            '>' | ')' | ']' => depth = depth.saturating_sub(1),
            character if depth == 0 => bare.push(*character),
            _ => {}
        }
    }
    let bare = bare.trim().trim_end_matches(" const").trim_end_matches("::");
    let last = bare.rsplit("::").next().unwrap_or(bare);
    let last = last.rsplit(' ').next().unwrap_or(last);
    if last.contains("closure") || last.contains("lambda") {
        return "{{closure}}".to_owned();
    }
    last.split("{{").next().unwrap_or(last).to_owned()
}

#[test]
fn last_parts_are_found() {
    let pairs = [
        ("start_thread", "start_thread"),
        ("void std::a::wait<int>(int const*, int)", "wait"),
        ("std::shared_future<int>::get() const", "get"),
        (
            "hold<f()::{lambda()#1}>(int)::{lambda()#1}::operator()() const",
            "operator()",
        ),
        ("operator()", "operator()"),
        ("std::panicking::catch_unwind::do_call<fn() -> u8, ()>", "do_call"),
        (
            "std::panicking::catch_unwind::do_call::<&dyn A<Output = i32>, i32>",
            "do_call",
        ),
        ("std::rt::lang_start::{closure#0}<()>", "{{closure}}"),
        ("std::rt::lang_start::{{closure}}", "{{closure}}"),
        (
            "<A<F> as core::ops::function::FnOnce<()>>::call_once",
            "call_once",
        ),
        (
            "core::ops::function::FnOnce::call_once{{vtable.shim}}",
            "call_once",
        ),
    ];
    for (name, expected) in pairs {
        assert_eq!(last_part(name), expected, "{name}");
    }
}
