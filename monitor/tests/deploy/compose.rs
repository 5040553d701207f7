//! docker-compose: what it mounts exists, and its parts fit together.

use std::{collections::BTreeSet, process::Command};

use serde_yaml_ng::Value;

use crate::support::{TASKLEAK, capabilities_needed, deploy, missing, repository, said, yaml};

fn compose() -> Value {
    yaml(&deploy("compose/docker-compose.yaml")).remove(0)
}

fn texts(value: &Value) -> Vec<String> {
    let list = value.as_sequence().map(Vec::as_slice).unwrap_or_default().iter();
    list.map(|it| it.as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_it_mounts_exists() {
    let compose = compose();
    let folder = deploy("compose");
    let mut ours = BTreeSet::new();
    for (name, service) in compose["services"].as_mapping().unwrap() {
        for volume in texts(&service["volumes"]) {
            let parts: Vec<&str> = volume.split(':').collect();
            let [source, target, "ro"] = parts[..] else {
                panic!("{volume} can be written to");
            };
            assert!(target.starts_with('/'), "{volume}");
            if source.starts_with('.') {
                let file = folder.join(source).canonicalize();
                let file = file.unwrap_or_else(|error| panic!("{name:?}: {source}: {error}"));
                ours.insert(file.strip_prefix(repository()).unwrap().display().to_string());
            } else {
                assert_eq!((name, source), (&"taskleak".into(), target));
            }
        }
    }
    let expected = [
        "dashboards/alerts.yaml",
        "dashboards/rules.yaml",
        "dashboards/taskleak.json",
        "deploy/compose/alertmanager.yml",
        "deploy/compose/grafana/dashboards.yaml",
        "deploy/compose/grafana/datasources.yaml",
        "deploy/compose/prometheus.yml",
    ];
    assert_eq!(ours, expected.map(str::to_owned).into());
}

#[test]
fn taskleak_has_what_it_needs() {
    let compose = compose();
    let taskleak = &compose["services"]["taskleak"];
    let granted: BTreeSet<String> = texts(&taskleak["cap_add"])
        .iter()
        .map(|it| format!("CAP_{it}"))
        .collect();
    assert_eq!(granted, capabilities_needed());
    assert_eq!(texts(&taskleak["cap_drop"]), ["ALL"]);
    assert_eq!(
        (&taskleak["pid"], &taskleak["read_only"]),
        (&"host".into(), &true.into())
    );
    let mut check = Command::new(TASKLEAK);
    check.args(["run", "--config-check"]);
    for (name, value) in taskleak["environment"].as_mapping().unwrap() {
        check.env(name.as_str().unwrap(), value.as_str().unwrap());
    }
    let output = check.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_parts_find_each_other() {
    let compose = compose();
    let services = &compose["services"];
    let prometheus = yaml(&deploy("compose/prometheus.yml")).remove(0);
    let host = |address: &str| {
        let host = address
            .trim_start_matches("http://")
            .split(':')
            .next()
            .unwrap()
            .to_owned();
        assert!(services.get(host.as_str()).is_some(), "{address}");
        host
    };
    let scraped = &prometheus["scrape_configs"][0];
    assert_eq!(scraped["job_name"], "taskleak");
    let target = texts(&scraped["static_configs"][0]["targets"]).remove(0);
    // taskleak answers to names that it was told only.
    assert_eq!(
        services["taskleak"]["environment"]["TASKLEAK_ALLOW_HOST"],
        host(&target).as_str()
    );
    assert!(
        services["taskleak"]["environment"]["TASKLEAK_LISTEN"]
            .as_str()
            .unwrap()
            .ends_with(":9435")
    );
    assert!(target.ends_with(":9435"));
    host(&texts(&prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"])[0]);
    let sources = yaml(&deploy("compose/grafana/datasources.yaml")).remove(0);
    host(sources["datasources"][0]["url"].as_str().unwrap());
    let dashboards = yaml(&deploy("compose/grafana/dashboards.yaml")).remove(0);
    let path = dashboards["providers"][0]["options"]["path"].as_str().unwrap();
    let mounted = texts(&services["grafana"]["volumes"]);
    assert!(
        mounted
            .iter()
            .any(|it| it.contains(&format!(":{path}/taskleak.json:"))),
        "{mounted:?}"
    );
}

#[test]
fn prometheus_and_alertmanager_take_their_files() {
    for (program, words, file) in [
        ("promtool", ["check", "config"], "compose/prometheus.yml"),
        (
            "amtool",
            ["check-config", "--verbose"],
            "compose/alertmanager.yml",
        ),
    ] {
        if missing(&format!("deploy::compose {program}"), program) {
            continue;
        }
        let output = Command::new(program)
            .args(words)
            .arg(deploy(file))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
}
