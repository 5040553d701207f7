//! The files in `dashboards/`, read.

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct File {
    groups: Vec<RuleGroup>,
}

#[derive(Debug, Deserialize)]
struct RuleGroup {
    rules: Vec<Rule>,
}

/// A recording rule or an alert.
#[derive(Debug, Deserialize)]
pub struct Rule {
    pub record: Option<String>,
    pub alert: Option<String>,
    pub expr: String,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// A file of `promtool test rules`.
#[derive(Debug, Deserialize)]
struct TestFile {
    tests: Vec<Test>,
}

#[derive(Debug, Deserialize)]
struct Test {
    #[serde(default)]
    alert_rule_test: Vec<AlertTest>,
    #[serde(default)]
    promql_expr_test: Vec<ExprTest>,
}

#[derive(Debug, Deserialize)]
pub struct AlertTest {
    pub alertname: String,
    pub exp_alerts: Vec<serde_yaml_ng::Value>,
}

#[derive(Debug, Deserialize)]
pub struct ExprTest {
    pub expr: String,
}

pub fn repository() -> PathBuf {
    fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).unwrap()
}

pub fn dashboards() -> PathBuf {
    repository().join("dashboards")
}

/// The YAML files of a folder.
pub fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(repository().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

fn read<T: for<'de> Deserialize<'de>>(path: PathBuf) -> T {
    let text = fs::read_to_string(&path).unwrap();
    serde_yaml_ng::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All rules of `dashboards/`.
pub fn all() -> Vec<Rule> {
    let files = yaml_files("dashboards").into_iter().map(read::<File>);
    files
        .flat_map(|file| file.groups)
        .flat_map(|group| group.rules)
        .collect()
}

/// What the tests in `dashboards/tests` expect of alerts, and the expressions that they ask for.
pub fn tests() -> (Vec<AlertTest>, Vec<ExprTest>) {
    let files = yaml_files("dashboards/tests").into_iter().map(read::<TestFile>);
    let (mut alerts, mut expressions) = (Vec::new(), Vec::new());
    for test in files.flat_map(|file| file.tests) {
        alerts.extend(test.alert_rule_test);
        expressions.extend(test.promql_expr_test);
    }
    (alerts, expressions)
}
