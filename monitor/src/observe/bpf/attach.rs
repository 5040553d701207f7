//! Which program goes to which hook, and what is lost without it.

use std::{io, path::Path};

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, Program, ProgramError, TracePoint},
};

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `iter/task`.
    Iterator,
    /// A BTF tracepoint: needs no tracefs.
    Btf(&'static str),
    /// A tracepoint of the category `syscalls`: its id is read from tracefs.
    Syscall(&'static str),
}

/// A program of the object.
#[derive(Debug, PartialEq, Eq)]
pub struct ProbeSpec {
    /// Name in metrics and messages.
    pub name: &'static str,
    /// The program's name in the object.
    pub program: &'static str,
    pub hook: Hook,
    /// What does not work without it.
    pub loss: &'static str,
    /// Whether `run` and `snapshot` can do anything without it.
    pub required: bool,
    /// Left out by `--no-futex-probes`.
    pub futex: bool,
}

const START_LOST: &str =
    "waits that signals interrupt look younger than they are, and taskleak_futex_waits_total stands still";

const fn futex(name: &'static str, program: &'static str, tracepoint: &'static str) -> ProbeSpec {
    ProbeSpec {
        name,
        program,
        hook: Hook::Syscall(tracepoint),
        loss: START_LOST,
        required: false,
        futex: true,
    }
}

/// Every probe, in the order in which they are attached. The exits come before the entries, so that no
/// interrupted wait is missed between the two.
pub const PROBES: &[ProbeSpec] = &[
    ProbeSpec {
        name: "sweep",
        program: "sweep",
        hook: Hook::Iterator,
        loss: "no thread is seen",
        required: true,
        futex: false,
    },
    ProbeSpec {
        name: "sched_process_exit",
        program: "task_exit",
        hook: Hook::Btf("sched_process_exit"),
        loss: "entries of threads that have ended fill the maps until lost events are counted",
        required: false,
        futex: false,
    },
    ProbeSpec {
        name: "sched_process_exec",
        program: "process_exec",
        hook: Hook::Btf("sched_process_exec"),
        loss: "new programs are picked up at the next sweep only, and `comm` may be a later name",
        required: false,
        futex: false,
    },
    ProbeSpec {
        name: "task_newtask",
        program: "new_task",
        hook: Hook::Btf("task_newtask"),
        loss: "forks of selected processes are picked up at the next sweep only",
        required: false,
        futex: false,
    },
    futex("sys_exit_futex", "futex_exit", "sys_exit_futex"),
    futex("sys_exit_futex_waitv", "futex_exit", "sys_exit_futex_waitv"),
    futex("sys_exit_futex_wait", "futex_exit", "sys_exit_futex_wait"),
    futex("sys_enter_futex", "futex_enter", "sys_enter_futex"),
    futex(
        "sys_enter_futex_waitv",
        "futex_waitv_enter",
        "sys_enter_futex_waitv",
    ),
    futex("sys_enter_futex_wait", "futex_wait_enter", "sys_enter_futex_wait"),
];

/// Where tracefs is mounted, the newer place first.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Where tracefs can be read, if anywhere.
pub fn tracefs() -> Option<&'static str> {
    TRACEFS
        .into_iter()
        .find(|root| Path::new(root).join("events").is_dir())
}

/// Loads (once) and attaches one program. `Err` says cause and cure in one line.
pub(super) fn attach(ebpf: &mut Ebpf, spec: &ProbeSpec, btf: &Btf) -> Result<(), String> {
    let Some(program) = ebpf.program_mut(spec.program) else {
        return Err("the object does not have it (built from other sources)".to_owned());
    };
    match (spec.hook, program) {
        (Hook::Iterator, Program::Iter(program)) => {
            program.load("task", btf).map_err(|error| describe(&error))
        }
        (Hook::Btf(tracepoint), Program::BtfTracePoint(program)) => {
            attach_btf(program, tracepoint, btf).map_err(|error| describe(&error))
        }
        (Hook::Syscall(tracepoint), Program::TracePoint(program)) => {
            check_tracefs(tracepoint)?;
            attach_syscall(program, tracepoint).map_err(|error| describe(&error))
        }
        _ => Err("the object has another program of this name".to_owned()),
    }
}

fn attach_btf(program: &mut BtfTracePoint, tracepoint: &str, btf: &Btf) -> Result<(), ProgramError> {
    program.load(tracepoint, btf)?;
    program.attach()?;
    Ok(())
}

fn attach_syscall(program: &mut TracePoint, tracepoint: &str) -> Result<(), ProgramError> {
    // One program may serve several tracepoints.
    match program.load() {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
        Err(error) => return Err(error),
    }
    program.attach("syscalls", tracepoint)?;
    Ok(())
}

fn check_tracefs(tracepoint: &str) -> Result<(), String> {
    let Some(root) = tracefs().map(Path::new) else {
        let denied = TRACEFS.iter().any(|root| {
            std::fs::read_dir(root).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        });
        return Err(if denied {
            "tracefs cannot be read: run as root or with CAP_DAC_READ_SEARCH".to_owned()
        } else {
            "tracefs is not mounted: mount -t tracefs tracefs /sys/kernel/tracing".to_owned()
        });
    };
    if root.join("events/syscalls").join(tracepoint).is_dir() {
        return Ok(());
    }
    Err(if root.join("events/syscalls").is_dir() {
        format!("this kernel has no tracepoint syscalls:{tracepoint}")
    } else {
        "this kernel has no syscall tracepoints (CONFIG_FTRACE_SYSCALLS)".to_owned()
    })
}

/// The whole chain of causes in one line.
pub(super) fn describe(error: &ProgramError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    // A verifier's log has many lines; the last says why.
    text.lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .trim()
        .to_owned()
}
