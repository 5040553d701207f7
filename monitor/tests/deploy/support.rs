//! The files, and programs that look at them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use testbed::Unsupported;

pub const TASKLEAK: &str = env!("CARGO_BIN_EXE_taskleak");

pub fn repository() -> PathBuf {
    fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap()
}

pub fn deploy(file: &str) -> PathBuf {
    repository().join("deploy").join(file)
}

/// Says that a test cannot run here, and why.
pub fn skip(test: &str, why: &str) {
    let nothing: anyhow::Result<()> = Err(Unsupported(why.to_owned()).into());
    assert!(testbed::or_skip(test, nothing).unwrap().is_none());
}

/// Whether a program is not installed; then the test says that it cannot run here.
pub fn missing(test: &str, program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_here = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    if !is_here {
        skip(
            test,
            &format!("no {program} in PATH (cargo xtask test brings it on Debian)"),
        );
    }
    !is_here
}

pub fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// What `doctor` speaks of.
pub fn capabilities_needed() -> BTreeSet<String> {
    let output = Command::new(TASKLEAK)
        .args(["doctor", "--format", "json"])
        .output()
        .unwrap();
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let names = checks
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|check| check["name"].as_str());
    let needed: BTreeSet<String> = names
        .filter(|it| it.starts_with("CAP_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(needed.len(), 6, "{needed:?}");
    needed
}

/// The documents of a YAML file.
pub fn yaml(path: &Path) -> Vec<serde_yaml_ng::Value> {
    use serde::Deserialize as _;
    let text = fs::read_to_string(path).unwrap();
    let documents = serde_yaml_ng::Deserializer::from_str(&text);
    documents
        .map(|it| {
            serde_yaml_ng::Value::deserialize(it)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect()
}
