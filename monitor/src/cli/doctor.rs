//! `taskleak doctor`: what works here, what is lost, how to mend it.

use std::{fmt::Write as _, fs, process::ExitCode};

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::permissions::NEEDS;
use crate::observe::bpf::{self, LoadOptions, Probes};

/// Say what works here, what is lost, and how to mend it
#[derive(Args)]
pub struct DoctorCommand {
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    /// Something is lost.
    Degraded,
    /// Nothing can be observed.
    Failed,
}

#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    status: Status,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Check {
    fn ok(name: &str, found: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            status: Status::Ok,
            found: found.into(),
            lost: None,
            mend: None,
        }
    }

    fn bad(status: Status, name: &str, found: impl Into<String>, lost: &str, mend: &str) -> Self {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            name: name.to_owned(),
            status,
            found: found.into(),
            lost: some(lost),
            mend: some(mend),
        }
    }
}

impl DoctorCommand {
    pub fn execute(&self) -> Result<ExitCode> {
        let mut checks = vec![
            kernel(),
            btf(),
            tracefs(),
            lockdown(),
            pid_namespace(),
            hidden_processes(),
        ];
        checks.extend(capabilities());
        checks.extend(probes());
        match self.format {
            Format::Text => print!("{}", text(&checks)),
            Format::Json => println!("{}", serde_json::to_string_pretty(&checks)?),
        }
        let works = checks.iter().all(|check| check.status != Status::Failed);
        Ok(if works {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(3)
        })
    }
}

fn text(checks: &[Check]) -> String {
    let mut text = String::new();
    for check in checks {
        let mark = match check.status {
            Status::Ok => "ok",
            Status::Degraded => "degraded",
            Status::Failed => "FAILED",
        };
        let _ = writeln!(text, "{mark:<9} {}: {}", check.name, check.found);
        if let Some(lost) = &check.lost {
            let _ = writeln!(text, "          lost: {lost}");
        }
        if let Some(mend) = &check.mend {
            let _ = writeln!(text, "          mend: {mend}");
        }
    }
    let count = |status| checks.iter().filter(|check| check.status == status).count();
    let verdict = match (count(Status::Failed), count(Status::Degraded)) {
        (0, 0) => "Everything works.".to_owned(),
        (0, degraded) => format!("taskleak works; {degraded} of its abilities are degraded (see above)."),
        (failed, _) => format!("taskleak cannot observe anything here: {failed} checks failed (see above)."),
    };
    let _ = writeln!(text, "\n{verdict}");
    text
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn kernel() -> Check {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = release.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    if version >= (5, 15) {
        return Check::ok("kernel", release);
    }
    Check::bad(
        Status::Failed,
        "kernel",
        format!("{release}, but 5.15 or later is needed"),
        "the sweep cannot read what a thread waits in (bpf_task_pt_regs)",
        "boot a newer kernel",
    )
}

fn btf() -> Check {
    match fs::metadata("/sys/kernel/btf/vmlinux") {
        Ok(metadata) => Check::ok("type information (BTF)", format!("{} bytes", metadata.len())),
        Err(error) => Check::bad(
            Status::Failed,
            "type information (BTF)",
            format!("/sys/kernel/btf/vmlinux: {error}"),
            "the places of a thread's fields in this kernel are not known",
            "use a kernel with CONFIG_DEBUG_INFO_BTF=y; in a container, mount the host's /sys",
        ),
    }
}

fn tracefs() -> Check {
    match bpf::tracefs() {
        Some(root) => Check::ok("tracefs", root),
        None => Check::bad(
            Status::Degraded,
            "tracefs",
            "not mounted, or not readable",
            "the futex probes: waits that signals interrupt look younger, futex waits are not counted",
            "mount -t tracefs tracefs /sys/kernel/tracing",
        ),
    }
}

fn lockdown() -> Check {
    let mode = read("/sys/kernel/security/lockdown").unwrap_or_default();
    if mode.contains("[confidentiality]") {
        return Check::bad(
            Status::Failed,
            "lockdown",
            "confidentiality",
            "eBPF programs may not read kernel memory",
            "boot with lockdown=integrity or none",
        );
    }
    Check::ok("lockdown", if mode.is_empty() { "none".to_owned() } else { mode })
}

/// `PROC_PID_INIT_INO` of include/linux/proc_ns.h: the initial PID namespace.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

fn pid_namespace() -> Check {
    let own = fs::read_link("/proc/self/ns/pid")
        .map(|link| link.to_string_lossy().into_owned())
        .unwrap_or_default();
    let own_pid = std::process::id().to_string();
    let self_link = fs::read_link("/proc/self")
        .map(|link| link.to_string_lossy().into_owned())
        .unwrap_or_default();
    if self_link != own_pid {
        return Check::bad(
            Status::Degraded,
            "PID namespace",
            format!("/proc shows another namespace than this process is in ({own})"),
            "executables, cgroups and timeouts are read from the wrong processes or not at all",
            "mount a /proc of this namespace (unshare --mount-proc), or use the host's with hostPID",
        );
    }
    if own == INITIAL_PID_NAMESPACE {
        return Check::ok("PID namespace", "the host's: every process can be watched");
    }
    Check::ok(
        "PID namespace",
        format!("{own}: only processes of it and below can be watched"),
    )
}

fn hidden_processes() -> Check {
    let mounts = read("/proc/self/mounts").unwrap_or_default();
    let hides = mounts.lines().any(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let option =
            |option: &str| option.starts_with("hidepid=") && !matches!(option, "hidepid=0" | "hidepid=off");
        fields.get(1) == Some(&"/proc")
            && fields
                .get(3)
                .is_some_and(|options| options.split(',').any(option))
    });
    if !hides
        || NEEDS
            .iter()
            .any(|need| need.capability == caps::Capability::CAP_SYS_PTRACE && need.is_met())
    {
        return Check::ok("/proc", "processes are not hidden from us");
    }
    Check::bad(
        Status::Degraded,
        "/proc",
        "mounted with hidepid",
        "executables and cgroups of other users' processes",
        "grant CAP_SYS_PTRACE, or remount /proc without hidepid",
    )
}

fn capabilities() -> Vec<Check> {
    let one = |need: &super::permissions::Need| {
        let name = need.capability.to_string();
        if need.is_met() {
            return Check::ok(&name, format!("granted, {}", need.purpose));
        }
        let status = if need.loss.is_some() {
            Status::Degraded
        } else {
            Status::Failed
        };
        let lost = need.loss.unwrap_or("nothing can be observed");
        let mend = format!("run as root, or grant {name}");
        Check::bad(
            status,
            &name,
            format!("missing; it is needed {}", need.purpose),
            lost,
            &mend,
        )
    };
    NEEDS.iter().map(one).collect()
}

/// Loads and attaches every probe, for as long as this takes.
fn probes() -> Vec<Check> {
    let options = LoadOptions {
        filter: monitor_common::Filter::Selected,
        futex_probes: true,
        spawn_probes: true,
        max_threads: 1_024,
        log: log::LevelFilter::Off,
    };
    let mut probes = match Probes::load(&options) {
        Ok(probes) => probes,
        Err(error) => {
            return vec![Check::bad(
                Status::Failed,
                "eBPF programs",
                error.to_string(),
                "nothing can be observed",
                "",
            )];
        }
    };
    let one = |state: &crate::observe::bpf::ProbeState| {
        let name = format!("probe {}", state.spec.name);
        match &state.failure {
            None => Check::ok(&name, "attached"),
            Some(cause) => Check::bad(
                Status::Degraded,
                &name,
                format!("not attached: {cause}"),
                state.spec.loss,
                "",
            ),
        }
    };
    let mut checks: Vec<Check> = probes.states().iter().map(one).collect();
    checks.push(match probes.load_spawn() {
        Ok(()) => Check::ok("probe pthread_create", "loaded; attached to each watched process"),
        Err(cause) => Check::bad(
            Status::Degraded,
            "probe pthread_create",
            format!("not loaded: {cause}"),
            "who made a thread; taskleak_tasks_spawned_total and _exited_total stand still",
            "",
        ),
    });
    checks.push(match probes.load_go() {
        Ok(()) => Check::ok(
            "probes of goroutines",
            "loaded; attached to each watched process that runs Go",
        ),
        Err(cause) => Check::bad(
            Status::Degraded,
            "probes of goroutines",
            format!("not loaded: {cause}"),
            "taskleak_tasks_spawned_total and _exited_total have no goroutines",
            "",
        ),
    });
    checks.push(match probes.load_tokio_spawns() {
        Ok(()) => Check::ok(
            "probes of tokio tasks",
            "loaded; attached to each watched process that runs tokio (optimised; 1.28 and 1.29 on Linux 6.10 and \
             later)",
        ),
        Err(cause) => Check::bad(
            Status::Degraded,
            "probes of tokio tasks",
            format!("not loaded: {cause}"),
            "who made a tokio task; taskleak_tasks_spawned_total and _exited_total have none of them",
            "",
        ),
    });
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_documented() {
        crate::export::schema::check::<Vec<Check>>("doctor");
    }
}
