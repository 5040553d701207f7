//! The checks that come before the tests.

use std::process::Command;

use crate::workspace::cargo;

/// The package that is built for the kernel, by `monitor/build.rs`.
pub const EBPF: &str = "monitor-ebpf";

pub fn all() -> [Command; 3] {
    let mut format = cargo();
    format.args(["fmt", "--all", "--check"]);
    let mut clippy = cargo();
    clippy.args([
        "clippy",
        "--workspace",
        "--exclude",
        EBPF,
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    // On the host's own target, for the toolchain that builds eBPF may have no clippy. Nothing is linked; without
    // `std`, the compiler only wants to hear that panics do not unwind.
    let mut clippy_ebpf = cargo();
    clippy_ebpf.args([
        "clippy",
        "-p",
        EBPF,
        "--config",
        "profile.dev.panic=\"abort\"",
        "--",
        "-D",
        "warnings",
    ]);
    [format, clippy, clippy_ebpf]
}
