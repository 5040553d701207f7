//! Debian packages: what is installed, what can be had, installing, and unpacking without installing.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::progress;
use crate::workspace::{self, command, find_in_path};

/// Another apt or dpkg may be at work: wait for it that long.
const WAIT_FOR_LOCK: &str = "DPkg::Lock::Timeout=300";
/// Lists of packages that are younger are not fetched again.
const FRESH: Duration = Duration::from_secs(24 * 3600);

/// Where packages come from.
pub struct Archive {
    name: String,
    mirror: &'static str,
    suite: &'static str,
    components: &'static str,
    keyring: PathBuf,
    /// The package that has the keyring.
    keys: &'static str,
}

impl Archive {
    pub fn debian(suite: &'static str) -> Self {
        Self {
            name: format!("Debian {suite}"),
            mirror: "http://deb.debian.org/debian",
            suite,
            components: "main",
            keyring: "/usr/share/keyrings/debian-archive-keyring.gpg".into(),
            keys: "debian-archive-keyring",
        }
    }

    /// Debian has a package with Ubuntu's keys.
    pub fn ubuntu(suite: &'static str) -> Result<Self> {
        const KEYRING: &str = "usr/share/keyrings/ubuntu-archive-keyring.gpg";
        const KEYS: &str = "ubuntu-keyring";
        let folder = workspace::tools().join(KEYS);
        let keyring = folder.join(KEYRING);
        if !keyring.is_file() {
            fs::create_dir_all(workspace::tools()).context("cannot make the folder of tools")?;
            extract(&Self::debian("trixie"), &[KEYS], &folder)?;
        }
        Ok(Self {
            name: format!("Ubuntu {suite}"),
            mirror: "http://archive.ubuntu.com/ubuntu",
            suite,
            components: "main universe",
            keyring,
            keys: KEYS,
        })
    }
}

/// Whether this machine installs its packages with apt.
pub fn has_apt() -> bool {
    ["apt-get", "apt-cache", "dpkg-query", "dpkg"]
        .iter()
        .all(|tool| find_in_path(tool).is_some())
}

/// What the machine calls itself, such as `Debian GNU/Linux 12 (bookworm)`.
pub fn release() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    pretty_name(&text).unwrap_or("this system").to_owned()
}

fn pretty_name(os_release: &str) -> Option<&str> {
    let name = os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(name.trim_matches(['"', '\'']))
}

/// Those of the packages that are not installed.
pub fn missing(packages: &[&'static str]) -> Result<Vec<&'static str>> {
    let installed = installed(packages)?;
    Ok(packages
        .iter()
        .copied()
        .filter(|package| !installed.contains(*package))
        .collect())
}

/// Those of the packages that are installed.
pub fn installed(packages: &[&str]) -> Result<HashSet<String>> {
    // It fails when it has never heard of one of them, having listed the others.
    let output = command("dpkg-query")
        .args(["-W", "-f=${Package} ${db:Status-Status}\n"])
        .args(packages)
        .output()
        .context("cannot start dpkg-query")?;
    Ok(parse_installed(&String::from_utf8_lossy(&output.stdout)))
}

fn parse_installed(listing: &str) -> HashSet<String> {
    listing
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .map(str::to_owned)
        .collect()
}

/// Fetches the lists of packages anew, unless that was done today.
///
/// That some source cannot be reached is no error yet: what is wanted may come from another one.
pub fn update() -> Option<anyhow::Error> {
    let age = fs::metadata(updated())
        .and_then(|meta| meta.modified())
        .ok()
        .and_then(|at| at.elapsed().ok());
    if age.is_some_and(|age| age < FRESH) {
        return None;
    }
    let mut update = apt("apt-get");
    update.args(["-q", "-o", WAIT_FOR_LOCK, "-o", "Acquire::http::Timeout=30"]);
    update.args(["-o", "APT::Update::Error-Mode=any", "update"]);
    let result = progress::run("fetching Debian's package lists", &mut update);
    if result.is_ok() {
        // Without the mark they are fetched once more, that is all.
        let _ = fs::create_dir_all(workspace::tools()).and_then(|()| fs::write(updated(), ""));
    }
    result.err()
}

/// Lets the next [`update`] fetch the lists: something about them may have been wrong.
pub fn distrust_lists() {
    // It may not be there.
    let _ = fs::remove_file(updated());
}

/// A file that is as old as the lists of packages.
fn updated() -> PathBuf {
    workspace::tools().join("apt-updated")
}

/// Those of the packages that no source of this machine offers.
pub fn unavailable(packages: &[&'static str]) -> Result<Vec<&'static str>> {
    let output = apt("apt-cache")
        .arg("policy")
        .args(packages)
        .output()
        .context("cannot start apt-cache policy")?;
    let offered = parse_policy(&String::from_utf8_lossy(&output.stdout));
    Ok(packages
        .iter()
        .copied()
        .filter(|package| !offered.contains(*package))
        .collect())
}

fn parse_policy(policy: &str) -> HashSet<String> {
    let mut offered = HashSet::new();
    let mut package = "";
    for line in policy.lines() {
        if !line.starts_with(' ') {
            package = line.trim_end_matches(':');
        } else if let Some(version) = line.trim_start().strip_prefix("Candidate: ")
            && version != "(none)"
        {
            offered.insert(package.to_owned());
        }
    }
    offered
}

/// Installs packages; never at the cost of one that is installed.
pub fn install(packages: &[&str]) -> Result<Duration> {
    let what = format!("installing {}", packages.join(" "));
    let mut install = apt("apt-get");
    install
        .args(["install", "-y", "-q", "--no-install-recommends", "--no-remove"])
        .args([
            "-o",
            WAIT_FOR_LOCK,
            "-o",
            "Dpkg::Use-Pty=0",
            "-o",
            "Dpkg::Options::=--force-confold",
        ])
        .args(packages);
    match progress::run(&what, &mut install) {
        // An earlier installation was cut off: end it, as dpkg asks for.
        Err(error) if error.to_string().contains("dpkg --configure -a") => {
            let mut repair = apt("dpkg");
            progress::run(
                "ending an installation that was cut off",
                repair.args(["--configure", "-a"]),
            )?;
            progress::run(&what, &mut install)
        }
        result => result,
    }
    .inspect_err(|_| distrust_lists())
}

/// Unpacks packages of an archive into a folder, with nothing installed and no right of root's.
///
/// The folder appears whole or not at all.
pub fn extract(archive: &Archive, packages: &[impl AsRef<str>], folder: &Path) -> Result<Duration> {
    let packages: Vec<&str> = packages.iter().map(AsRef::as_ref).collect();
    let what = format!("fetching {} of {}", packages.join(" "), archive.name);
    if !has_apt() {
        bail!("{what}: this needs apt-get and dpkg, which are not here");
    }
    if !archive.keyring.exists() {
        let keyring = archive.keyring.display();
        bail!(
            "{what}: there is no {keyring}; install the package {}",
            archive.keys
        );
    }
    let partial = folder.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    let state = partial.join("apt");
    for dir in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(state.join(dir))
            .with_context(|| format!("cannot make a folder in {}", state.display()))?;
    }
    let sources = format!(
        "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\nSigned-By: {}\n",
        archive.mirror,
        archive.suite,
        archive.components,
        archive.keyring.display()
    );
    write(&state.join("debian.sources"), &sources)?;
    // What is installed here must not count as a candidate.
    write(&state.join("status"), "")?;

    let took = progress::run(&format!("{what}: lists"), apt_of(&state).args(["-q", "update"]))?;
    let mut download = apt_of(&state);
    download
        .args(["-q", "download"])
        .args(packages)
        .current_dir(&state);
    let took = took + progress::run(&what, &mut download)?;
    let tree = partial.join("tree");
    for entry in fs::read_dir(&state).with_context(|| format!("cannot read {}", state.display()))? {
        let deb = entry?.path();
        if deb.extension().is_some_and(|extension| extension == "deb") {
            workspace::run(command("dpkg").arg("-x").arg(&deb).arg(&tree))?;
        }
    }
    let _ = fs::remove_dir_all(folder);
    fs::rename(&tree, folder).with_context(|| format!("cannot move {} into place", folder.display()))?;
    let _ = fs::remove_dir_all(&partial);
    Ok(took)
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

/// An apt-get that knows nothing but the sources in `state`.
fn apt_of(state: &Path) -> Command {
    let mut apt = apt("apt-get");
    for (key, file) in [
        ("Dir::Etc::SourceList", "debian.sources"),
        ("Dir::State", ""),
        ("Dir::State::Lists", "lists"),
        ("Dir::State::Status", "status"),
        ("Dir::Cache", "cache"),
    ] {
        let mut option = std::ffi::OsString::from(format!("{key}="));
        option.push(state.join(file));
        apt.arg("-o").arg(option);
    }
    for option in [
        "Dir::Etc::SourceParts=-",
        "Dir::Etc::Preferences=-",
        "Dir::Etc::PreferencesParts=-",
        "APT::Default-Release=",
        "APT::Sandbox::User=",
        "Acquire::Languages=none",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
        "Acquire::http::Timeout=30",
    ] {
        apt.args(["-o", option]);
    }
    apt
}

/// One of Debian's tools, in English and never asking.
fn apt(tool: &str) -> Command {
    let mut command = command(tool);
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_wholly_installed_counts() {
        let listing = "gcc installed\ngcc-multilib not-installed\nprometheus config-files\n\
                       python3 half-configured\ng++ installed\n";
        let installed = parse_installed(listing);
        assert_eq!(installed, HashSet::from(["gcc".to_owned(), "g++".to_owned()]));
    }

    #[test]
    fn a_package_without_a_candidate_is_not_offered() {
        let policy = "gcc:\n  Installed: (none)\n  Candidate: 4:12.2.0-3\n  Version table:\n     \
                      4:12.2.0-3 500\n        500 http://deb.debian.org/debian bookworm/main\n\
                      rustc-web:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n";
        assert_eq!(parse_policy(policy), HashSet::from(["gcc".to_owned()]));
    }

    #[test]
    fn the_release_names_itself() {
        let text = "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n";
        assert_eq!(pretty_name(text), Some("Debian GNU/Linux 12 (bookworm)"));
        assert_eq!(pretty_name("ID=arch\n"), None);
    }
}
