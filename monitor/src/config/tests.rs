//! Flags, environment and file together.

use super::{file::known_keys, *};

type All = (Watch, RunOptions, JudgeOptions);

fn merged(text: &str, watch: Watch, run: RunOptions) -> Result<All, String> {
    let path = std::env::temp_dir().join(format!(
        "taskleak-config-{}-{}",
        std::process::id(),
        fastrand::u64(..)
    ));
    std::fs::write(&path, text).unwrap();
    let (mut watch, mut run, mut judging) = (watch, run, JudgeOptions::default());
    let merged = merge_file(&path, &mut watch, &mut run, &mut judging).map_err(|error| error.to_string());
    std::fs::remove_file(path).unwrap();
    merged.map(|()| (watch, run, judging))
}

#[test]
fn a_flag_wins_over_the_file() {
    let flags = Watch {
        blocked_after: Some(Span(Duration::from_secs(5))),
        ..Watch::default()
    };
    let text = "blocked-after = \"9s\"\ncomm = [\"api\"]\ninterval = \"2s\"\nlisten = \"127.0.0.1:1\"\n";
    let (watch, run, judging) = merged(text, flags, RunOptions::default()).unwrap();
    assert_eq!(watch.blocked_after, Some(Span(Duration::from_secs(5))));
    assert_eq!(watch.comm, ["api"]);
    let config = run.check(&watch, &judging).unwrap();
    assert_eq!(config.interval, Duration::from_secs(2));
    assert_eq!(config.listen.port(), 1);
}

#[test]
fn wrong_files_are_named_with_the_offending_text() {
    let fails = |text| merged(text, Watch::default(), RunOptions::default()).unwrap_err();
    assert!(fails("intervall = \"2s\"").contains("unknown key `intervall`"));
    assert!(fails("interval = \"soon\"").contains("`soon` is not a duration"));
    assert!(fails("pid = \"x\"").contains("pid = \"x\""));
    assert!(fails("pid = [").contains("pid = ["));
    assert!(fails("listen = \"nowhere\"").contains("nowhere"));
}

#[test]
fn contradictions_are_named() {
    let none = JudgeOptions::default();
    let fails = |watch: Watch| {
        let checked = RunOptions::default().check(&watch, &none);
        checked.unwrap_err().to_string()
    };
    let all_and_pid = Watch {
        all: Some(true),
        pid: vec![1],
        ..Watch::default()
    };
    assert!(fails(all_and_pid).contains("--all watches every process"));
    let zero = Watch {
        blocked_after: Some(Span(Duration::ZERO)),
        ..Watch::default()
    };
    assert!(fails(zero).contains("blocked-after must be longer than 0"));
    let many = Watch {
        max_groups: Some(0),
        ..Watch::default()
    };
    assert!(fails(many).contains("max-groups is 0, but must be from 1 to 10000"));
}

#[test]
fn windows_that_cannot_be_judged_in_are_named() {
    let fails = |judging: JudgeOptions| {
        let checked = RunOptions::default().check(&Watch::default(), &judging);
        checked.unwrap_err().to_string()
    };
    let span = |seconds| Some(Span(Duration::from_secs(seconds)));
    let short = JudgeOptions {
        window: span(60),
        ..JudgeOptions::default()
    };
    assert!(fails(short).contains("window is 60s, but must hold at least 12 intervals of 10s"));
    let crossed = JudgeOptions {
        window: span(7200),
        long_window: span(3600),
        ..JudgeOptions::default()
    };
    assert!(fails(crossed).contains("long-window is 3600s, shorter than the window of 7200s"));
    let none = JudgeOptions {
        min_growth: Some(0),
        ..JudgeOptions::default()
    };
    assert!(fails(none).contains("min-growth must be at least 1"));
}

#[test]
fn every_key_of_a_file_is_taken() {
    let text = "all = false\npid = [1]\ncomm = [\"a\"]\nexe = [\"b\"]\ncgroup = [\"c\"]\nexclude = [\"d\"]\n\
                blocked-after = \"1s\"\nno-futex-probes = true\nmax-groups = 2\nmax-ids = 3\nmax-threads = 4\n\
                bpf-log = \"warn\"\nno-stacks = true\nno-spawn-probes = true\nprobe-budget = \"2%\"\ndebug-dir = [\"/d\"]\nlisten = \"127.0.0.1:1\"\ntoken-file = \"/t\"\nallow-host = [\"n\"]\ninterval = \"1s\"\nbpf-stats = true\nexpose-stacks = true\n\
                state-file = \"/s\"\nsocket = \"/u\"\npod-logs = \"/l\"\npod = \"p\"\npod-namespace = \"ns\"\nwindow = \"20m\"\nlong-window = \"3h\"\nmin-growth = 7\n";
    let (watch, run, judging) = merged(text, Watch::default(), RunOptions::default()).unwrap();
    assert_eq!(known_keys().len(), text.lines().count(), "{:?}", known_keys());
    let config = run.check(&watch, &judging).unwrap();
    let judging = config.monitor.judging;
    assert_eq!(
        (judging.window, judging.long_window, judging.min_growth),
        (1200.0, 10_800.0, 7.0)
    );
    assert_eq!(config.state_file, Some(PathBuf::from("/s")));
    assert_eq!(config.socket, Some(PathBuf::from("/u")));
    assert!(!config.monitor.futex_probes && config.monitor.bpf_stats);
    assert_eq!(
        (
            config.monitor.max_groups,
            config.monitor.max_ids,
            config.monitor.max_threads
        ),
        (2, 3, 4)
    );
    assert_eq!(config.monitor.bpf_log, log::LevelFilter::Warn);
    assert_eq!(config.allowed_hosts, ["n"]);
    assert_eq!(config.detail, Detail::Stacks);
    assert!(config.monitor.stacks.is_none() && config.monitor.spawn_budget.is_none());
    assert_eq!(watch.probe_budget, Some(Percent(0.02)));
    assert_eq!(watch.debug_dir, [PathBuf::from("/d")]);
    let pods = &config.monitor.pods;
    let own = pods.own.as_ref().unwrap();
    assert_eq!(
        (pods.logs.to_str(), own.name.as_str(), own.namespace.as_str()),
        (Some("/l"), "p", "ns")
    );
    let selector = &config.monitor.selector;
    assert_eq!(
        (
            selector.pids.len(),
            selector.comms.len(),
            selector.exes.len(),
            selector.cgroups.len(),
            selector.excludes.len()
        ),
        (1, 1, 1, 1, 1)
    );
}
