//! How programs start, end, and leave nothing behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testbed::{Program, Target, Thread, Unsupported, or_skip};

const PATIENCE: Duration = Duration::from_secs(10);

fn wait_until(what: &str, is_so: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so()? {
        ensure!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// Processes whose group this is, zombies left out.
fn group(leader: u32) -> Vec<u32> {
    let mut members = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let words: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        if words[2] == leader.to_string() && words[0] != "Z" {
            members.push(pid);
        }
    }
    members
}

fn start(test: &str, program: Program, args: &[&str]) -> Result<Option<Target>> {
    or_skip(test, Target::start(program, args))
}

fn count(target: &Target, comm: &str) -> Result<usize> {
    Ok(target
        .threads()?
        .iter()
        .filter(|thread| thread.comm == comm)
        .count())
}

#[test]
fn dropping_it_kills_all_that_it_started() -> Result<()> {
    let args = ["waitpid=2", "waitid=1", "vfork=2", "sleep=1"];
    let Some(target) = start("dropping_it_kills_all_that_it_started", Program::CBlockers, &args)? else {
        return Ok(());
    };
    let leader = target.pid();
    wait_until("all five children are there", || Ok(group(leader).len() == 6))?;
    drop(target);
    wait_until("all are gone", || Ok(group(leader).is_empty()))
}

#[test]
fn it_outlives_the_thread_that_started_it() -> Result<()> {
    let test = "it_outlives_the_thread_that_started_it";
    let started = thread::spawn(move || start(test, Program::CBlockers, &["waitpid=1"])).join();
    let Some(target) = started.unwrap()? else {
        return Ok(());
    };
    thread::sleep(Duration::from_millis(200));
    assert_eq!(count(&target, "waitpid")?, 1);
    assert_eq!(group(target.pid()).len(), 2);
    Ok(())
}

#[test]
fn churn_ends_on_sigusr2_and_nothing_else_does() -> Result<()> {
    let args = ["churn=5", "pause=2", "sigsuspend=2", "main_exits=1"];
    let Some(target) = start(
        "churn_ends_on_sigusr2_and_nothing_else_does",
        Program::CBlockers,
        &args,
    )?
    else {
        return Ok(());
    };
    assert_eq!(count(&target, "churn")?, 5);
    target.signal(libc::SIGUSR2)?;
    wait_until("churn is over", || Ok(count(&target, "churn")? == 0))?;
    assert_eq!((count(&target, "pause")?, count(&target, "sigsuspend")?), (2, 2));
    Ok(())
}

#[test]
fn the_main_thread_may_leave() -> Result<()> {
    let args = ["mutex=2", "waitpid=1", "main_exits=1"];
    let Some(target) = start("the_main_thread_may_leave", Program::CBlockers, &args)? else {
        return Ok(());
    };
    let main_state = || -> Result<_> {
        let threads = target.threads()?;
        let main = threads
            .iter()
            .find(|thread| thread.tid == target.pid())
            .context("no main thread")?;
        Ok(main.state)
    };
    wait_until("the main thread is a zombie", || Ok(main_state()? == 'Z'))?;
    assert_eq!((count(&target, "mutex")?, count(&target, "waitpid")?), (2, 1));
    Ok(())
}

#[test]
fn holders_may_read_instead_of_sleeping() -> Result<()> {
    let args = ["holders_read=1", "mutex=3", "lock_chain=2"];
    let Some(target) = start("holders_may_read_instead_of_sleeping", Program::CBlockers, &args)? else {
        return Ok(());
    };
    let reads = || -> Result<_> {
        let threads = target.threads()?;
        let in_read = |thread: &&Thread| thread.syscall.as_ref().is_some_and(|call| call.number == 0);
        Ok(threads
            .iter()
            .filter(in_read)
            .map(|thread| thread.comm.clone())
            .collect::<Vec<_>>())
    };
    wait_until("both helpers read", || Ok(reads()? == ["helper", "helper"]))?;
    assert_eq!((count(&target, "mutex")?, count(&target, "lock_chain")?), (3, 2));
    Ok(())
}

#[test]
fn waits_survive_a_stop() -> Result<()> {
    let args = [
        "epoll_wait=1",
        "semop=1",
        "msgrcv=1",
        "inotify_read=1",
        "sigwait=1",
        "accept=1",
        "poll=1",
    ];
    let Some(target) = start("waits_survive_a_stop", Program::CBlockers, &args)? else {
        return Ok(());
    };
    let all = target.threads()?.len();
    target.signal(libc::SIGSTOP)?;
    wait_until("it is stopped", || {
        Ok(target.threads()?.iter().all(|thread| thread.state == 'T'))
    })?;
    target.signal(libc::SIGCONT)?;
    wait_until("it sleeps again", || {
        Ok(target.threads()?.iter().all(|thread| thread.state == 'S'))
    })?;
    assert_eq!(target.threads()?.len(), all);
    Ok(())
}

#[test]
fn a_wrapped_program_is_found() -> Result<()> {
    let in_namespace = |program: Command| {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
        command.arg(program.get_program()).args(program.get_args());
        command
    };
    let target = Target::start_with(Program::CBlockers, &["mutex=2", "waitpid=2"], in_namespace);
    let target = match target {
        Err(error) if format!("{error:#}").contains("not permitted") => {
            or_skip::<()>(
                "a_wrapped_program_is_found",
                Err(Unsupported(format!("{error:#}")).into()),
            )?;
            return Ok(());
        }
        other => match or_skip("a_wrapped_program_is_found", other)? {
            Some(target) => target,
            None => return Ok(()),
        },
    };
    assert_eq!((count(&target, "mutex")?, count(&target, "waitpid")?), (2, 2));
    let pid = target.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let inside = status
        .lines()
        .find(|line| line.starts_with("NSpid:"))
        .context("no NSpid")?;
    assert!(inside.ends_with("\t1"), "{inside}");
    drop(target);
    wait_until("it is gone", || Ok(fs::metadata(format!("/proc/{pid}")).is_err()))
}

#[test]
fn errors_say_what_happened() -> Result<()> {
    let Some(_command) = or_skip("errors_say_what_happened", Program::CBlockers.build())? else {
        return Ok(());
    };
    let Err(refused) = Target::start(Program::CBlockers, &["mutex=none"]) else {
        bail!("it started")
    };
    let said = format!("{refused:#}");
    assert!(
        said.contains("exit status 2") && said.contains("`mutex=none`"),
        "{said}"
    );

    let fails_with_77 = |_| {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such call >&2; exit 77"]);
        command
    };
    let Err(error) = Target::start_with(Program::CBlockers, &[], fails_with_77) else {
        bail!("it started")
    };
    let unsupported = error.downcast_ref::<Unsupported>().context("not told apart")?;
    assert_eq!(unsupported.0, "no such call");
    Ok(())
}

#[test]
fn pingpong_counts_round_trips() -> Result<()> {
    for args in [&["1"][..], &["--pin", "1"]] {
        let Some(target) = start("pingpong_counts_round_trips", Program::PingPong, args)? else {
            return Ok(());
        };
        let said = target.wait_output()?;
        let trips: u64 = said
            .trim_end()
            .strip_prefix("round_trips ")
            .context(said.clone())?
            .parse()?;
        assert!(trips > 0);
    }
    Ok(())
}

#[test]
fn the_demo_leaks_a_thread_a_second() -> Result<()> {
    let Some(target) = start("the_demo_leaks_a_thread_a_second", Program::Demo, &[])? else {
        return Ok(());
    };
    wait_until("the pool is there", || Ok(count(&target, "pool-worker")? == 4))?;
    wait_until("it has leaked", || Ok(count(&target, "request-2")? == 1))?;
    assert_eq!(count(&target, "request-1")?, 1);
    Ok(())
}

#[test]
fn musl_locks_wait_by_futex() -> Result<()> {
    let Some(target) = start("musl_locks_wait_by_futex", Program::MuslLocks, &[])? else {
        return Ok(());
    };
    const FUTEX: i64 = 202;
    wait_until("all eight wait", || {
        let threads = target.threads()?;
        let waits = |thread: &&Thread| thread.syscall.as_ref().is_some_and(|call| call.number == FUTEX);
        Ok(threads.iter().filter(waits).count() == 8)
    })?;
    for (name, expected) in [
        ("plain", 1),
        ("rwlock", 1),
        ("join", 1),
        ("ring", 2),
        ("helper", 1),
    ] {
        assert_eq!(count(&target, name)?, expected, "{name}");
    }
    Ok(())
}

/// What a test runner that is killed leaves behind: nothing. This very test plays the runner, in a second
/// process.
#[test]
fn targets_die_with_the_process_that_started_them() -> Result<()> {
    const ROLE: &str = "TESTBED_TEST_IS_RUNNER";
    let test = "targets_die_with_the_process_that_started_them";
    let Some(_command) = or_skip(test, Program::CBlockers.build())? else {
        return Ok(());
    };
    if std::env::var_os(ROLE).is_some() {
        let target = Target::start(Program::CBlockers, &["waitpid=1", "vfork=1"])?;
        println!("\ntarget {}", target.pid());
        thread::sleep(2 * PATIENCE);
        bail!("nobody has killed the runner");
    }
    let mut runner = Command::new(std::env::current_exe()?)
        .args(["--exact", &format!("processes::{test}"), "--nocapture"])
        .env(ROLE, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = BufReader::new(runner.stdout.take().context("no stdout")?);
    let said = stdout.lines().map_while(|line| line.ok()).find_map(|line| {
        let pid = line.strip_prefix("target ")?;
        pid.parse::<u32>().ok()
    });
    runner.kill()?;
    runner.wait()?;
    let leader = said.context("the runner did not start a target")?;
    wait_until("target and children are gone", || Ok(group(leader).is_empty()))
}
