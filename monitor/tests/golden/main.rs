//! What is rendered of a fixed snapshot, byte for byte: metrics, text and JSON.
//!
//! The files beside this one are the expectation. A change of them is a change of what users have built on:
//! `UPDATE_GOLDEN=1 cargo test -p taskleak --test golden` writes them anew, to be read before they are committed.

mod help;

use std::{
    collections::BTreeSet,
    fs,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use taskleak::{
    export::{html, json, prometheus, text},
    model::{
        Basis, Cause, Group, GroupKey, Growth, Health, Kind, LiveTasks, MapHealth, ProbeHealth, Process,
        ProcessId, ProcessReport, ProgramHealth, Site, Snapshot, Usual, Verdict, WaitClass,
    },
};

fn group(reason: &'static str, class: WaitClass, ids: &[u64], ages: (u64, u64), named: bool) -> Group {
    Group {
        key: GroupKey {
            kind: Kind::Thread,
            reason: reason.into(),
            class,
            block_site: None,
            entry: None,
            spawn_site: None,
        },
        count: ids.len(),
        youngest: Duration::from_millis(ages.0),
        oldest: Duration::from_millis(ages.1),
        ids: ids.to_vec(),
        ids_truncated: false,
        verdict: Verdict::Unknown,
        basis: Basis::Blocked,
        recent: Vec::new(),
        growth: None,
        returned: 0,
        usual: None,
        named,
        stack: None,
        spawn_sites: Vec::new(),
        waits_for: Vec::new(),
    }
}

fn site(function: &str, file: &str, line: u32) -> Arc<Site> {
    Arc::new(Site {
        function: function.to_owned(),
        file: Some(file.to_owned()),
        line: Some(line),
    })
}

fn process(pid: u32, comm: &str, exe: &str) -> Arc<Process> {
    Arc::new(Process {
        id: ProcessId {
            pid,
            start_boottime: 1,
            exec_id: 1,
        },
        comm: comm.to_owned(),
        exe: exe.to_owned(),
        workload: "api.service".to_owned(),
        container_id: None,
        pod: None,
    })
}

/// A process with everything, one whose name wants to break out, and one that is stopped.
fn snapshot() -> Snapshot {
    use WaitClass::{External, Internal};
    let report = |process, threads: usize, groups, incomplete: &[Cause]| ProcessReport {
        process,
        threshold: Duration::from_secs(60),
        tasks: vec![(Kind::Thread, threads)],
        live: vec![LiveTasks {
            kind: Kind::Thread,
            entry: None,
            is_kept: false,
            count: threads,
            spawn_sites: Vec::new(),
            named: true,
            verdict: Verdict::Stable,
            growth: None,
        }],
        groups,
        incomplete: incomplete.iter().copied().collect::<BTreeSet<_>>(),
        futex_waits: Some(12_345),
        deadlocks: Vec::new(),
        spawns: Vec::new(),
        runtimes: Vec::new(),
        go_version: None,
    };
    let api = vec![
        group("futex", Internal, &[8, 9, 10], (61_000, 512_400), true),
        group("epoll_wait", External, &[11], (90_000_000, 90_000_000), true),
        group("flock", Internal, &[12], (60_000, 60_000), false),
        group("syscall_499", Internal, &[13], (60_000, 70_000), false),
        group("read", External, &[], (0, 0), true),
    ];
    let api = {
        let mut groups = api;
        groups[0].verdict = Verdict::Leaking;
        groups[0].recent = vec![1.0, 1.0, 2.0, 3.0];
        groups[0].spawn_sites = vec![
            (site("accept_request", "/src/api/http.c", 88), 2),
            (site("retry", "/src/api/retry.c", 7), 1),
        ];
        groups[0].returned = 212;
        groups[0].growth = Some(Growth {
            from: 1.0,
            to: 3.0,
            over_seconds: 1770.0,
            p: 0.000_25,
            per_hour: 4.25,
        });
        groups[0].usual = Some(Usual {
            share: 0.99,
            within_seconds: 125.0,
            beyond: 2,
            survive: 0.01,
        });
        groups[1].verdict = Verdict::Stable;
        groups
    };
    let odd = vec![group("futex", Internal, &[31], (60_500, 60_500), true)];
    Snapshot {
        taken_at: UNIX_EPOCH + Duration::from_millis(1_795_000_000_250),
        observed: Duration::from_millis(3_020),
        processes: vec![
            {
                let mut report = report(process(7, "api", "/app/api"), 20, api, &[]);
                report.live.push(LiveTasks {
                    kind: Kind::Tokio,
                    entry: Some(site("api::fetch", "/src/api/fetch.rs", 12)),
                    is_kept: true,
                    count: 41,
                    spawn_sites: vec![(site("api::refresh", "/src/api/main.rs", 70), 38)],
                    named: true,
                    verdict: Verdict::Leaking,
                    growth: Some(Growth {
                        from: 12.0,
                        to: 41.0,
                        over_seconds: 1770.0,
                        p: 0.000_3,
                        per_hour: 60.2,
                    }),
                });
                report
            },
            report(
                process(30, "a\"b\\c\n<script>\u{1b}[2J", ""),
                2,
                odd,
                &[Cause::Timeout],
            ),
            {
                // A thread of Go's scheduler is no news.
                let mut parked = group("futex", Internal, &[41], (60_000, 60_000), true);
                parked.key.block_site = Some(site("runtime.futex", "/go/src/runtime/sys_linux_amd64.s", 557));
                let idle = process(40, "idle", "/usr/bin/idle");
                ProcessReport {
                    runtimes: vec!["go"],
                    go_version: Some("go1.27.3".to_owned()),
                    ..report(idle, 1, vec![parked], &[Cause::Stopped])
                }
            },
        ],
        health: Health {
            sweep_duration: Duration::from_micros(2_500),
            swept_at: Duration::from_millis(1_795_000_000_250),
            probes: vec![
                ProbeHealth {
                    probe: "sweep",
                    attached: true,
                },
                ProbeHealth {
                    probe: "sys_enter_futex_wait",
                    attached: false,
                },
            ],
            maps: vec![MapHealth {
                map: "WAITS",
                entries: 12,
                capacity: 65_536,
            }],
            lost: vec![("futex_waits_full", 3), ("processes_full", 0)],
            programs: vec![ProgramHealth {
                program: "sweep".to_owned(),
                runs: 1_000,
                run_time: Duration::from_micros(1_200),
            }],
        },
    }
}

fn check(file: &str, rendered: &str) {
    let path = format!("{}/tests/golden/{file}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, rendered).unwrap();
    }
    assert_eq!(rendered, fs::read_to_string(&path).unwrap(), "{file}");
}

#[test]
fn metrics() {
    check("metrics.txt", &prometheus::render(&snapshot()).unwrap());
}

#[test]
fn json() {
    check(
        "snapshot.json",
        &(json::render_pretty(&snapshot(), json::Detail::Stacks).unwrap() + "\n"),
    );
}

#[test]
fn text_of_what_waits_for_itself() {
    check("snapshot.txt", &text::render(&snapshot(), text::Style::default()));
}

#[test]
fn columns_of_the_text_are_apart_whatever_is_in_them() {
    let mut snapshot = snapshot();
    let group = &mut snapshot.processes[0].groups[0];
    group.key.kind = Kind::Goroutine;
    for reason in [
        "chan receive (nil chan)",
        "a reason that nobody has thought of yet",
    ] {
        snapshot.processes[0].groups[0].key.reason = reason.into();
        let text = text::render(&snapshot, text::Style::default());
        let line = text.lines().find(|line| line.contains("goroutine")).unwrap();
        assert!(
            line.contains(&format!("  goroutine  {reason} internal ")),
            "{line}"
        );
    }
}

#[test]
fn text_of_everything() {
    check(
        "snapshot-all.txt",
        &text::render(
            &snapshot(),
            text::Style {
                all_groups: true,
                stacks: true,
            },
        ),
    );
}

#[test]
fn page() {
    check("page.html", &html::render(&snapshot(), json::Detail::Stacks));
}
