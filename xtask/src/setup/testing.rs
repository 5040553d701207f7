//! What the tests need beside what taskleak needs: compilers and runtimes for their programs, Prometheus and Alertmanager,
//! a browser, and what looks at the files in deploy/.

use std::{iter, path::PathBuf};

use anyhow::Result;

use super::{Outcome, debian, did, validator};
use crate::workspace::{self, find_in_path};

/// Packages that do the same, of which one is enough; the first that is offered is installed.
type Alternatives = &'static [&'static str];

const COMPILER: [Alternatives; 2] = [&["gcc"], &["libc6-dev"]];
const PACKAGES: [Alternatives; 18] = [
    &["gcc"],
    &["g++"],
    &["gcc-multilib"],
    &["libc6-dev"],
    // Programs with another C library, and a debugger to compare stacks with.
    &["musl-tools"],
    &["gdb"],
    &[
        "openjdk-17-jdk-headless",
        "openjdk-21-jdk-headless",
        "openjdk-25-jdk-headless",
    ],
    &["python3"],
    &["python3-venv"],
    &["util-linux"],
    &["procps"],
    // A client that hangs up, and a terminal to look into.
    &["curl"],
    &["tmux"],
    // What holds the unit to its promises.
    &["systemd"],
    &["strace"],
    // The page as people see it, and the image.
    &["chromium"],
    &["chromium-driver"],
    &["buildah"],
];

/// A package of programs that need nothing but a libc. Unpacked for this workspace alone: installed, it would bring a
/// service that starts, now or at the next boot.
struct Unpacked {
    package: &'static str,
    /// Below [`workspace::tools`].
    folder: &'static str,
    programs: &'static [&'static str],
}

const UNPACKED: [Unpacked; 2] = [
    Unpacked {
        package: "prometheus",
        folder: "prometheus",
        programs: &["prometheus", "promtool"],
    },
    Unpacked {
        package: "prometheus-alertmanager",
        folder: "alertmanager",
        programs: &["prometheus-alertmanager"],
    },
];
/// Debian 12's ask for no newer libc than every supported release has.
const SUITE: &str = "bookworm";

/// Brings what is missing. Where that is not possible the tests that need it say so themselves.
pub fn ensure() -> Result<Vec<Outcome>> {
    let packages = packages(&PACKAGES)?;
    Ok(iter::once(packages)
        .chain(UNPACKED.iter().map(unpacked))
        .chain(iter::once_with(validator::ensure))
        .collect())
}

/// Folders of the programs that were unpacked here, for PATH.
pub fn unpacked_programs() -> Vec<PathBuf> {
    UNPACKED
        .iter()
        .map(Unpacked::programs_folder)
        .filter(|folder| folder.is_dir())
        .collect()
}

/// Brings a C compiler where there is none.
pub fn ensure_gcc() -> Result<Outcome> {
    match find_in_path("gcc") {
        Some(gcc) => Ok(Outcome::InPlace(format!("{}", gcc.display()))),
        None => packages(&COMPILER),
    }
}

fn packages(wanted: &[Alternatives]) -> Result<Outcome> {
    let all = wanted.concat();
    let firsts = |sets: &[Alternatives]| sets.iter().map(|set| set[0]).collect::<Vec<_>>().join(" ");
    if !debian::has_apt() {
        return Ok(Outcome::Warning(format!(
            "no apt-get here: nothing was looked for of {} (Debian's names). What misses one of them says so",
            firsts(wanted)
        )));
    }
    let installed = debian::installed(&all)?;
    let missing = without(wanted, |package| installed.contains(package));
    if missing.is_empty() {
        return Ok(Outcome::InPlace(firsts(wanted)));
    }
    if !workspace::is_root() {
        return Ok(Outcome::Warning(format!(
            "only root can do this: apt-get install --no-install-recommends {}; tests that miss one of them \
             report SKIPPED",
            firsts(&missing)
        )));
    }
    let stale = debian::update();
    let unavailable = debian::unavailable(&all)?;
    let is_offered = |package: &str| !unavailable.contains(&package);
    let lacking = without(&missing, is_offered);
    let chosen = missing
        .iter()
        .filter_map(|set| set.iter().copied().find(|package| is_offered(package)));
    let chosen = chosen.collect::<Vec<_>>();
    if !chosen.is_empty() {
        let result = debian::install(&chosen).map_err(|error| match &stale {
            Some(stale) => error.context(format!("the package lists may be old: {stale:#}")),
            None => error,
        });
        let took = result?;
        did(format!("installed {} in {} s", chosen.join(" "), took.as_secs()));
    }
    if lacking.is_empty() {
        return Ok(Outcome::InPlace(firsts(wanted)));
    }
    Ok(Outcome::Warning(format!(
        "{} offers no {}: tests that need it report SKIPPED{}",
        debian::release(),
        firsts(&lacking),
        stale.map_or_else(String::new, |error| format!(
            "; its package lists may be old: {error:#}"
        ))
    )))
}

/// The sets of which no package fits.
fn without(sets: &[Alternatives], fits: impl Fn(&str) -> bool) -> Vec<Alternatives> {
    sets.iter()
        .copied()
        .filter(|set| !set.iter().any(|package| fits(package)))
        .collect()
}

impl Unpacked {
    fn programs_folder(&self) -> PathBuf {
        workspace::tools().join(self.folder).join("usr/bin")
    }

    /// Where all of its programs are, if that is anywhere.
    fn found(&self) -> Option<PathBuf> {
        let installed = find_in_path(self.programs[0]).and_then(|file| Some(file.parent()?.to_path_buf()));
        installed
            .into_iter()
            .chain([self.programs_folder()])
            .find(|folder| self.programs.iter().all(|program| folder.join(program).is_file()))
    }
}

fn unpacked(wanted: &Unpacked) -> Outcome {
    let programs = wanted.programs.join(" and ");
    if let Some(folder) = wanted.found() {
        return Outcome::InPlace(format!("{programs} in {}", folder.display()));
    }
    match debian::extract(
        &debian::Archive::debian(SUITE),
        &[wanted.package],
        &workspace::tools().join(wanted.folder),
    ) {
        Ok(took) => Outcome::Did(format!(
            "unpacked {} into {} in {} s",
            wanted.package,
            wanted.programs_folder().display(),
            took.as_secs()
        )),
        Err(error) => Outcome::Warning(format!(
            "no {programs}: the tests that need it report SKIPPED. {error:#}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_several_alternatives_is_enough() {
        let sets: [Alternatives; 2] = [&["gcc"], &["jdk-17", "jdk-21"]];
        assert_eq!(
            without(&sets, |package| package == "jdk-21"),
            [["gcc"].as_slice()]
        );
        assert!(without(&sets, |_| true).is_empty());
        assert_eq!(without(&sets, |_| false), sets);
    }
}
