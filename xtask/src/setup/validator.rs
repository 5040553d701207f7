//! kubernetes-validate, which holds manifests to Kubernetes' own schemas: from PyPI, for this workspace alone.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::Outcome;
use crate::{
    progress,
    workspace::{self, command, find_in_path, output},
};

const VERSION: &str = "1.37.0";

fn folder() -> PathBuf {
    workspace::tools().join("kubernetes-validate")
}

fn program() -> PathBuf {
    folder().join("bin/kubernetes-validate")
}

/// Brings it where it is missing or of another version.
pub fn ensure() -> Outcome {
    let is_right = |said: String| said.contains(VERSION);
    if output(command(program()).arg("--version")).is_some_and(is_right) {
        return Outcome::InPlace(format!("kubernetes-validate in {}", folder().display()));
    }
    match install() {
        Ok(()) => Outcome::Did(format!(
            "installed kubernetes-validate {VERSION} into {}",
            folder().display()
        )),
        Err(error) => {
            // What is half there would only say so later.
            let _ = fs::remove_dir_all(folder());
            Outcome::Warning(format!(
                "no kubernetes-validate: the test that needs it reports SKIPPED. {error:#}"
            ))
        }
    }
}

fn install() -> Result<()> {
    let python = find_in_path("python3").context("there is no python3 in PATH")?;
    let mut make = command(python);
    make.args(["-m", "venv", "--clear"]).arg(folder());
    progress::run("making a virtual environment of Python", &mut make)
        .context("Debian's package python3-venv has what this needs")?;
    let mut install = command(folder().join("bin/pip"));
    install.args(["install", "--quiet", "--disable-pip-version-check"]);
    install.arg(format!("kubernetes-validate=={VERSION}"));
    progress::run(
        &format!("fetching kubernetes-validate {VERSION} from PyPI"),
        &mut install,
    )?;
    Ok(())
}
