//! What the rules speak of exists: metrics, labels, headings of the runbook, tests.

use std::{collections::BTreeSet, fs};

use taskleak::export::metrics::METRICS;

use crate::{
    dashboard,
    promql::{Used, used},
    rules::{self, Rule},
    servers::taskleak,
};

/// Prometheus puts these on every series.
const OF_THE_SCRAPE: [&str; 2] = ["job", "instance"];
/// What the crate `prometheus` tells of every process that uses it.
const OF_THE_MONITORS_PROCESS: [&str; 2] = ["process_cpu_seconds_total", "process_resident_memory_bytes"];
/// Labels of `by (…)` in the recording rules.
const OF_SITES: [&str; 6] = ["workload", "exe", "kind", "reason", "block_site", "entry"];
const SEVERITIES: [&str; 3] = ["info", "warning", "critical"];

/// Why an expression names what there is not; `recorded`: what recording rules make.
fn complaints(expression: &str, recorded: &BTreeSet<String>) -> Vec<String> {
    let Used { metrics, grouped_by } = used(expression);
    let mut complaints = Vec::new();
    for (name, labels) in metrics {
        let known: Vec<&str> = if let Some(metric) = METRICS.iter().find(|metric| metric.name == name) {
            metric.all_labels()
        } else if recorded.contains(&name) {
            OF_SITES.to_vec()
        } else if name == "up" || OF_THE_MONITORS_PROCESS.contains(&name.as_str()) {
            Vec::new()
        } else {
            complaints.push(format!("there is no metric {name}"));
            continue;
        };
        complaints.extend(unknown(&labels, &known).map(|label| format!("{name} has no label {label}")));
    }
    complaints
        .extend(unknown(&grouped_by, &every_label()).map(|label| format!("no metric has a label {label}")));
    complaints
}

fn unknown<'a>(labels: &'a [String], known: &'a [&str]) -> impl Iterator<Item = &'a String> {
    labels
        .iter()
        .filter(|label| !known.contains(&label.as_str()) && !OF_THE_SCRAPE.contains(&label.as_str()))
}

fn every_label() -> Vec<&'static str> {
    METRICS.iter().flat_map(|metric| metric.all_labels()).collect()
}

fn recorded() -> BTreeSet<String> {
    rules::all().into_iter().filter_map(|rule| rule.record).collect()
}

/// Texts between double quotes of a template that has `query` in it: its expressions.
fn queries(annotation: &str) -> Vec<String> {
    annotation
        .split("{{")
        .filter_map(|part| part.split_once("}}"))
        .map(|(action, _)| action)
        .filter(|action| action.contains("| query"))
        .map(|action| {
            let from = action.find('"').unwrap() + 1;
            let end = action[from..].rfind('"').unwrap();
            action[from..from + end]
                .replace("\\\"", "\"")
                .replace("%q", "\"\"")
        })
        .collect()
}

/// `X` of each `$labels.X`.
fn labels_of(annotation: &str) -> Vec<String> {
    let names = annotation.split("$labels.").skip(1);
    names
        .map(|rest| {
            rest.chars()
                .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
                .collect()
        })
        .collect()
}

fn alerts() -> Vec<(String, Rule)> {
    let named = rules::all().into_iter();
    named
        .filter_map(|rule| Some((rule.alert.clone()?, rule)))
        .collect()
}

#[test]
fn every_metric_and_label_of_the_rules_exists() {
    let recorded = recorded();
    assert!(!recorded.is_empty());
    for rule in rules::all() {
        let found = complaints(&rule.expr, &recorded);
        assert!(found.is_empty(), "{}: {found:?}", rule.expr);
        for annotation in rule.annotations.values() {
            let names = labels_of(annotation);
            let every_label = every_label();
            let unknown: Vec<_> = unknown(&names, &every_label).collect();
            assert!(unknown.is_empty(), "{annotation}: {unknown:?}");
            for query in queries(annotation) {
                let found = complaints(&query, &recorded);
                assert!(found.is_empty(), "{query}: {found:?}");
            }
        }
    }
}

#[test]
fn every_metric_and_label_of_the_dashboard_exists() {
    let recorded = recorded();
    let expressions = dashboard::expressions();
    assert!(expressions.len() > 20, "{}", expressions.len());
    for expression in expressions {
        let found = complaints(&expression, &recorded);
        assert!(found.is_empty(), "{expression}: {found:?}");
    }
}

#[test]
fn names_that_do_not_exist_are_complained_of() {
    let recorded = recorded();
    let cases = [
        (
            "taskleak_blocked_task > 1",
            "there is no metric taskleak_blocked_task",
        ),
        (
            "taskleak_blocked_tasks{basis=\"live\"}",
            "taskleak_blocked_tasks has no label basis",
        ),
        (
            "site:taskleak_blocked_tasks:sum{pid=\"1\"}",
            "site:taskleak_blocked_tasks:sum has no label pid",
        ),
        ("sum by (pod) (taskleak_tasks)", "no metric has a label pod"),
    ];
    for (expression, complaint) in cases {
        assert_eq!(complaints(expression, &recorded), [complaint]);
    }
    let template = "{{ with printf \"topk(1, m{a=%q,b=\\\"c\\\"})\" $labels.a | query }}{{ . }}{{ end }}";
    assert_eq!(queries(template), ["topk(1, m{a=\"\",b=\"c\"})"]);
    assert_eq!(labels_of(template), ["a"]);
}

/// As GitHub and its kin make them of headings.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
        .collect()
}

#[test]
fn every_alert_tells_what_a_person_needs_and_leads_into_the_runbook() {
    let runbook = fs::read_to_string(rules::repository().join("docs/RUNBOOK.md")).unwrap();
    let headings: Vec<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    let anchors: Vec<String> = headings.iter().map(|heading| anchor(heading)).collect();
    for (name, rule) in alerts() {
        let severity = rule.labels.get("severity").map(String::as_str);
        assert!(
            severity.is_some_and(|it| SEVERITIES.contains(&it)),
            "{name}: {severity:?}"
        );
        for text in ["summary", "description"] {
            assert!(rule.annotations.contains_key(text), "{name} has no {text}");
        }
        let link = rule
            .annotations
            .get("runbook_url")
            .map(String::as_str)
            .unwrap_or_default();
        let target = link.strip_prefix("docs/RUNBOOK.md#").unwrap_or_default();
        assert!(
            anchors.iter().any(|anchor| anchor == target),
            "{name}: {link} is not in {anchors:?}"
        );
        assert_eq!(target, name.to_lowercase(), "each alert has a chapter of its own");
    }
    // Nothing is left of an alert that is no more.
    let known: BTreeSet<String> = alerts().into_iter().map(|(name, _)| name).collect();
    let of_alerts: BTreeSet<String> = headings
        .iter()
        .filter(|heading| heading.starts_with("Taskleak"))
        .map(|heading| (*heading).to_owned())
        .collect();
    assert_eq!(of_alerts, known);
}

#[test]
fn every_rule_is_tested_firing_and_silent() {
    let (of_alerts, expressions) = rules::tests();
    for (name, _) in alerts() {
        for fires in [true, false] {
            let is_tested = of_alerts
                .iter()
                .any(|test| test.alertname == name && test.exp_alerts.is_empty() != fires);
            assert!(
                is_tested,
                "no test in which {name} is {}",
                if fires { "firing" } else { "silent" }
            );
        }
    }
    for name in recorded() {
        assert!(
            expressions.iter().any(|test| test.expr.contains(&name)),
            "no test of {name}"
        );
    }
}

/// At three in the morning nobody wants to learn that a flag is called otherwise.
#[test]
fn what_the_runbook_says_to_type_exists() {
    let runbook = fs::read_to_string(rules::repository().join("docs/RUNBOOK.md")).unwrap();
    let recorded = recorded();
    let queries: Vec<&str> = runbook.split("```promql\n").skip(1).collect();
    for query in &queries {
        let query = query.split("```").next().unwrap();
        let found = complaints(query, &recorded);
        assert!(found.is_empty(), "{query}: {found:?}");
    }
    let code = runbook
        .split('`')
        .skip(1)
        .step_by(2)
        .chain(runbook.lines().map(str::trim_start));
    let commands: BTreeSet<&str> = code
        .filter(|text| text.starts_with("taskleak ") && is_command(text))
        .collect();
    for command in &commands {
        let mut words = command.split_whitespace().skip(1);
        let subcommand = words.next().unwrap();
        let help = taskleak(&[subcommand, "--help"]);
        assert!(help.status.success(), "{command}");
        let help = String::from_utf8(help.stdout).unwrap();
        for flag in words.filter(|word| word.starts_with("--")) {
            assert!(
                help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")),
                "{command}: {flag}"
            );
        }
    }
    assert!(
        queries.len() >= 4 && commands.len() >= 3,
        "{queries:?} {commands:?}"
    );
}

/// Not a sentence that begins with the name.
fn is_command(text: &str) -> bool {
    let subcommand = text.split_whitespace().nth(1).unwrap_or_default();
    [
        "run", "snapshot", "judge", "doctor", "check", "stacks", "top", "prove",
    ]
    .contains(&subcommand)
}
