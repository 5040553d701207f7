//! Where things lie in the workspace, and commands that run with the user's environment.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The oldest Rust that the workspace compiles with (`rust-version` of its Cargo.toml), as major and minor.
pub fn rust_version() -> (u32, u32) {
    parse_version(env!("CARGO_PKG_RUST_VERSION")).unwrap_or((1, 0))
}

/// `1.95.0-nightly` as `(1, 95)`.
pub fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(['.', '-', '+', '~']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// The folder of the workspace's Cargo.toml.
pub fn root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let package = Path::new(&package);
    package.parent().unwrap_or(package).to_path_buf()
}

/// What the set-up keeps for this workspace alone. `monitor/build.rs` looks here, whatever CARGO_TARGET_DIR says.
pub fn tools() -> PathBuf {
    root().join("target/tools")
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .filter(|dir| !dir.is_empty())
        .and_then(|dir| std::path::absolute(dir).ok())
        .unwrap_or_else(|| root().join("target"))
}

/// The release binary of taskleak.
pub fn taskleak() -> PathBuf {
    target().join("release/taskleak")
}

/// A command in the user's own environment.
///
/// `cargo run` describes this package to us in variables and puts its library folders into LD_LIBRARY_PATH.
/// Handed on, the former would make a cargo below us rebuild what asks for them, and the latter would offer
/// the libraries of one toolchain to the compiler of another.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(is_about_this_package) {
            command.env_remove(name);
        }
    }
    if let Some(paths) = env::var_os("LD_LIBRARY_PATH") {
        let ours = [Some(target()), toolchain()];
        let kept = env::split_paths(&paths)
            .filter(|path| !ours.iter().flatten().any(|dir| path.starts_with(dir)))
            .filter(|path| !path.as_os_str().is_empty())
            .collect::<Vec<_>>();
        match env::join_paths(&kept) {
            Ok(joined) if !kept.is_empty() => command.env("LD_LIBRARY_PATH", joined),
            _ => command.env_remove("LD_LIBRARY_PATH"),
        };
    }
    command
}

fn is_about_this_package(name: &str) -> bool {
    name == "CARGO" || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
}

/// The folder of the toolchain whose cargo runs us.
fn toolchain() -> Option<PathBuf> {
    let cargo = PathBuf::from(env::var_os("CARGO")?);
    Some(cargo.parent()?.parent()?.to_path_buf())
}

/// The cargo that runs us, in the workspace's folder.
pub fn cargo() -> Command {
    let mut cargo = command(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    if env::var_os("CARGO_TARGET_DIR").is_some() {
        cargo.env("CARGO_TARGET_DIR", target());
    }
    cargo
}

/// The first executable of this name in PATH.
pub fn find_in_path(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    env::split_paths(&env::var_os("PATH")?)
        .map(|dir| dir.join(program))
        .find(|file| {
            file.metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

/// PATH with these folders in front.
pub fn path_with(first: &[PathBuf]) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = first.iter().cloned().chain(env::split_paths(&path));
    env::join_paths(dirs).with_context(|| format!("{first:?} cannot be put into PATH"))
}

/// Whether we may install packages and mount.
pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing, touches no memory of ours and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Runs a command that speaks to the user itself.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", name(command)))?;
    if !status.success() {
        bail!("{} failed ({status}); what it says stands above", name(command));
    }
    Ok(())
}

/// What a command prints, or None where it cannot be started or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(std::process::Stdio::null()).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as a user would type it, without the folder of the program.
pub fn name(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_rust_and_of_debian_are_read() {
        assert_eq!(parse_version("1.97.0-nightly"), Some((1, 97)));
        assert_eq!(parse_version("1.96.0+dfsg1-1~deb12u2"), Some((1, 96)));
        assert_eq!(parse_version("1.95"), Some((1, 95)));
        assert_eq!(parse_version("nightly"), None);
        assert!(rust_version() >= (1, 95));
    }

    #[test]
    fn a_command_is_named_as_typed() {
        let mut command = Command::new("/usr/bin/apt-get");
        command.args(["install", "gcc"]);
        assert_eq!(name(&command), "apt-get install gcc");
    }

    #[test]
    fn only_variables_that_describe_this_package_are_dropped() {
        assert!(is_about_this_package("CARGO_PKG_NAME"));
        assert!(is_about_this_package("CARGO"));
        assert!(!is_about_this_package("CARGO_HOME"));
        assert!(!is_about_this_package("CARGO_TARGET_DIR"));
    }

    #[test]
    fn programs_are_found_in_path() {
        assert!(find_in_path("sh").is_some());
        assert!(find_in_path("no-such-program-here").is_none());
    }
}
