//! What a program calls its goroutines (`runtime/pprof.Do`), in every format.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use testbed::{
    Target,
    go::{self, Flavor},
};

use super::{
    formats::{Profile, pprof},
    functions, json, tasks, told,
};
use crate::go::bed;

const SCENARIOS: [&str; 5] = [
    "labelled=4",
    "labelled_each=3",
    "labelled_many=1",
    "labelled_long=1",
    "unlabelled=2",
];

fn shared() -> Value {
    json!({"handler": "/api/v1.0_x", "user kind": "a \"b\" \\ \t\n\u{1}\u{7f} ü 😀", "empty": ""})
}

/// The labels of the goroutines with a function on their stack, and whether there are more.
fn labels(document: &Value, function: &str) -> Vec<(Value, bool)> {
    let found = tasks(document, |task| functions(document, task).contains(&function));
    let one = |task: &Value| {
        (
            task["labels"].clone(),
            task["labels_truncated"].as_bool().unwrap(),
        )
    };
    found.into_iter().map(one).collect()
}

fn check(target: &Target, version: &str) {
    let document = json(target.pid(), &["--kind", "goroutine"]);
    let of = |function: &str| labels(&document, function);
    assert_eq!(
        of("main.labelledForever"),
        vec![(shared(), false); 4],
        "Go {version}"
    );
    let mut each: Vec<(String, bool)> = of("main.labelledEachForever")
        .iter()
        .map(|(labels, truncated)| (labels.to_string(), *truncated))
        .collect();
    each.sort();
    let expected = [1, 2, 3].map(|number| {
        (
            json!({"kind": "batch", "request": format!("r-{number}")}).to_string(),
            false,
        )
    });
    assert_eq!(each, expected, "Go {version}");
    let many: BTreeMap<String, String> = (0..20)
        .map(|number| (format!("key{number:02}"), format!("value {number}")))
        .collect();
    assert_eq!(
        of("main.labelledManyForever"),
        [(json!(many), false)],
        "Go {version}"
    );
    assert_eq!(
        of("main.unlabelledForever"),
        vec![(json!({}), false); 2],
        "Go {version}"
    );
    // Bounded, and said to be.
    let long = of("main.labelledLongForever");
    let [(long, true)] = long.as_slice() else {
        panic!("Go {version}: {long:?}");
    };
    let long = long.as_object().unwrap();
    assert_eq!(long.len(), 32, "Go {version}");
    for (key, value) in long {
        let value = value.as_str().unwrap();
        match key.as_str() {
            "a" => assert_eq!(value, "x".repeat(256) + "…"),
            key => assert!(key.starts_with("key") && value == "v", "{key}={value}"),
        }
    }
    // Those of the program's first goroutine, and threads.
    let without = json(target.pid(), &["--kind", "thread"]);
    for task in tasks(&without, |_| true) {
        assert_eq!(
            (&task["labels"], &task["labels_truncated"]),
            (&json!({}), &json!(false))
        );
    }
}

#[test]
fn they_are_told_of_each_version_stripped_or_not() {
    for version in go::versions() {
        let more = [Flavor::NoSections, Flavor::Pie];
        let more = more.into_iter().filter(|_| ["1.19", "1.27"].contains(version));
        for flavor in [Flavor::Plain].into_iter().chain(more) {
            if let Some(target) = bed::start("stacks::labels", version, flavor, &SCENARIOS) {
                check(&target, version);
            }
        }
    }
}

/// Both labels of a set are always equal.
#[test]
fn a_set_is_never_told_that_is_none() {
    for version in ["1.22", "1.27"] {
        let Some(target) = bed::start(
            "stacks::labels_spin",
            version,
            Flavor::Plain,
            &["labelled_spin=2"],
        ) else {
            continue;
        };
        let mut told = 0;
        for _ in 0..6 {
            let document = json(target.pid(), &["--kind", "goroutine"]);
            for task in tasks(&document, |task| {
                task["entry"]["function"] == "main.leakLabelledSpin"
            }) {
                let labels = task["labels"].as_object().unwrap();
                if labels.is_empty() {
                    continue;
                }
                told += 1;
                assert_eq!(labels.len(), 2, "Go {version}: {task}");
                assert_eq!(labels["one"], labels["two"], "Go {version}: {task}");
                assert!(labels["one"].as_str().unwrap().starts_with('n'), "{task}");
            }
        }
        assert!(told > 0, "Go {version}");
    }
}

#[test]
fn people_are_told_what_a_group_has_in_common() {
    let Some(target) = bed::start("stacks::labels_text", "1.27", Flavor::Plain, &SCENARIOS) else {
        return;
    };
    let line = |site: &str, more: &[&str]| {
        let text = told(target.pid(), &[&["--site", site], more].concat());
        let lines = text.lines().filter_map(|line| line.strip_prefix("    labels "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        line("^main.labelledForever", &[]),
        ["empty=, handler=/api/v1.0_x, user kind=a \"b\" \\ \\t\\n\\u{1}\\u{7f} ü 😀"]
    );
    assert_eq!(
        line("^main.labelledEachForever", &[]),
        ["kind=batch, request (3 different)"]
    );
    assert_eq!(
        line("^main.labelledEachForever", &["--no-group"]),
        [
            "kind=batch, request=r-1",
            "kind=batch, request=r-2",
            "kind=batch, request=r-3"
        ]
    );
    assert_eq!(line("^main.unlabelledForever", &[]), [""; 0]);
}

#[test]
fn profiles_can_be_asked_for_them() {
    let Some(target) = bed::start("stacks::labels_pprof", "1.27", Flavor::Plain, &SCENARIOS) else {
        return;
    };
    let profile = Profile::of(target.pid(), "labels");
    let count = |tag: &str| {
        let args = ["-top", "-cum", "-nodecount=1000", &format!("-tagfocus={tag}")];
        let top = pprof(profile.path(), &args)?;
        let counts = super::formats::cumulated(&top);
        let sum = |name: &str| counts.get(name).copied().unwrap_or_default();
        Some((sum("main.leakLabelled"), sum("main.leakLabelledEach")))
    };
    let Some(by_handler) = count("handler=/api") else {
        return;
    };
    assert_eq!(by_handler, (4.0, 0.0));
    assert_eq!(count("request=r-2"), Some((0.0, 1.0)));
    // `kind` is what kind of a task it is.
    assert_eq!(count("program.kind=batch"), Some((0.0, 3.0)));
    assert_eq!(count("kind=goroutine"), Some((4.0, 3.0)));
}
