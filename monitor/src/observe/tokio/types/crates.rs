//! Which crates of a program are its own, by where they were compiled. Pure.

use std::collections::HashSet;

use crate::identify::sites::is_library;

/// Crates of one program that are kept.
const MAX_CRATES: usize = 4 << 10;

/// The crates that a program's units are of: rustc calls one `src/main.rs/@/app.1f2e3d-cgu.0`
/// (compiler/rustc_codegen_llvm/src/debuginfo/metadata.rs), and compiles each where its package is.
#[derive(Debug, Default)]
pub struct Crates {
    /// With their folders.
    libraries: HashSet<(String, String)>,
    own: HashSet<String>,
    /// Where programs were compiled that came as libraries do.
    programs: HashSet<String>,
}

impl Crates {
    /// A unit, by its name and the folder that it was compiled in.
    pub fn add(&mut self, unit: &str, folder: &str) {
        let Some((file, unit)) = unit.split_once("/@/") else {
            return;
        };
        let name = unit.split('.').next().unwrap_or(unit);
        if self.libraries.len() + self.own.len() >= MAX_CRATES {
            return;
        }
        // One of the standard library's may have been compiled where its program was.
        let file = if file.starts_with('/') {
            file.to_owned()
        } else {
            format!("{folder}/{file}")
        };
        if is_library(&file) {
            self.libraries.insert((name.to_owned(), folder.to_owned()));
            if file.ends_with("/src/main.rs") || file.contains("/src/bin/") {
                self.programs.insert(folder.to_owned());
            }
        } else {
            self.own.insert(name.to_owned());
        }
    }

    /// Whether something of this name is the program's own; `None` when nobody knows.
    pub fn own(&self, name: &str) -> Option<bool> {
        let root = name.split("::").next()?;
        if !self.own.is_empty() {
            return Some(self.own.contains(root));
        }
        let mut programs = self.programs.iter().peekable();
        programs.peek()?;
        Some(programs.any(|folder| self.libraries.contains(&(root.to_owned(), folder.clone()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGISTRY: &str = "/root/.cargo/registry/src/index.crates.io-1949cf8c6b5b557f";

    fn crates(units: &[(&str, &str)]) -> Crates {
        let mut crates = Crates::default();
        for (unit, folder) in units {
            crates.add(unit, folder);
        }
        crates
    }

    #[test]
    fn what_was_not_compiled_as_a_library_is_the_programs_own() {
        let tokio = format!("{REGISTRY}/tokio-1.54.1");
        let crates = crates(&[
            ("src/lib.rs/@/tokio.1a-cgu.0", &tokio),
            ("library/std/src/lib.rs/@/std.1a-cgu.0", "/rustc/59807616e1"),
            ("/home/me/app/src/main.rs/@/app.1a-cgu.0", "/home/me/app"),
            ("jobs/src/lib.rs/@/jobs.1a-cgu.0", "/home/me/app"),
            ("crypto/aes.c", "/home/me/c"),
        ]);
        for (name, is_own) in [
            ("app::main", true),
            ("jobs::run::{async block}", true),
            ("tokio::sync::notify::Notified", false),
            ("std::thread::park", false),
            ("alloc::boxed::Box<app::main>", false),
        ] {
            assert_eq!(crates.own(name), Some(is_own), "{name}");
        }
    }

    #[test]
    fn a_program_from_a_registry_is_known_by_its_main_file() {
        let folder = format!("{REGISTRY}/mini-redis-0.4.1");
        let tokio = format!("{REGISTRY}/tokio-1.54.1");
        let all = [
            ("src/bin/server.rs/@/mini_redis_server.1a-cgu.0", folder.as_str()),
            ("src/lib.rs/@/mini_redis.1a-cgu.0", &folder),
            ("src/lib.rs/@/tokio.1a-cgu.0", &tokio),
        ];
        let known = crates(&all);
        assert_eq!(known.own("mini_redis::db::purge"), Some(true));
        assert_eq!(known.own("mini_redis_server::main"), Some(true));
        assert_eq!(known.own("tokio::spawn"), Some(false));
        assert_eq!(crates(&all[1..]).own("mini_redis::db::purge"), None);
        assert_eq!(Crates::default().own("app::main"), None);
    }
}
