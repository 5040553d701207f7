//! The tokio program: one source, built with each of several versions of tokio, in each of several ways; and a web server.
//!
//! Each version has a package of its own below `testbed/tokio/` of the target folder, with a manifest that is written
//! here: no version of it is a dependency of this workspace.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::{fs::MetadataExt as _, net::UnixStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::folders;
use crate::recipes::cargo;
use crate::socket::Socket;
use crate::target::Target;
use crate::unsupported::Unsupported;

/// How the program is built. All of them but one are optimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// As `cargo build --release` does it: symbols, no debug information.
    Release,
    /// The same with the newer names of symbols.
    V0,
    /// With all debug information.
    Debug,
    /// With that and thin LTO.
    ThinLto,
    /// With line tables as all debug information.
    Lines,
    /// As one piece.
    FatLto,
    /// As one piece, with all debug information.
    FatLtoDebug,
    /// As one piece, without symbols.
    Stripped,
    /// Static, with musl and all debug information.
    Musl,
    /// As [`Self::Debug`], and able to dump its tasks itself (`Handle::dump`); of the newest version only.
    Dumping,
    /// As [`Self::Release`], and instrumented for tokio-console; of the newest version only.
    Console,
    /// Not optimised, with all debug information.
    Unoptimised,
}

impl Flavor {
    pub const ALL: [Self; 9] = [
        Self::Release,
        Self::V0,
        Self::Debug,
        Self::ThinLto,
        Self::Lines,
        Self::FatLto,
        Self::FatLtoDebug,
        Self::Stripped,
        Self::Musl,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Release => "plain",
            Self::V0 => "v0",
            Self::Debug => "full",
            Self::ThinLto => "thin",
            Self::Lines => "lines",
            Self::FatLto => "fat",
            Self::FatLtoDebug => "fat-full",
            Self::Stripped => "stripped",
            Self::Musl => "musl",
            Self::Dumping => "dumping",
            Self::Console => "console",
            Self::Unoptimised => "unoptimised",
        }
    }

    /// What is set of cargo's release profile.
    const fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Release | Self::V0 | Self::Console => &[],
            Self::Debug | Self::Musl | Self::Dumping => &["debug=2"],
            Self::ThinLto => &["debug=2", "lto='thin'"],
            Self::Lines => &["debug='line-tables-only'"],
            Self::FatLto => &["lto='fat'", "codegen-units=1"],
            Self::FatLtoDebug => &["debug=2", "lto='fat'", "codegen-units=1"],
            Self::Stripped => &["lto='fat'", "codegen-units=1", "strip=true"],
            Self::Unoptimised => &["debug=2", "opt-level=0"],
        }
    }

    const fn rustflags(self) -> &'static str {
        match self {
            Self::V0 => "-Csymbol-mangling-version=v0",
            Self::Dumping => "--cfg tokio_unstable -Cforce-frame-pointers=yes",
            Self::Console => "--cfg tokio_unstable --cfg console",
            _ => "",
        }
    }

    /// Whether its debug information tells of types.
    pub const fn tells_types(self) -> bool {
        matches!(self, Self::Debug | Self::ThinLto | Self::FatLtoDebug | Self::Musl)
    }
}

/// Versions of tokio that tests are made with: the oldest that is understood, the first with a list in shards, and later
/// ones.
pub const VERSIONS: [&str; 4] = ["1.28.2", "1.35.1", "1.44.2", NEWEST];
pub const NEWEST: &str = "1.54.1";
const AXUM: &str = "0.8.9";
const CONSOLE: &str = "0.5.0";
const FUTURES: &str = "0.3.31";

/// What tests are made with each day: each version and each flavor once.
pub const SOME: [(&str, Flavor); 8] = [
    ("1.28.2", Flavor::Release),
    ("1.28.2", Flavor::Debug),
    ("1.35.1", Flavor::FatLtoDebug),
    ("1.44.2", Flavor::V0),
    ("1.44.2", Flavor::ThinLto),
    (NEWEST, Flavor::Debug),
    (NEWEST, Flavor::Stripped),
    (NEWEST, Flavor::Musl),
];

/// A program that answers questions on a socket (`testbed/tokio/src/served.rs` has what may be asked).
pub struct Served {
    target: Target,
    socket: Socket,
}

impl Served {
    /// `name`: what tells it from the others of this process.
    ///
    /// # Errors
    /// When it cannot be built here, or does not start.
    pub fn start(name: &str, version: &str, flavor: Flavor, scenarios: &[&str]) -> Result<Self> {
        Self::start_command(name, build(version, flavor)?, scenarios)
    }

    /// A program that [`build`] has built.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_command(name: &str, mut program: Command, scenarios: &[&str]) -> Result<Self> {
        let socket = Socket::new(name);
        program.env("TASKS_SOCKET", socket.path());
        let target = Target::start_command(program, scenarios)?;
        Ok(Self { target, socket })
    }

    pub fn pid(&self) -> u32 {
        self.target.pid()
    }

    /// # Errors
    /// When it does not answer.
    pub fn ask(&self, what: &str) -> Result<Duration> {
        let mut stream = UnixStream::connect(self.socket.path()).context("connecting to the program")?;
        writeln!(stream, "{what}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(Duration::from_nanos(answer.trim().parse()?))
    }
}

/// Tells tests to be made with all versions and flavors (`cargo xtask test --all`).
pub const EVERY_BUILD: &str = "TASKLEAK_ALL_TOKIO";

/// Builds that tests are to be made with: a few, or all.
pub fn builds() -> Vec<(&'static str, Flavor)> {
    if std::env::var_os(EVERY_BUILD).is_none() {
        return SOME.to_vec();
    }
    let all = |version| Flavor::ALL.map(|flavor| (version, flavor));
    VERSIONS.into_iter().flat_map(all).collect()
}

const MUSL: &str = "x86_64-unknown-linux-musl";

/// The program with this version of tokio, built unless that was done before. The error is [`Unsupported`] where there is
/// no cargo, or no toolchain for the flavor.
pub fn build(version: &str, flavor: Flavor) -> Result<Command> {
    // Its locks are the standard library's, or those of parking_lot: structures are to be found with either.
    let locks = if version == NEWEST {
        ""
    } else {
        ", \"parking_lot\""
    };
    let more = match flavor {
        Flavor::Dumping => ", \"taskdump\"",
        Flavor::Console => ", \"tracing\"",
        _ => "",
    };
    let mut dependencies = dependency("tokio", version, &features(&format!("{locks}{more}")));
    dependencies += &dependency("futures-util", FUTURES, "\"std\"");
    if flavor == Flavor::Console {
        dependencies += &dependency("console-subscriber", CONSOLE, "");
    }
    make(&Recipe {
        name: "tasks",
        sources: "tokio/src",
        version,
        flavor,
        dependencies,
    })
}

/// A small program of the newest version, built as [`build`] does it: `lone` has a single future, `local` a `LocalSet`
/// (`testbed/NAME/src/main.rs`).
pub fn build_small(name: &str, flavor: Flavor) -> Result<Command> {
    make(&Recipe {
        name,
        sources: &format!("{name}/src"),
        version: NEWEST,
        flavor,
        // As above, so that it is built once.
        dependencies: dependency("tokio", NEWEST, &features("")),
    })
}

/// A web server of axum's, built as [`build`] does it.
pub fn build_web(flavor: Flavor) -> Result<Command> {
    let tokio = dependency(
        "tokio",
        NEWEST,
        "\"macros\", \"net\", \"rt-multi-thread\", \"sync\", \"time\"",
    );
    let axum = dependency("axum", AXUM, "\"http1\", \"tokio\"");
    let futures = dependency("futures-util", FUTURES, "\"std\"");
    make(&Recipe {
        name: "web",
        sources: "axum/src",
        version: NEWEST,
        flavor,
        dependencies: tokio + &axum + &futures,
    })
}

fn features(more: &str) -> String {
    format!("\"io-util\", \"macros\", \"net\", \"rt-multi-thread\", \"sync\", \"time\"{more}")
}

fn dependency(name: &str, version: &str, features: &str) -> String {
    format!(
        "[dependencies.{name}]\nversion = \"={version}\"\ndefault-features = false\nfeatures = [{features}]\n\n"
    )
}

/// What is built.
struct Recipe<'a> {
    name: &'a str,
    /// Within `testbed/`.
    sources: &'a str,
    version: &'a str,
    flavor: Flavor,
    dependencies: String,
}

impl Recipe<'_> {
    fn manifest(&self, sources: &Path) -> String {
        let (name, main) = (self.name, sources.join("main.rs"));
        format!(
            "[package]\nname = \"{name}\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n\
             [[bin]]\nname = \"{name}\"\npath = \"{}\"\n\n{}[workspace]\n",
            main.display(),
            self.dependencies
        )
    }
}

fn make(recipe: &Recipe<'_>) -> Result<Command> {
    let cargo = cargo().ok_or_else(|| Unsupported("no cargo in PATH, nor named by CARGO".to_owned()))?;
    let flavor = recipe.flavor;
    let all = folders::outputs().join("tokio");
    let folder = all.join(recipe.version).join(recipe.name);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    // What is not tokio's is built once for all versions, and what is built last has everybody's name.
    let lock = File::create(all.join("lock")).context("cannot write a lock")?;
    lock.lock().context("cannot lock")?;
    let output = folder.join(flavor.name());
    let stamp = output.with_extension("stamp");
    let sources = folders::sources().join(recipe.sources);
    let manifest = recipe.manifest(&sources);
    let settings = flavor.settings();
    let wanted = format!(
        "{manifest}{settings:?} {} {}",
        flavor.rustflags(),
        state(&sources)?
    );
    if output.exists() && fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(Command::new(output));
    }
    let path = folder.join("Cargo.toml");
    if fs::read_to_string(&path).ok().as_ref() != Some(&manifest) {
        fs::write(&path, &manifest).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let built = all.join("target");
    let mut command = Command::new(cargo);
    command
        .current_dir(&folder)
        .args(["build", "--quiet", "--release"])
        .env("CARGO_TARGET_DIR", &built)
        .env("RUSTFLAGS", flavor.rustflags())
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    for setting in settings {
        command.args(["--config", &format!("profile.release.{setting}")]);
    }
    let target = if flavor == Flavor::Musl {
        command.args(["--target", MUSL]);
        MUSL
    } else {
        ""
    };
    let done = command
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        if flavor == Flavor::Musl && said.contains("target may not be installed") {
            return Err(Unsupported(format!("no Rust for {MUSL}: rustup target add {MUSL}")).into());
        }
        bail!("{command:?}: {}\n{said}", done.status);
    }
    let program = built.join(target).join("release").join(recipe.name);
    // Moved: cargo need not be asked again, and what runs is not written over.
    fs::rename(&program, &output).with_context(|| format!("cannot move {}", program.display()))?;
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(Command::new(output))
}

fn state(sources: &Path) -> Result<String> {
    let mut files = fs::read_dir(sources)
        .with_context(|| format!("cannot read {}", sources.display()))?
        .collect::<Result<Vec<_>, _>>()?;
    files.sort_by_key(fs::DirEntry::file_name);
    let mut text = String::new();
    for file in files {
        let metadata = file.metadata()?;
        writeln!(
            text,
            "{:?} {} {}.{:09}",
            file.file_name(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec()
        )?;
    }
    Ok(text)
}
