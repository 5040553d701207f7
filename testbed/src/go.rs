//! The Go programs: one source, built by each of several toolchains, in each of several ways.
//!
//! Toolchains are those that `cargo xtask setup --tests` has brought (`tools/go/VERSION` of the target folder, and
//! Debian's Go 1.19). Only the standard library is used, and nothing is fetched.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::folders;
use crate::unsupported::Unsupported;

/// How a program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// As `go build` does it, without C.
    Plain,
    /// Without symbols and debug information (`-s -w`).
    Stripped,
    /// The same, with paths of sources left out (`-trimpath`) and the section headers cut off.
    NoSections,
    /// Loaded anywhere (`-buildmode=pie`).
    Pie,
    /// With C in it.
    Cgo,
    /// The same, linked by the C compiler.
    External,
}

impl Flavor {
    pub const ALL: [Self; 6] = [
        Self::Plain,
        Self::Stripped,
        Self::NoSections,
        Self::Pie,
        Self::Cgo,
        Self::External,
    ];

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Plain | Self::Cgo => &[],
            Self::Stripped => &["-ldflags=-s -w"],
            Self::NoSections => &["-trimpath", "-ldflags=-s -w"],
            Self::Pie => &["-buildmode=pie"],
            Self::External => &["-ldflags=-linkmode=external"],
        }
    }

    pub fn has_c(self) -> bool {
        matches!(self, Self::Cgo | Self::External)
    }
}

/// Versions of Go that tests are made with.
pub const ALL: [&str; 10] = [
    "1.18", "1.19", "1.20", "1.21", "1.22", "1.23", "1.24", "1.25", "1.26", "1.27",
];
/// A few of them, for each day: an old one, the newest, and two between that differ the most.
pub const SOME: [&str; 4] = ["1.19", "1.22", "1.24", "1.27"];

/// Tells tests to be made with all versions.
pub const EVERY_VERSION: &str = "TASKLEAK_ALL_GO";

/// Versions that tests are to be made with: a few, or all (`cargo xtask test --all`).
pub fn versions() -> &'static [&'static str] {
    if std::env::var_os(EVERY_VERSION).is_some() {
        &ALL
    } else {
        &SOME
    }
}

/// A call as the runtime prints it, without its arguments: `main.(*T).f(0x1, {0x2, 0x3})` → `main.(*T).f`. `None`: it is
/// none.
pub fn without_arguments(call: &str) -> Option<&str> {
    let mut depth = 0;
    for (at, character) in call.char_indices().rev() {
        match character {
            ')' => depth += 1,
            '(' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return call.get(..at);
        }
    }
    None
}

/// `1.27` → 27.
pub fn minor(version: &str) -> u32 {
    version
        .split('.')
        .nth(1)
        .and_then(|minor| minor.parse().ok())
        .unwrap_or_default()
}

/// The program, built by this version of Go unless that was done before. The error is [`Unsupported`] where the
/// toolchain is missing.
pub fn build(version: &str, flavor: Flavor) -> Result<Command> {
    let go = found(version)?;
    let folder = folders::outputs().join("go");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let output = folder.join(format!("{version}-{flavor:?}"));
    let lock = File::create(output.with_extension("lock")).context("cannot write a lock")?;
    lock.lock().context("cannot lock")?;
    let sources = folders::sources().join("go");
    let stamp = output.with_extension("stamp");
    let wanted = fingerprint(&sources, &go, flavor)?;
    if !output.exists() || fs::read_to_string(&stamp).ok().as_ref() != Some(&wanted) {
        // Go's own linker may be called with the name of what is to come: it is not left half done.
        compile(&go, &sources, &output, flavor)?;
        if flavor == Flavor::NoSections {
            cut_section_headers(&output)?;
        }
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    }
    Ok(Command::new(output))
}

/// A program of one file that the caller has written, in a folder of its own. The error is as that of [`build`].
pub fn build_source(version: &str, source: &str, folder: &Path) -> Result<Command> {
    let go = found(version)?;
    fs::write(folder.join("main.go"), source)
        .with_context(|| format!("cannot write to {}", folder.display()))?;
    let output = folder.join("main");
    compile(&go, folder, &output, Flavor::Plain)?;
    Ok(Command::new(output))
}

fn compile(go: &Path, sources: &Path, output: &Path, flavor: Flavor) -> Result<()> {
    let mut command = Command::new(go);
    command
        .current_dir(sources)
        .arg("build")
        .args(flavor.flags())
        .arg("-o")
        .arg(output)
        .arg(".")
        .env("CGO_ENABLED", if flavor.has_c() { "1" } else { "0" })
        .env("GO111MODULE", "off")
        .env("GOPROXY", "off")
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "")
        .env("GOCACHE", folders::outputs().join("go/cache"))
        .env_remove("GOROOT");
    let done = command
        .output()
        .with_context(|| format!("cannot run {}", go.display()))?;
    if !done.status.success() {
        bail!(
            "{command:?}: {}\n{}",
            done.status,
            String::from_utf8_lossy(&done.stderr)
        );
    }
    Ok(())
}

fn found(version: &str) -> Result<PathBuf> {
    Ok(toolchain(version)
        .ok_or_else(|| Unsupported(format!("no Go {version}: `cargo xtask setup --tests` brings it")))?)
}

/// The `go` of a version such as `1.27`, whatever its patch release.
pub fn toolchain(version: &str) -> Option<PathBuf> {
    let tools = folders::sources().join("../target/tools/go");
    let ours = fs::read_dir(&tools)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let is_wanted = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name == version
            || name
                .strip_prefix(version)
                .is_some_and(|rest| rest.starts_with('.'))
    };
    let debian = PathBuf::from(format!("/usr/lib/go-{version}/bin/go"));
    let mut found: Vec<_> = ours
        .filter(is_wanted)
        .map(|folder| folder.join("go/bin/go"))
        .chain([
            tools.join(format!("{version}/usr/lib/go-{version}/bin/go")),
            debian,
        ])
        .filter(|go| go.is_file())
        .collect();
    found.sort();
    found.into_iter().next()
}

fn fingerprint(sources: &Path, go: &Path, flavor: Flavor) -> Result<String> {
    let mut text = format!("{} {:?}\n", go.display(), flavor.flags());
    let mut files: Vec<_> = fs::read_dir(sources)
        .with_context(|| format!("cannot read {}", sources.display()))?
        .collect::<Result<_, _>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    for file in files {
        let metadata = file.metadata()?;
        text += &format!(
            "{:?} {} {:?}\n",
            file.file_name(),
            metadata.len(),
            metadata.modified()?
        );
    }
    Ok(text)
}

/// Makes of the file one that says it has no sections, as `sstrip` does.
fn cut_section_headers(file: &Path) -> Result<()> {
    let mut bytes = fs::read(file)?;
    // Elf64_Ehdr: e_shoff; e_shentsize, e_shnum, e_shstrndx.
    for range in [0x28..0x30, 0x3a..0x40] {
        bytes.get_mut(range).context("no ELF file")?.fill(0);
    }
    fs::write(file, bytes).with_context(|| format!("cannot write {}", file.display()))
}
