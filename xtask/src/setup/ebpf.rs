//! The eBPF toolchain: finds out what is here, brings what is missing, and writes down what to build with.
//!
//! `monitor/build.rs` reads `target/tools/ebpf-toolchain`, lines of `key=value`:
//! - `toolchain`: the name for `rustup run`; empty where there is no rustup;
//! - `bootstrap`: 1 where RUSTC_BOOTSTRAP=1 must be set, because the compiler is no nightly;
//! - `path`: a folder to put in front of PATH. It holds links to the bpf-linker, the cargo and the rustc that
//!   belong together, so that no other ones in PATH can come between.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::toolchain::{self, Compiler, Debian, Facts, Plan};
use super::{Needed, Outcome, advice, debian, did, linker};
use crate::workspace::{self, command, find_in_path, output};

/// Where Debian's Rust lies.
const DEBIAN_SYSROOT: &str = "/usr";

/// Makes the machine able to build the eBPF side.
pub fn ensure() -> Result<Outcome> {
    let facts = facts()?;
    let rustup = facts.rustup;
    let (name, bootstrap, sysroot, linker) = match toolchain::plan(facts) {
        Plan::AsIs {
            toolchain,
            bootstrap,
            sysroot,
            linker,
        } => (toolchain, bootstrap, sysroot, linker),
        Plan::Debian { install } => {
            install_debian(&install)?;
            let name = if rustup { link_toolchain()? } else { "" };
            if let Some(took) = linker::ensure()? {
                did(format!(
                    "built bpf-linker {} in {} s",
                    linker::VERSION,
                    took.as_secs()
                ));
            }
            (name, true, PathBuf::from(DEBIAN_SYSROOT), linker::program())
        }
        Plan::Impossible(reasons) => return Err(Needed(advice::ebpf(&reasons)).into()),
    };
    let tools = workspace::tools();
    let path = tools.join("path");
    fs::create_dir_all(&path).with_context(|| format!("cannot make the folder {}", path.display()))?;
    link(&linker, &path.join("bpf-linker"))?;
    for program in ["cargo", "rustc"] {
        link(&sysroot.join("bin").join(program), &path.join(program))?;
    }
    let choice = match name {
        "" => format!("the Rust in {}", sysroot.display()),
        name => format!("rustup's toolchain {name}"),
    };
    let choice = format!("{choice} and {}", linker.display());
    if write_if_changed(&tools.join("ebpf-toolchain"), &render(name, bootstrap, &path))? {
        return Ok(Outcome::Did(format!("eBPF will be built with {choice}")));
    }
    Ok(Outcome::InPlace(format!("eBPF toolchain: {choice}")))
}

/// What `monitor/build.rs` reads.
fn render(toolchain: &str, bootstrap: bool, path: &Path) -> String {
    format!(
        "toolchain={toolchain}\nbootstrap={}\npath={}\n",
        u8::from(bootstrap),
        path.display()
    )
}

/// Looks at the machine, at no more of it than the decision needs.
fn facts() -> Result<Facts> {
    let rustup = find_in_path("rustup").is_some();
    let linker = find_in_path("bpf-linker");
    let sysroot = if rustup {
        rustup_sysroot("nightly")
    } else {
        output(command("rustc").args(["--print", "sysroot"])).map(|path| PathBuf::from(path.trim()))
    };
    let compiler = sysroot.map(|sysroot| inspect(sysroot, linker.is_some()));
    let whole = linker.is_some() && compiler.as_ref().is_some_and(|compiler| compiler.has_source);
    let old = compiler
        .as_ref()
        .and_then(|c| c.version)
        .is_some_and(|v| v < workspace::rust_version());
    let debian = if (!whole || old) && debian::has_apt() {
        let missing = debian::missing(&toolchain::DEBIAN_PACKAGES)?;
        let conflicting = match missing.as_slice() {
            [] => vec![],
            _ => {
                let installed = debian::installed(&toolchain::CONFLICTING)?;
                toolchain::CONFLICTING
                    .into_iter()
                    .filter(|package| installed.contains(*package))
                    .collect()
            }
        };
        Some(Debian { missing, conflicting })
    } else {
        None
    };
    Ok(Facts {
        rustup,
        compiler,
        linker,
        debian,
        root: workspace::is_root(),
    })
}

/// The folder of one of rustup's toolchains. Nothing is fetched for it.
fn rustup_sysroot(toolchain: &str) -> Option<PathBuf> {
    let mut which = command("rustup");
    which
        .args(["which", "--toolchain", toolchain, "rustc"])
        .env("RUSTUP_AUTO_INSTALL", "0");
    let rustc = PathBuf::from(output(&mut which)?.trim());
    Some(rustc.parent()?.parent()?.to_path_buf())
}

/// `ask` says whether the compiler is worth starting: one that cannot be used anyway is not asked its version.
fn inspect(sysroot: PathBuf, ask: bool) -> Compiler {
    let has_source = sysroot
        .join("lib/rustlib/src/rust/library/core/src/lib.rs")
        .exists();
    let said = if ask && has_source {
        rustc_says(&sysroot)
    } else {
        None
    };
    let version = said.as_deref().and_then(release);
    let is_nightly =
        said.is_some_and(|said| field(&said, "release").is_some_and(|it| it.contains("nightly")));
    Compiler {
        sysroot,
        version,
        is_nightly,
        has_source,
    }
}

fn rustc_says(sysroot: &Path) -> Option<String> {
    output(command(sysroot.join("bin/rustc")).arg("-vV"))
}

fn release(said: &str) -> Option<(u32, u32)> {
    field(said, "release").and_then(workspace::parse_version)
}

/// A field of `rustc -vV`.
fn field<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    said.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// Installs the packages that are missing, and sees that they fit together.
fn install_debian(missing: &[&'static str]) -> Result<()> {
    if !missing.is_empty() {
        let stale = debian::update();
        let unavailable = debian::unavailable(missing)?;
        if !unavailable.is_empty() {
            // Whoever has added a source of packages is to find them the next time.
            debian::distrust_lists();
            let mut reasons = vec![format!(
                "{} offers no {}",
                debian::release(),
                unavailable.join(" ")
            )];
            reasons.extend(stale.map(|error| format!("its package lists may be old: {error:#}")));
            return Err(Needed(advice::ebpf(&reasons)).into());
        }
        let took = debian::install(missing)?;
        did(format!("installed {} in {} s", missing.join(" "), took.as_secs()));
    }
    let said = rustc_says(Path::new(DEBIAN_SYSROOT)).unwrap_or_default();
    let (major, minor) = workspace::rust_version();
    if release(&said).is_none_or(|version| version < (major, minor)) {
        let found = field(&said, "release").unwrap_or("one that does not start");
        let reasons = [format!(
            "Debian's Rust in {DEBIAN_SYSROOT}/bin is {found}: apt-get upgrade may help"
        )];
        return Err(Needed(advice::ebpf(&reasons)).into());
    }
    let llvm = field(&said, "LLVM version").unwrap_or("an unknown one");
    if llvm.split('.').next() != Some(toolchain::LLVM) {
        bail!(
            "Debian's rustc is built on LLVM {llvm}, and this set-up on LLVM {}: bpf-linker could not read \
             what it compiles. LLVM and DEBIAN_PACKAGES in xtask/src/setup/toolchain.rs have to follow; until \
             then use rustup's nightly with rust-src and a bpf-linker in PATH",
            toolchain::LLVM
        );
    }
    Ok(())
}

/// Makes Debian's Rust known to rustup.
fn link_toolchain() -> Result<&'static str> {
    let name = toolchain::DEBIAN_TOOLCHAIN;
    let is_linked =
        |sysroot: PathBuf| fs::canonicalize(sysroot).is_ok_and(|it| it == Path::new(DEBIAN_SYSROOT));
    if !rustup_sysroot(name).is_some_and(is_linked) {
        workspace::run(command("rustup").args(["-q", "toolchain", "link", name, DEBIAN_SYSROOT]))?;
        did(format!("linked rustup's toolchain {name} to {DEBIAN_SYSROOT}"));
    }
    Ok(name)
}

/// Makes `at` a link to `to`.
fn link(to: &Path, at: &Path) -> Result<()> {
    if fs::read_link(at).is_ok_and(|old| old == to) {
        return Ok(());
    }
    match fs::remove_file(at) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot replace {}", at.display()))
        }
        _ => symlink(to, at).with_context(|| format!("cannot link {} to {}", at.display(), to.display())),
    }
}

/// Cargo goes by a file's time: it is touched only when the text is another one.
fn write_if_changed(file: &Path, text: &str) -> Result<bool> {
    if fs::read_to_string(file).is_ok_and(|old| old == text) {
        return Ok(false);
    }
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\nbinary: rustc\n\
                        host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";

    #[test]
    fn rustc_is_understood() {
        assert_eq!(release(SAID), Some((1, 96)));
        assert_eq!(field(SAID, "LLVM version"), Some("22.1.8"));
        assert_eq!(field(SAID, "commit-hash"), None);
    }

    #[test]
    fn a_file_is_touched_only_for_another_text_and_a_link_only_for_another_aim() {
        let folder = std::env::temp_dir().join(format!("xtask-ebpf-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("ebpf-toolchain");
        assert!(write_if_changed(&file, "a=1\n").unwrap());
        assert!(!write_if_changed(&file, "a=1\n").unwrap());
        assert!(write_if_changed(&file, "a=2\n").unwrap());
        let at = folder.join("rustc");
        for to in ["/bin/true", "/bin/false", "/bin/false"] {
            link(Path::new(to), &at).unwrap();
            assert_eq!(fs::read_link(&at).unwrap(), Path::new(to));
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn the_file_is_plain_lines() {
        let text = render("taskleak-ebpf", true, Path::new("/w/target/tools/path"));
        assert_eq!(
            text,
            "toolchain=taskleak-ebpf\nbootstrap=1\npath=/w/target/tools/path\n"
        );
    }
}
