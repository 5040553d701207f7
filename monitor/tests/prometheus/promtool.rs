//! The rules and their tests in `dashboards/`, by promtool.

use std::process::Command;

use crate::{
    rules::{dashboards, yaml_files},
    servers::missing,
};

fn promtool(words: [&str; 2], folder: &str) {
    if missing(
        &format!("prometheus::promtool {}", words.join(" ")),
        &["promtool"],
    ) {
        return;
    }
    let files = yaml_files(folder);
    assert!(!files.is_empty());
    let output = Command::new("promtool")
        .args(words)
        .args(&files)
        .current_dir(dashboards())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
    // Each file is spoken of, or it was not looked at.
    assert_eq!(said.matches("SUCCESS").count(), files.len(), "{said}");
    assert!(!said.contains("duplicate"), "{said}");
}

#[test]
fn the_rules_are_right() {
    promtool(["check", "rules"], "dashboards");
}

#[test]
fn the_rules_do_what_their_tests_say() {
    promtool(["test", "rules"], "dashboards/tests");
}
