//! The metrics as Prometheus sees them.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use testbed::Program;

use crate::support::{Daemon, counts, skip, start};

fn is_installed(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok()
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    if !is_installed("promtool") {
        return skip(
            "monitoring::promtool",
            "promtool is not installed (Debian: prometheus)",
        );
    }
    let target = start("promtool", Program::CBlockers, &["mutex=2", "read=1"]).unwrap();
    let pid = target.pid();
    let daemon = Daemon::start(&[
        "--pid",
        &pid.to_string(),
        "--interval",
        "200ms",
        "--blocked-after",
        "500ms",
        "--bpf-stats",
    ]);
    daemon.until_counts(pid, &counts(&[("futex", "internal", 2), ("read", "external", 1)]));
    let (_, _, metrics) = daemon.get("/metrics");
    assert!(
        metrics.contains("taskleak_bpf_program_runs_total{program=\"sweep\"}"),
        "{metrics}"
    );
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(metrics.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

/// A scrape, then PromQL: the number that the testbed leaked.
#[test]
fn a_real_prometheus_returns_the_leaked_number() {
    if !is_installed("prometheus") {
        return skip("monitoring::prometheus", "prometheus is not installed");
    }
    let target = start(
        "prometheus",
        Program::CBlockers,
        &["mutex=7", "poll=2", "timed_cond=3"],
    )
    .unwrap();
    let pid = target.pid();
    let daemon = Daemon::watch(pid, "200ms", "500ms");
    daemon.until_counts(pid, &counts(&[("futex", "internal", 7), ("poll", "external", 2)]));
    let threads = target.threads().unwrap().len() as f64;
    let prometheus = Prometheus::start(&daemon.address.to_string());
    let query = |query: &str| prometheus.until(query, |value| value.is_some());
    assert_eq!(
        query(&format!(
            "sum(taskleak_blocked_tasks{{pid=\"{pid}\", wait_class=\"internal\"}})"
        )),
        Some(7.0)
    );
    assert_eq!(
        query("sum by (reason) (taskleak_blocked_tasks{reason=\"poll\"})"),
        Some(2.0)
    );
    assert_eq!(
        query(&format!("taskleak_tasks{{kind=\"thread\", pid=\"{pid}\"}}")),
        Some(threads)
    );
    assert_eq!(query("min(taskleak_process_complete)"), Some(1.0));
    drop(target);
    let gone = prometheus.until("taskleak_blocked_tasks", |value| value.is_none());
    assert_eq!(gone, None, "the series vanish with the process");
}

/// Debian's Prometheus on a free port, with a folder of its own.
struct Prometheus {
    child: std::process::Child,
    folder: std::path::PathBuf,
    address: String,
}

impl Prometheus {
    fn start(target: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("taskleak-prometheus-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let config = format!(
            "global: {{scrape_interval: 500ms}}\nscrape_configs:\n- job_name: taskleak\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        fs::write(folder.join("prometheus.yml"), config).unwrap();
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let child = Command::new("prometheus")
            .arg(format!(
                "--config.file={}",
                folder.join("prometheus.yml").display()
            ))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            folder,
            address,
        }
    }

    /// Asks until the answer satisfies the condition, or for too long.
    fn until(&self, query: &str, condition: impl Fn(Option<f64>) -> bool) -> Option<f64> {
        let mut last = None;
        for _ in 0..200 {
            last = self.query(query);
            if condition(last) {
                break;
            }
            thread::sleep(Duration::from_millis(150));
        }
        last
    }

    fn query(&self, query: &str) -> Option<f64> {
        let output = Command::new("promtool")
            .args([
                "query",
                "instant",
                "--format=json",
                &format!("http://{}", self.address),
                query,
            ])
            .output()
            .ok()?;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        answer[0]["value"][1].as_str()?.parse().ok()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}
