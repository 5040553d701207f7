//! Builds the eBPF object with the toolchain that `cargo xtask setup` chose, and embeds it.
//!
//! The choice is in `target/tools/ebpf-toolchain` (`key=value` lines: `toolchain`, `bootstrap`, `path`). Without
//! that file rustup's nightly is used, as on any machine with `rust-src` and bpf-linker.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result, anyhow};
use aya_build::{Package, Toolchain};

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the package is not in a workspace")?;
    let choice_file = root.join("target/tools/ebpf-toolchain");
    println!("cargo:rerun-if-changed={}", choice_file.display());
    println!("cargo:rerun-if-changed={}", root.join("monitor-common").display());
    let choice = fs::read_to_string(&choice_file).unwrap_or_default();
    let value = |key: &str| {
        choice
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .unwrap_or_default()
    };
    // SAFETY: the only thread of a build script.
    unsafe {
        // aya-build turns each line of cargo's into a warning of this package.
        env::set_var("CARGO_TERM_QUIET", "true");
        if value("bootstrap") == "1" {
            env::set_var("RUSTC_BOOTSTRAP", "1");
        }
        if !value("path").is_empty() {
            let path = env::var("PATH").unwrap_or_default();
            env::set_var("PATH", format!("{}:{path}", value("path")));
        }
    }
    let toolchain = match value("toolchain") {
        "" => Toolchain::Nightly,
        name => Toolchain::Custom(name),
    };
    let package_dir = root.join("monitor-ebpf");
    let package = Package {
        name: "monitor-ebpf",
        root_dir: package_dir.to_str().context("the path is not UTF-8")?,
        ..Package::default()
    };
    aya_build::build_ebpf([package], toolchain).map_err(|error| {
        anyhow!("the eBPF object was not built: {error:#}\nRun `cargo xtask setup` once: it installs what this needs.")
    })
}
