//! System V objects outlive their process: the testbed must not leave any behind.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use testbed::{Program, Target, Unsupported, or_skip};

/// Semaphore sets and message queues of this IPC namespace, by kind and id.
fn system_v_objects() -> Result<BTreeSet<(&'static str, String)>> {
    let mut objects = BTreeSet::new();
    for kind in ["sem", "msg"] {
        for line in fs::read_to_string(format!("/proc/sysvipc/{kind}"))?
            .lines()
            .skip(1)
        {
            let id = line.split_whitespace().nth(1).context("no id")?;
            objects.insert((kind, id.to_owned()));
        }
    }
    Ok(objects)
}

/// Without CAP_SYS_ADMIN there is no IPC namespace that would take them along, so they are to be seen here.
#[test]
fn sigterm_removes_system_v_objects() -> Result<()> {
    let test = "sigterm_removes_system_v_objects";
    let unprivileged = |program: Command| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]);
        command.arg(program.get_program()).args(program.get_args());
        command
    };
    let before = system_v_objects()?;
    let started = Target::start_with(Program::CBlockers, &["semop=1", "msgrcv=1"], unprivileged);
    let Some(target) = or_skip(test, started)? else {
        return Ok(());
    };
    let made: Vec<_> = system_v_objects()?.difference(&before).cloned().collect();
    assert_eq!(made.iter().map(|made| made.0).collect::<Vec<_>>(), ["msg", "sem"]);
    target.signal(libc::SIGTERM)?;
    let error = target
        .wait_output()
        .err()
        .context("SIGTERM did not end it")?
        .to_string();
    assert!(error.contains("signal 15"), "{error}");
    let after = system_v_objects()?;
    assert!(
        !made.iter().any(|made| after.contains(made)),
        "{made:?} of {after:?}"
    );
    Ok(())
}

/// With it, not even SIGKILL leaves any: they never were in this namespace.
#[test]
fn system_v_objects_go_with_a_privileged_program() -> Result<()> {
    let test = "system_v_objects_go_with_a_privileged_program";
    let started = Target::start(Program::CBlockers, &["semop=1", "msgrcv=1"]);
    let Some(target) = or_skip(test, started)? else {
        return Ok(());
    };
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/task/{pid}/ns/ipc"));
    if namespace(&target.pid().to_string())? == namespace(&std::process::id().to_string())? {
        let why = "no right to make an IPC namespace (CAP_SYS_ADMIN)".to_owned();
        or_skip::<()>(test, Err(Unsupported(why).into()))?;
    }
    Ok(())
}
