//! bpf-linker, built for this workspace alone on the LLVM of Debian's Rust.

use std::fs;
use std::path::{Path, PathBuf};
use std::slice;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::toolchain::LLVM;
use crate::progress;
use crate::workspace::{self, command, output};

pub const VERSION: &str = "0.13.0";

/// Where it lies once it is built.
pub fn program() -> PathBuf {
    workspace::tools().join("bin/bpf-linker")
}

/// Builds it where it is missing, of another version, or does not start; says how long that took.
pub fn ensure() -> Result<Option<Duration>> {
    if works() {
        return Ok(None);
    }
    let llvm = PathBuf::from(format!("/usr/lib/llvm-{LLVM}/bin"));
    if !llvm.join("llvm-config").exists() {
        bail!(
            "no llvm-config in {}: reinstall the package llvm-{LLVM}-dev",
            llvm.display()
        );
    }
    let tools = workspace::tools();
    // In a folder of its own, a build that is cut off goes on where it stopped.
    let build = tools.join("build");
    let mut install = command("cargo");
    install
        .args([
            "install",
            "bpf-linker",
            "--version",
            VERSION,
            "--locked",
            "--force",
        ])
        .args(["--no-default-features", "--features", &format!("llvm-{LLVM}")])
        .arg("--root")
        .arg(&tools)
        .env("PATH", workspace::path_with(slice::from_ref(&llvm))?)
        .env("CARGO_TARGET_DIR", &build)
        // The flags of whoever works on taskleak are not meant for its tools.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET");
    let took = progress::run(
        &format!("building bpf-linker {VERSION} (about a minute)"),
        &mut install,
    )
    .context("bpf-linker cannot be built; its source comes from crates.io, which must be reachable")?;
    if !works() {
        bail!("bpf-linker was built, but {} does not start", program().display());
    }
    remove(&build)?;
    Ok(Some(took))
}

fn works() -> bool {
    output(command(program()).arg("--version")).is_some_and(|said| is_right(&said))
}

fn is_right(said: &str) -> bool {
    said.trim() == format!("bpf-linker {VERSION}")
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::is_right;

    #[test]
    fn another_version_is_built_anew() {
        assert!(is_right("bpf-linker 0.13.0\n"));
        assert!(!is_right("bpf-linker 0.12.1\n"));
        assert!(!is_right(""));
    }
}
