//! What each program is compiled from, and how.

use std::env;
use std::path::{Path, PathBuf};

use crate::folders::find_in_path;

/// How to compile a program.
pub struct Recipe {
    /// Below the folder of outputs: an executable, or a folder of classes.
    pub output: &'static str,
    /// `None` where it is not installed.
    pub compiler: Option<PathBuf>,
    /// What to do when it is not.
    pub cure: &'static str,
    pub flags: &'static [&'static str],
    /// What the compiler is given.
    pub inputs: &'static [&'static str],
    /// What it reads besides.
    pub included: &'static [&'static str],
    /// The last argument before the output.
    pub output_flag: &'static str,
}

/// A gcc without its 32-bit half complains in one of these ways.
pub const NO_MULTILIB: [&str; 3] = [
    "gnu/stubs-32.h",
    "bits/libc-header-start.h",
    "skipping incompatible",
];
pub const MULTILIB_CURE: &str = "gcc cannot make 32-bit programs: apt-get install gcc-multilib";

pub fn blockers() -> Recipe {
    Recipe {
        inputs: &[
            "c/blockers.c",
            "c/bed.c",
            "c/locks.c",
            "c/deadlocks.c",
            "c/kernel_waits.c",
            "c/descriptors.c",
            "c/messages.c",
            "c/healthy.c",
            "c/restless.c",
        ],
        included: &["c/bed.h"],
        ..c_program("blockers", &[])
    }
}

pub fn blockers32() -> Recipe {
    Recipe {
        output: "blockers32",
        flags: &["-m32", "-O2", "-g", "-pthread", "-Wall", "-Wextra", "-Werror"],
        ..blockers()
    }
}

pub fn pingpong() -> Recipe {
    c_program("pingpong", &["c/pingpong.c"])
}

pub fn demo() -> Recipe {
    c_program("demo", &["c/demo.c"])
}

pub fn musl_locks() -> Recipe {
    Recipe {
        compiler: find_in_path("musl-gcc"),
        cure: "no musl-gcc in PATH: apt-get install musl-tools",
        flags: &["-static", "-O2", "-g", "-Wall", "-Wextra", "-Werror"],
        ..c_program("musl_locks", &["c/musl_locks.c"])
    }
}

pub fn spawner() -> Recipe {
    c_program("spawner", &["c/spawner.c"])
}

pub fn spawner_static() -> Recipe {
    Recipe {
        flags: &["-static", "-O2", "-g", "-pthread", "-Wall", "-Wextra", "-Werror"],
        ..c_program("spawner_static", &["c/spawner.c"])
    }
}

pub fn spawner_musl() -> Recipe {
    Recipe {
        compiler: find_in_path("musl-gcc"),
        cure: "no musl-gcc in PATH: apt-get install musl-tools",
        flags: &["-static", "-O2", "-g", "-Wall", "-Wextra", "-Werror"],
        ..c_program("spawner_musl", &["c/spawner.c"])
    }
}

pub fn cpp_spawner() -> Recipe {
    Recipe {
        output: "cpp_spawner",
        inputs: &["cpp/spawner.cc"],
        ..cpp_blockers()
    }
}

pub fn rust_spawner() -> Recipe {
    Recipe {
        output: "rust_spawner",
        flags: &[
            "--edition=2024",
            "--crate-name=rust_spawner",
            "--crate-type=bin",
            "-Copt-level=2",
            "-Cdebuginfo=2",
        ],
        inputs: &["rust/spawner.rs"],
        included: &[],
        ..rust_blockers()
    }
}

fn c_program(output: &'static str, inputs: &'static [&'static str]) -> Recipe {
    Recipe {
        output,
        compiler: find_in_path("gcc"),
        cure: "no gcc in PATH: apt-get install gcc libc6-dev",
        flags: &["-O2", "-g", "-pthread", "-Wall", "-Wextra", "-Werror"],
        inputs,
        included: &[],
        output_flag: "-o",
    }
}

pub fn cpp_blockers() -> Recipe {
    Recipe {
        compiler: find_in_path("g++"),
        cure: "no g++ in PATH: apt-get install g++",
        flags: &[
            "-std=c++20",
            "-O2",
            "-g",
            "-pthread",
            "-Wall",
            "-Wextra",
            "-Werror",
        ],
        ..c_program("cpp_blockers", &["cpp/blockers.cc"])
    }
}

/// By rustc itself: `cargo test -p taskleak` does not build the programs of other packages, a second cargo
/// would wait for the first one's locks, and the profile of the tests is not the one that is meant.
pub fn rust_blockers() -> Recipe {
    Recipe {
        output: "rust_blockers",
        compiler: rustc(),
        cure: "no rustc in PATH, nor named by RUSTC: install Rust",
        flags: &[
            "--edition=2024",
            "--crate-name=rust_blockers",
            "--crate-type=bin",
            "-Copt-level=2",
            "-Cdebuginfo=2",
        ],
        inputs: &["src/bin/rust_blockers/main.rs"],
        included: &[
            "src/bin/rust_blockers/bed.rs",
            "src/bin/rust_blockers/healthy.rs",
            "src/bin/rust_blockers/waits.rs",
        ],
        output_flag: "-o",
    }
}

/// The one that belongs to the cargo which runs us, if one does.
fn rustc() -> Option<PathBuf> {
    let named = env::var_os("RUSTC").map(PathBuf::from);
    let beside_cargo = || {
        let cargo = env::var_os("CARGO")?;
        Some(Path::new(&cargo).with_file_name("rustc")).filter(|rustc| rustc.is_file())
    };
    // Not resolved: rustup's own link tells by its name what it is to be.
    let in_path = || find_in_path("rustc").map(|_| PathBuf::from("rustc"));
    named.or_else(beside_cargo).or_else(in_path)
}

/// The cargo that runs us, or that of `PATH`.
pub fn cargo() -> Option<PathBuf> {
    let running = env::var_os("CARGO").map(PathBuf::from);
    // Not resolved: see `rustc`.
    running.or_else(|| find_in_path("cargo").map(|_| PathBuf::from("cargo")))
}

pub fn java_blockers() -> Recipe {
    Recipe {
        output: "java",
        compiler: find_in_path("javac"),
        cure: "no javac in PATH: apt-get install openjdk-17-jdk-headless",
        flags: &["-g", "-Xlint:all", "-Werror"],
        inputs: &["java/Blockers.java"],
        included: &[],
        output_flag: "-d",
    }
}
