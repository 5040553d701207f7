//! Births counted by what the thread runs and where it was made, for every language and C library.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use testbed::Program;

use crate::support::{Daemon, PATIENCE, Script, start};

/// (entry, spawn site) → threads spawned and exited.
type Totals = BTreeMap<(String, String), (u64, u64)>;

fn totals_of(text: &str, pid: u32) -> Totals {
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(",{name}=\"")).unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let pid = format!("pid=\"{pid}\"");
    let mut totals = Totals::new();
    for line in text.lines().filter(|line| line.contains(&pid)) {
        let count = || line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64;
        let key = || (label(line, "entry"), label(line, "spawn_site"));
        if line.starts_with("taskleak_tasks_spawned_total{") {
            totals.entry(key()).or_default().0 += count();
        } else if line.starts_with("taskleak_tasks_exited_total{") {
            totals.entry(key()).or_default().1 += count();
        }
    }
    totals
}

/// Waits until the probe is there, lets the program make its threads, and compares what was seen of that.
fn check(pid: u32, expected: &[(&str, &str, u64, u64)]) {
    let daemon = Daemon::watch(pid, "200ms", "500ms");
    let metrics = || daemon.get("/metrics").2;
    let until = |what: &str, condition: &dyn Fn(&str) -> bool| {
        let begun = Instant::now();
        while !condition(&metrics()) {
            assert!(
                begun.elapsed() < PATIENCE,
                "not {what}: {:#?}",
                totals_of(&metrics(), pid)
            );
            thread::sleep(Duration::from_millis(50));
        }
    };
    until("active", &|metrics| {
        metrics
            .lines()
            .any(|line| line.starts_with("taskleak_spawn_probes_active{") && line.ends_with(" 1"))
    });
    // SAFETY: plain numbers; the process is a child of this one that was not reaped.
    unsafe { libc::kill(pid as i32, libc::SIGUSR1) };
    let expected: Totals = expected
        .iter()
        .map(|(entry, site, spawned, exited)| {
            (((*entry).to_owned(), (*site).to_owned()), (*spawned, *exited))
        })
        .collect();
    until(&format!("{expected:#?}"), &|metrics| {
        totals_of(metrics, pid) == expected
    });
    // The live ones have the same entries, by whatever they are known.
    let live: BTreeMap<&str, u64> =
        expected
            .iter()
            .fold(BTreeMap::new(), |mut live, ((entry, _), (spawned, exited))| {
                *live.entry(entry.as_str()).or_default() += spawned - exited;
                live
            });
    let seen = |metrics: &str, entry: &str| -> u64 {
        let lines = metrics
            .lines()
            .filter(|line| line.starts_with("taskleak_live_tasks{"));
        let meant = lines.filter(|line| line.contains(&format!("entry=\"{entry}\"")));
        meant
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    };
    for (entry, count) in live.into_iter().filter(|(_, count)| *count > 0) {
        until(&format!("{count} live {entry}"), &|metrics| {
            seen(metrics, entry) == count
        });
    }
    // And stay so: nothing is named anew when more is known.
    thread::sleep(Duration::from_secs(1));
    assert_eq!(totals_of(&metrics(), pid), expected);
}

const OF_C: [(&str, &str, u64, u64); 2] = [
    ("long_job", "spawn_long_job", 4, 0),
    ("short_job", "spawn_short_job", 3, 3),
];

fn check_program(program: Program, args: &[&str], expected: &[(&str, &str, u64, u64)]) {
    if let Some(target) = start(&format!("spawn_sites::{program:?}"), program, args) {
        check(target.pid(), expected);
    }
}

#[test]
fn of_c() {
    check_program(Program::Spawner, &["--on-signal", "50"], &OF_C);
}

#[test]
fn of_a_static_program() {
    check_program(Program::SpawnerStatic, &["--on-signal", "50"], &OF_C);
}

#[test]
fn of_a_static_program_of_musl() {
    check_program(Program::SpawnerMusl, &["--on-signal", "50"], &OF_C);
}

#[test]
fn of_cpp() {
    check_program(
        Program::CppSpawner,
        &[],
        &[
            ("Server::serve", "spawn_by_member", 4, 0),
            ("Worker::operator()", "spawn_by_object", 5, 0),
            ("run_job", "spawn_by_function", 2, 0),
            (
                "spawn_by_lambda()::{lambda()#1}::operator()",
                "spawn_by_lambda",
                3,
                0,
            ),
            ("spawn_short()::{lambda()#1}::operator()", "spawn_short", 6, 6),
        ],
    );
}

#[test]
fn of_rust() {
    check_program(
        Program::RustSpawner,
        &[],
        &[
            ("rust_spawner::run_job", "rust_spawner::spawn_by_function", 2, 0),
            (
                "rust_spawner::spawn_by_name::{{closure}}",
                "rust_spawner::spawn_by_name",
                3,
                0,
            ),
            (
                "rust_spawner::spawn_by_closure::{{closure}}",
                "rust_spawner::spawn_by_closure",
                4,
                0,
            ),
            (
                "rust_spawner::spawn_short::{{closure}}",
                "rust_spawner::spawn_short",
                6,
                6,
            ),
        ],
    );
}

/// As in a container: its C library is another file than ours, at the same path.
#[test]
fn of_a_mount_namespace_with_its_own_libc() {
    const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";
    let test = "spawn_sites::of_a_mount_namespace_with_its_own_libc";
    let Ok(program) = Program::Spawner.build() else {
        start(test, Program::Spawner, &[]);
        return;
    };
    if !Path::new(LIBC).exists() {
        return crate::support::skip(test, "the C library is elsewhere");
    }
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("libc-{}", std::process::id()));
    fs::copy(LIBC, &copy).unwrap();
    let exe = program.get_program().to_str().unwrap();
    let mut command = Command::new("unshare");
    let script = format!(
        "mount --make-rprivate / && mount --bind '{}' {LIBC} && exec '{exe}' --on-signal 50",
        copy.display()
    );
    command.args(["--mount", "sh", "-c", &script]);
    let script = Script::start(command);
    fs::remove_file(&copy).unwrap();
    check(script.pid(), &OF_C);
}
