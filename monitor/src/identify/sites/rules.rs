//! Whose code a frame is, by the [`table`](super::table).
//!
//! By the file of the mapping, by the crate or namespace of the function, by the source file. In programs that are
//! linked statically the C library's functions are known by their names alone.

use super::{
    names::root,
    table::{BEGINNING, C_FUNCTIONS, C_SOURCES, JAVA, JDK, LIBRARIES, PREFIXES, PYTHON, ROOTS, SOURCES},
};
use crate::model::Frame;

/// Whose code it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Waits and starts on behalf of others: the languages' libraries.
    Plumbing,
    /// Runs the program's work: pools, executors, channels.
    Runtime,
    /// Runs code that native frames do not show; what its frames are called.
    Interpreter(&'static str),
    Own,
}

/// The table, applied to one stack.
pub struct Rules<'a> {
    frames: &'a [Frame],
    /// No C library of its own is mapped where the stack goes through.
    is_static: bool,
    runs_java: bool,
}

impl<'a> Rules<'a> {
    pub fn of(frames: &'a [Frame]) -> Self {
        let any = |name: &str| frames.iter().any(|frame| library(&frame.module) == name);
        Self {
            frames,
            is_static: !["libc", "libpthread", "ld-musl-x86_64", "libc.musl-x86_64"]
                .into_iter()
                .any(any),
            runs_java: any("libjvm") || any(JAVA),
        }
    }

    pub fn frame(&self, index: usize) -> Option<&'a Frame> {
        self.frames.get(index)
    }

    /// Which runtime a frame belongs to; `None` when to none.
    pub fn runtime(&self, index: usize) -> Option<&'a str> {
        let frame = self.frame(index).filter(|_| self.role(index) == Role::Runtime)?;
        let by_name = frame
            .function
            .as_deref()
            .filter(|name| crate_role(name).is_some());
        Some(by_name.map_or_else(|| library(&frame.module), root))
    }

    pub fn role(&self, index: usize) -> Role {
        let Some(frame) = self.frame(index) else {
            return Role::Plumbing;
        };
        let library = library(&frame.module);
        if let Some(role) = find(LIBRARIES, library) {
            return role;
        }
        if self.runs_java && JDK.contains(&library) {
            return Role::Interpreter(JAVA);
        }
        if is_python(library) {
            return Role::Interpreter(PYTHON);
        }
        let Some(function) = frame.function.as_deref() else {
            return Role::Own;
        };
        let begins = |(prefix, _): &&(&str, Role)| function.starts_with(*prefix);
        if let Some((_, role)) = PREFIXES.iter().find(begins) {
            return *role;
        }
        if function == BEGINNING {
            return Role::Plumbing;
        }
        if let Some(role) = crate_role(function) {
            return role;
        }
        let file = frame.file.as_deref();
        if file.is_some_and(|file| SOURCES.iter().any(|parts| is_below(file, parts))) {
            return Role::Plumbing;
        }
        let in_c_library = file.is_none_or(|file| C_SOURCES.iter().any(|part| file.contains(part)));
        if self.is_static && in_c_library && self.is_c_function(function, index)
            || self.is_generated_main(function, index)
        {
            return Role::Plumbing;
        }
        Role::Own
    }

    /// Of a C library that is linked into the program. Names with two underscores are no program's to use
    /// (C17, 7.1.3), and neither are POSIX's.
    fn is_c_function(&self, function: &str, index: usize) -> bool {
        // What a compiler has split off keeps the name: `__new_sem_wait_slow64.constprop.0`.
        let name = function.split('.').next().unwrap_or(function);
        name.starts_with("__")
            || name.starts_with("pthread_")
            || C_FUNCTIONS.split_ascii_whitespace().any(|known| known == name)
            // musl calls a thread's first function so, and it may be called from nowhere else.
            || name == "start" && self.calls(index, |caller| matches!(caller, "__clone" | "clone"))
    }

    /// Rust's compiler makes a `main` that calls the standard library, which calls the program's own.
    fn is_generated_main(&self, function: &str, index: usize) -> bool {
        let inner = index.checked_sub(1).and_then(|index| self.frame(index));
        let inner = inner.and_then(|frame| frame.function.as_deref());
        function == "main" && inner.is_some_and(|inner| inner.starts_with("std::rt::lang_start"))
    }

    fn calls(&self, index: usize, is: impl Fn(&str) -> bool) -> bool {
        let caller = self.frame(index + 1).and_then(|frame| frame.function.as_deref());
        caller.is_some_and(is)
    }
}

/// A function of C may be called like a crate: it takes a path.
fn crate_role(function: &str) -> Option<Role> {
    find(ROOTS, root(function)).filter(|_| function.contains("::"))
}

fn find(table: &[(&str, Role)], name: &str) -> Option<Role> {
    table
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, role)| *role)
}

/// `libc.so.6` and `libc-2.31.so` → `libc`.
fn library(module: &str) -> &str {
    let stem = match module.find(".so") {
        Some(at) => module.get(..at).unwrap_or(module),
        None => return module,
    };
    match stem.rsplit_once('-') {
        Some((name, version)) if version.split('.').count() > 1 && is_version(version) => name,
        _ => stem,
    }
}

fn is_version(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// `python3.11`, `libpython3.11`, `pypy3`, `libpypy3-c`.
fn is_python(library: &str) -> bool {
    let name = library.strip_prefix("lib").unwrap_or(library);
    let name = name.strip_suffix("-c").unwrap_or(name);
    ["python", "pypy"]
        .iter()
        .filter_map(|prefix| name.strip_prefix(prefix))
        .any(|version| {
            version
                .chars()
                .all(|character| character.is_ascii_digit() || ".dmu".contains(character))
        })
}

fn is_below(file: &str, parts: &[&str]) -> bool {
    let mut rest = file;
    parts.iter().all(|part| match rest.find(part) {
        Some(at) => {
            rest = rest.get(at + part.len()..).unwrap_or_default();
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_known_by_their_files() {
        let pairs = [
            ("libc.so.6", "libc"),
            ("libc-2.31.so", "libc"),
            ("libstdc++.so.6.0.30", "libstdc++"),
            ("ld-linux-x86-64.so.2", "ld-linux-x86-64"),
            ("ld-2.31.so", "ld"),
            ("ld-musl-x86_64.so.1", "ld-musl-x86_64"),
            ("libpython3.11.so.1.0", "libpython3.11"),
            ("my-app", "my-app"),
            ("[vdso]", "[vdso]"),
        ];
        for (module, expected) in pairs {
            assert_eq!(library(module), expected);
        }
    }

    #[test]
    fn python_is_known_by_its_file() {
        for name in [
            "python3.11",
            "python",
            "libpython3.12",
            "libpython3.7m",
            "pypy3",
            "libpypy3-c",
        ] {
            assert!(is_python(name), "{name}");
        }
        for name in ["pythonista", "python-app", "libpythonic", "cpython"] {
            assert!(!is_python(name), "{name}");
        }
    }
}
