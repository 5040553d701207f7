//! Every scenario of every program: how many threads there are of it, and in which call they wait.

use std::collections::HashMap;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use testbed::{Expect, Program, Scenario, Target, Thread, or_skip};

use crate::syscalls::{is_untimed, name};

/// How long threads may take from `ready` into their calls.
const PATIENCE: Duration = Duration::from_secs(10);
/// What has settled must still be so after this.
const CALM: Duration = Duration::from_millis(300);

/// What the kernel, or who may use it, can refuse.
const OPTIONAL: [&str; 5] = [
    "futex_waitv",
    "futex_wait2",
    "userfault",
    "io_uring",
    "mq_receive",
];

/// Threads that a scenario has asked for.
struct Asked {
    scenario: Scenario,
    count: usize,
}

/// Different counts, so that no scenario's threads pass for another's.
fn ask(scenarios: impl IntoIterator<Item = Scenario>) -> Vec<Asked> {
    let count = |index: usize| 1 + index % 3;
    scenarios
        .into_iter()
        .enumerate()
        .map(|(i, scenario)| Asked {
            scenario,
            count: count(i),
        })
        .collect()
}

fn start(program: Program, asked: &[Asked]) -> Result<Target> {
    let args: Vec<_> = asked
        .iter()
        .map(|asked| format!("{}={}", asked.scenario.name, asked.count))
        .collect();
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    Target::start(program, &args)
}

/// One scenario's threads, looked at once.
fn check(asked: &Asked, threads: &[&Thread], is_32_bit: bool) -> Result<()> {
    let Asked { scenario, count } = asked;
    ensure!(
        threads.len() == count * scenario.threads_each,
        "{} threads for {count}",
        threads.len()
    );
    let Expect::Blocked { reason, .. } = scenario.expect else {
        // These run at times, and some wait without a timeout: but never for long.
        if matches!(scenario.name, "ping_pong" | "burner" | "lock_traffic") {
            return Ok(());
        }
        for thread in threads {
            let Some(call) = &thread.syscall else {
                bail!("{thread:?} runs")
            };
            ensure!(!is_untimed(call, is_32_bit), "no timeout: {thread:?}");
        }
        return Ok(());
    };
    let mut timed = 0;
    for thread in threads {
        let Some(call) = &thread.syscall else {
            bail!("{thread:?} runs")
        };
        let called = name(call, is_32_bit);
        ensure!(called == reason, "{called} instead of {reason}: {thread:?}");
        ensure!(matches!(thread.state, 'S' | 'D'), "not asleep: {thread:?}");
        timed += usize::from(!is_untimed(call, is_32_bit));
    }
    let expected = if scenario.long_timeout {
        threads.len()
    } else {
        scenario.renewed
    };
    ensure!(
        timed == expected,
        "{timed} of {} have a timeout: {threads:?}",
        threads.len()
    );
    Ok(())
}

/// All scenarios' threads, looked at once. Beside them only helpers and the main thread, and none of those
/// waits without a timeout.
fn check_all(target: &Target, program: Program, asked: &[Asked]) -> Result<()> {
    let is_32_bit = program == Program::CBlockers32;
    let threads = target.threads()?;
    let mut by_name: HashMap<_, Vec<_>> = HashMap::new();
    for thread in &threads {
        by_name.entry(thread.comm.as_str()).or_default().push(thread);
    }
    for asked in asked {
        let own = by_name.remove(asked.scenario.comm()).unwrap_or_default();
        check(asked, &own, is_32_bit).map_err(|error| error.context(asked.scenario.name))?;
    }
    if program == Program::JavaBlockers {
        return check_jvm(by_name.into_values().flatten());
    }
    for thread in by_name.into_values().flatten() {
        let Some(call) = &thread.syscall else {
            bail!("{thread:?} runs")
        };
        ensure!(
            !is_untimed(call, is_32_bit),
            "not asked for, and no timeout: {thread:?}"
        );
    }
    Ok(())
}

/// The JVM's own waits are no more and no less than those of a JVM with nothing leaked.
fn check_jvm<'a>(threads: impl Iterator<Item = &'a Thread>) -> Result<()> {
    static IDLE: LazyLock<Result<Vec<String>>> = LazyLock::new(|| {
        let idle = Target::start(Program::JavaBlockers, &["sleep=1"])?;
        thread::sleep(Duration::from_secs(1));
        Ok(untimed_names(idle.threads()?.iter()))
    });
    let Ok(idle) = &*IDLE else {
        bail!("no JVM to compare with: {:?}", *IDLE)
    };
    let waiting = untimed_names(threads);
    ensure!(
        waiting == *idle,
        "untimed waits of the JVM's own: {waiting:?}, with nothing leaked: {idle:?}"
    );
    Ok(())
}

fn untimed_names<'a>(threads: impl Iterator<Item = &'a Thread>) -> Vec<String> {
    let is_untimed = |thread: &&Thread| {
        thread
            .syscall
            .as_ref()
            .is_some_and(|call| is_untimed(call, false))
    };
    let mut names: Vec<_> = threads
        .filter(is_untimed)
        .map(|thread| thread.comm.clone())
        .collect();
    names.sort_unstable();
    names
}

/// Waits until all is as it should be, and sees that it stays so.
fn settle(target: &Target, program: Program, asked: &[Asked]) -> Result<()> {
    patiently(|| check_all(target, program, asked))?;
    thread::sleep(CALM);
    // Patiently again: those that signals interrupt, and their helpers, may just be running.
    patiently(|| check_all(target, program, asked))
}

fn patiently(check: impl Fn() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = check() {
        ensure!(Instant::now() < deadline, error);
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn all_scenarios(test: &str, program: Program) -> Result<()> {
    let (optional, sure): (Vec<_>, Vec<_>) = program
        .scenarios()
        .into_iter()
        .partition(|scenario| OPTIONAL.contains(&scenario.name));
    let asked = ask(sure);
    let Some(target) = or_skip(test, start(program, &asked))? else {
        return Ok(());
    };
    settle(&target, program, &asked)?;
    drop(target);
    for scenario in optional {
        let asked = ask([scenario]);
        let Some(target) = or_skip(&format!("{test} {}", scenario.name), start(program, &asked))? else {
            continue;
        };
        settle(&target, program, &asked)?;
    }
    Ok(())
}

#[test]
fn c() -> Result<()> {
    all_scenarios("c", Program::CBlockers)
}

#[test]
fn c_of_32_bits() -> Result<()> {
    all_scenarios("c_of_32_bits", Program::CBlockers32)
}

#[test]
fn cpp() -> Result<()> {
    all_scenarios("cpp", Program::CppBlockers)
}

#[test]
fn rust() -> Result<()> {
    all_scenarios("rust", Program::RustBlockers)
}

#[test]
fn python() -> Result<()> {
    all_scenarios("python", Program::PythonBlockers)
}

#[test]
fn java() -> Result<()> {
    all_scenarios("java", Program::JavaBlockers)
}

/// Page faults, vfork and futexes wait in the ways that taskleak tells apart by state and operation.
#[test]
fn particular_states_and_operations() -> Result<()> {
    let program = Program::CBlockers;
    let args = [
        "mutex=1",
        "cond=1",
        "join=1",
        "pi_mutex=1",
        "robust_mutex=1",
        "vfork=1",
    ];
    let Some(target) = or_skip("particular_states_and_operations", Target::start(program, &args))? else {
        return Ok(());
    };
    let asked: Vec<_> = program
        .scenarios()
        .into_iter()
        .filter(|scenario| args.contains(&format!("{}=1", scenario.name).as_str()))
        .map(|scenario| Asked { scenario, count: 1 })
        .collect();
    settle(&target, program, &asked)?;
    let threads = target.threads()?;
    let thread = |comm: &str| threads.iter().find(|thread| thread.comm == comm).unwrap();
    let operation = |comm: &str| thread(comm).syscall.as_ref().unwrap().args[1];
    assert_eq!(operation("mutex"), 0x80);
    assert_eq!(operation("cond"), 0x189);
    assert_eq!(operation("pi_mutex"), 0x86);
    assert_eq!(operation("robust_mutex"), 0);
    assert_eq!(thread("vfork").state, 'D');
    // A join waits on the tid of a thread, which is a helper.
    let joined = thread("join").syscall.as_ref().unwrap().args[2];
    assert_eq!(operation("join"), 0x109);
    assert!(
        threads
            .iter()
            .any(|thread| u64::from(thread.tid) == joined && thread.comm == "helper")
    );
    Ok(())
}
