//! A leak, all the way: program → taskleak → Prometheus → our rules → Alertmanager, and back through `judge`.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;
use testbed::{
    Program, Target,
    tokio::{Flavor, NEWEST, Served},
};

use crate::{
    dashboard,
    rules::dashboards,
    servers::{Folder, Server, Taskleak, find, missing, taskleak, until},
};

/// Judged in forty seconds: of a process that has just been started sixteen seconds of growth are enough.
const QUICK: [&str; 8] = [
    "--interval",
    "250ms",
    "--blocked-after",
    "500ms",
    "--window",
    "40s",
    "--long-window",
    "80s",
];

fn start(program: Program, scenarios: &[&str]) -> Option<Target> {
    let target = Target::start(program, scenarios);
    testbed::or_skip("prometheus::end_to_end", target).unwrap_or_else(|error| panic!("{error:#}"))
}

/// A program of tokio's that makes tasks when it is asked to.
fn keeper() -> Option<Served> {
    let started = Served::start("keeper", NEWEST, Flavor::Debug, &[]);
    testbed::or_skip("prometheus::end_to_end", started).unwrap_or_else(|error| panic!("{error:#}"))
}

/// Debian's reads its templates from one place, whatever it is told: where it was only unpacked, they are put there for
/// it alone, in a mount namespace of its own.
const WITH_TEMPLATES: &str = r#"
    set -e
    if [ ! -e /usr/share/prometheus/alertmanager/default.tmpl ]; then
        mount -t tmpfs tmpfs /usr/share
        mkdir /usr/share/prometheus
        ln -s "$1" /usr/share/prometheus/alertmanager
    fi
    shift
    exec "$@"
"#;

fn alertmanager(folder: &Folder) -> Server {
    let config = folder.write(
        "alertmanager.yml",
        "route: {receiver: nobody, group_wait: 1s}\nreceivers: [{name: nobody}]\n",
    );
    let program = find("prometheus-alertmanager").unwrap();
    let templates = program.parent().unwrap().join("../share/prometheus/alertmanager");
    Server::start("alertmanager", folder, |address| {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", WITH_TEMPLATES, "sh"])
            .args([&templates, &program])
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.path={}",
                folder.path("alertmanager").display()
            ))
            .arg(format!("--web.listen-address={address}"))
            // Alone.
            .arg("--cluster.listen-address=");
        command
    })
}

fn prometheus(folder: &Folder, target: &str, alertmanager: &str) -> Server {
    let config = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
         rule_files: ['{}/*.yaml']\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{alertmanager}']}}]}}]}}\n\
         scrape_configs: [{{job_name: taskleak, static_configs: [{{targets: ['{target}']}}]}}]\n",
        dashboards().display()
    );
    let config = folder.write("prometheus.yml", &config);
    Server::start("prometheus", folder, |address| {
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.path("prometheus").display()
            ))
            .arg(format!("--web.listen-address={address}"));
        command
    })
}

fn alerts(alertmanager: &Server) -> Vec<Value> {
    alertmanager.get("/api/v2/alerts").as_array().unwrap().clone()
}

#[test]
fn a_leak_fires_at_alertmanager_and_pools_beside_it_do_not() {
    if missing(
        "prometheus::end_to_end",
        &["prometheus", "prometheus-alertmanager"],
    ) {
        return;
    }
    let Some(demo) = start(Program::Demo, &[]) else {
        return;
    };
    let Some(healthy) = start(Program::CBlockers, &["mutex=20", "read=5"]) else {
        return;
    };
    // One that cannot be judged.
    let Some(stopped) = start(Program::CBlockers, &["mutex=1"]) else {
        return;
    };
    stopped.signal(libc::SIGSTOP).unwrap();
    // One that will keep some of its tasks' handles, and no more than these.
    let Some(keeper) = keeper() else {
        return;
    };
    let folder = Folder::new("end-to-end");
    let pids = [demo.pid(), healthy.pid(), stopped.pid(), keeper.pid()];
    let pids = pids.map(|pid| pid.to_string()).join(",");
    let monitor = Taskleak::run(&[["--pid", &pids].as_slice(), &QUICK].concat());
    let alertmanager = alertmanager(&folder);
    let prometheus = prometheus(&folder, &monitor.address, &alertmanager.address);

    let first = until(
        "an alert at Alertmanager",
        || alerts(&alertmanager).into_iter().next(),
        || format!("{:#?}", prometheus.query("taskleak_verdict")),
    );
    // By now it is watched who ends.
    keeper.ask("short 3").unwrap();
    let labels = &first["labels"];
    let pid = demo.pid().to_string();
    for (label, value) in [
        ("alertname", "TaskleakGrowth"),
        ("severity", "warning"),
        ("pid", &pid),
        ("comm", "demo"),
        ("kind", "thread"),
        ("reason", "futex"),
        ("wait_class", "internal"),
        ("block_site", "wait_for_reply"),
        ("entry", "handle_request"),
        ("basis", "blocked"),
    ] {
        assert_eq!(labels[label], value, "{first:#}");
    }
    assert_eq!(first["status"]["state"], "active", "{first:#}");
    let description = first["annotations"]["description"].as_str().unwrap();
    for part in [
        &format!("Process demo, pid {pid}, workload "),
        " threads wait in futex (internal) at wait_for_reply, running handle_request, ",
        " more an hour.",
    ] {
        assert!(description.contains(part), "{description}");
    }

    // Everything else is judged, and judged to be well, while growing becomes leaking.
    let verdicts = |selector: &str| -> BTreeSet<String> {
        let found = prometheus.query(&format!("taskleak_verdict{{basis=\"blocked\", {selector}}}"));
        let verdicts = found
            .iter()
            .map(|(labels, _)| labels["verdict"].as_str().unwrap().to_owned());
        verdicts.collect()
    };
    let of_healthy = format!("pid=\"{}\"", healthy.pid());
    until(
        "leaking, and the pools stable",
        || {
            for target in [&demo, &healthy] {
                let lives = target.threads().is_ok_and(|threads| threads.len() > 1);
                assert!(lives, "somebody has ended {}", target.pid());
            }
            let leaks = verdicts("block_site=\"wait_for_reply\"") == ["leaking".to_owned()].into();
            let is_stable = |selector| verdicts(selector) == ["stable".to_owned()].into();
            (leaks && is_stable("block_site=\"next_job\"") && is_stable(&of_healthy)).then_some(())
        },
        || format!("{:#?}", prometheus.query("taskleak_verdict")),
    );
    let ever = prometheus
        .query("count by (alertname, pid, block_site) (max_over_time(ALERTS{alertstate=\"firing\"}[10m]))");
    let ever: Vec<&Value> = ever.iter().map(|(labels, _)| labels).collect();
    let leak = serde_json::json!({"alertname": "TaskleakGrowth", "pid": pid, "block_site": "wait_for_reply"});
    assert_eq!(ever, [&leak], "nothing else has ever fired");
    let now = alerts(&alertmanager);
    assert_eq!(now.len(), 1, "{now:#?}");
    assert_eq!(now[0]["startsAt"], first["startsAt"], "one leak is one alert");

    // The recording rules may be evaluated a moment later than the alerts.
    let growing = |site: &str| {
        let query = format!("site:taskleak_replicas_growing:count{{block_site=\"{site}\"}}");
        prometheus.query(&query).first().map(|(_, value)| *value)
    };
    until(
        "the leak grows in one replica, the pool in none",
        || ((growing("wait_for_reply"), growing("next_job")) == (Some(1.0), Some(0.0))).then_some(()),
        || format!("{:#?}", prometheus.query("site:taskleak_replicas_growing:count")),
    );

    let kept = format!("sum(taskleak_kept_tasks{{pid=\"{}\"}})", keeper.pid());
    until(
        "three tasks that have ended are kept",
        || (prometheus.query(&kept).first()?.1 == 3.0).then_some(()),
        || format!("{:#?}", prometheus.query("taskleak_kept_tasks")),
    );
    dashboard::has_data(&prometheus, &monitor.address);
    judges_the_same(&prometheus);
}

/// What Prometheus has recorded, judged again.
fn judges_the_same(prometheus: &Server) {
    let address = prometheus.url("");
    let judge = |format: &str| {
        let output = taskleak(&[
            "judge",
            "--prometheus",
            &address,
            "--query",
            "taskleak_blocked_tasks",
            "--since",
            "5m",
            "--step",
            "1s",
            "--window",
            "40s",
            "--long-window",
            "80s",
            "--format",
            format,
        ]);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let was_growing = |series: &Value| {
        let changes = series["changes"].as_array().unwrap().iter();
        changes.filter(|change| change["verdict"] == "growing").count() > 0
    };
    // By counts alone it may take longer than by members.
    let judged = until(
        "growing by its recorded series",
        || {
            let judged: Vec<Value> = serde_json::from_str(&judge("json")).unwrap();
            judged.iter().any(was_growing).then_some(judged)
        },
        || judge("text"),
    );
    let names = |growing: bool| -> Vec<&str> {
        let chosen = judged.iter().filter(|series| was_growing(series) == growing);
        chosen.map(|series| series["series"].as_str().unwrap()).collect()
    };
    let growing = names(true);
    assert_eq!(growing.len(), 1, "{growing:?}");
    assert!(
        growing[0].contains("block_site=\"wait_for_reply\""),
        "{growing:?}"
    );
    assert!(
        names(false)
            .iter()
            .any(|name| name.contains("block_site=\"next_job\"")),
        "{judged:#?}"
    );
    assert!(judge("text").contains("growing: "));
}
