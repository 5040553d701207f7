//! What is missing on the machine: named, with what is lost and how to mend it; what can still work, works.

use std::process::{Command, Output};

use testbed::Program;

use crate::support::{TASKLEAK, counts, skip, start, stderr};

/// `taskleak` under a wrapper such as `setpriv` or `unshare`.
fn under(wrapper: &[&str], args: &[&str]) -> Output {
    let (program, rest) = wrapper.split_first().unwrap();
    Command::new(program)
        .args(rest)
        .arg(TASKLEAK)
        .args(args)
        .output()
        .unwrap()
}

/// A shell in a mount namespace of its own, which first hides something.
fn hiding(what: &str, args: &[&str]) -> Output {
    let script = format!("{what} && exec \"$0\" \"$@\"");
    Command::new("unshare")
        .args(["--mount", "sh", "-c", &script, TASKLEAK])
        .args(args)
        .output()
        .unwrap()
}

#[test]
fn without_root_it_exits_3_and_names_what_is_missing() {
    // The binary is copied to where everybody can read it.
    let copy = std::env::temp_dir().join(format!("taskleak-as-nobody-{}", std::process::id()));
    std::fs::copy(TASKLEAK, &copy).unwrap();
    let pid = std::process::id().to_string();
    let output = Command::new("setpriv")
        .args(["--reuid", "65534", "--regid", "65534", "--clear-groups"])
        .arg(&copy)
        .args(["snapshot", "--pid", &pid])
        .output()
        .unwrap();
    std::fs::remove_file(copy).unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    let error = stderr(&output);
    assert!(
        error.contains("CAP_BPF is missing; it is needed to load the eBPF programs"),
        "{error}"
    );
    assert!(
        error.contains("CAP_PERFMON is missing") && error.contains("Run as root"),
        "{error}"
    );
}

#[test]
fn each_missing_capability_is_named() {
    let pid = std::process::id().to_string();
    for (drop, name) in [
        ("-bpf,-sys_admin", "CAP_BPF"),
        ("-perfmon,-sys_admin", "CAP_PERFMON"),
    ] {
        let output = under(
            &["setpriv", "--bounding-set", drop, "--inh-caps", drop],
            &["snapshot", "--pid", &pid],
        );
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(3), "{drop}: {error}");
        assert!(
            error.contains(&format!("{name} is missing; it is needed")),
            "{error}"
        );
        let doctor = under(
            &["setpriv", "--bounding-set", drop, "--inh-caps", drop],
            &["doctor"],
        );
        let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
        assert_eq!(doctor.status.code(), Some(3), "{text}");
        assert!(text.contains(&format!("FAILED    {name}: missing")), "{text}");
    }
}

#[test]
fn without_type_information_it_exits_3_and_says_what_to_do() {
    let pid = std::process::id().to_string();
    let hide = "mount -t tmpfs none /sys/kernel/btf";
    let output = hiding(hide, &["snapshot", "--pid", &pid]);
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(
        error.contains("/sys/kernel/btf/vmlinux") && error.contains("CONFIG_DEBUG_INFO_BTF=y"),
        "{error}"
    );
    let doctor = hiding(hide, &["doctor"]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(3), "{text}");
    assert!(text.contains("FAILED    type information (BTF)"), "{text}");
}

/// Hides something that only the futex probes need: their loss is said, the blocked threads are found.
fn works_without(hide: &str, says: &str, probes_lost: usize) {
    let target = start("environment", Program::CBlockers, &["mutex=2", "poll=1"]).unwrap();
    let pid = target.pid().to_string();
    let output = hiding(
        hide,
        &[
            "snapshot",
            "--pid",
            &pid,
            "--observe",
            "1200ms",
            "--format",
            "json",
        ],
    );
    let error = stderr(&output);
    assert!(output.status.success(), "{error}");
    assert!(error.contains(says), "{error}");
    let document = serde_json::from_slice(&output.stdout).unwrap();
    let seen = crate::support::Process::of(&document, target.pid()).unwrap();
    assert_eq!(
        seen.counts(),
        counts(&[("futex", "internal", 2), ("poll", "external", 1)])
    );
    let doctor = hiding(hide, &["doctor"]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(0), "{text}");
    let lost = text
        .lines()
        .filter(|line| line.starts_with("degraded  probe sys_"))
        .count();
    assert_eq!(lost, probes_lost, "{text}");
    assert!(text.contains(says), "{text}");
}

#[test]
fn without_tracefs_the_sweep_works() {
    let hide = "mount -t tmpfs none /sys/kernel/tracing && mount -t tmpfs none /sys/kernel/debug";
    works_without(hide, "mount -t tracefs tracefs /sys/kernel/tracing", 6);
}

#[test]
fn without_one_tracepoint_the_others_work() {
    let path = "/sys/kernel/tracing/events/syscalls/sys_enter_futex_wait";
    if !std::path::Path::new(path).exists() {
        return skip(
            "environment::without_one_tracepoint",
            "this kernel has no futex_wait (before 6.7), or no tracefs",
        );
    }
    // All tracepoints but one.
    let hide = "mkdir -p /tmp/taskleak-events && mount -t tmpfs none /tmp/taskleak-events && \
                cp -r /sys/kernel/tracing/events/syscalls/sys_*_futex* /tmp/taskleak-events/ 2>/dev/null; \
                rm -r /tmp/taskleak-events/sys_enter_futex_wait && \
                mount --bind /tmp/taskleak-events /sys/kernel/tracing/events/syscalls";
    works_without(hide, "no tracepoint syscalls:sys_enter_futex_wait", 1);
}

#[test]
fn doctor_finds_nothing_to_complain_of_here() {
    let output = Command::new(TASKLEAK)
        .args(["doctor", "--format", "json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let checks: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = checks.as_array().unwrap();
    let status = |name: &str| &checks.iter().find(|check| check["name"] == name).unwrap()["status"];
    for name in [
        "kernel",
        "type information (BTF)",
        "CAP_BPF",
        "probe sweep",
        "probe sched_process_exit",
    ] {
        assert_eq!(status(name), "ok", "{checks:#?}");
    }
}
