//! tracefs: the kernel's folder of tracepoints, which the futex probes are attached through.

use std::path::Path;

use super::Outcome;
use crate::workspace;

const FOLDER: &str = "/sys/kernel/tracing";

/// Mounts tracefs where it is not mounted. Without it taskleak works too, on its sweeps alone.
pub fn ensure() -> Outcome {
    // `events` is there in every tracefs; reading it tells more than the table of mounts, which may be another
    // namespace's.
    if Path::new(FOLDER).join("events").is_dir() {
        return Outcome::InPlace(format!("tracefs on {FOLDER}"));
    }
    let lost = "without it taskleak runs without its futex probes";
    let mut mount = workspace::command("mount");
    mount.args(["-t", "tracefs", "tracefs", FOLDER]);
    if !workspace::is_root() {
        // An ordinary user may be shut out of a tracefs that is mounted.
        if is_mounted() {
            return Outcome::InPlace(format!("tracefs on {FOLDER} (for root)"));
        }
        let command = workspace::name(&mount);
        return Outcome::Warning(format!("tracefs is not mounted; {lost}. As root: {command}"));
    }
    match mount.output() {
        Ok(output) if output.status.success() => Outcome::Did(format!("mounted tracefs on {FOLDER}")),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let cause = said.trim().lines().next().unwrap_or("mount said nothing");
            Outcome::Warning(format!(
                "tracefs cannot be mounted ({cause}); {lost}. In a container, have the host mount it, and \
                 pass {FOLDER} in"
            ))
        }
        Err(error) => Outcome::Warning(format!("cannot start mount ({error}); {lost}")),
    }
}

fn is_mounted() -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    lists(&mounts, FOLDER)
}

/// Whether a table of mounts has a tracefs on the folder.
fn lists(mounts: &str, folder: &str) -> bool {
    mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(1);
        fields.next() == Some(folder) && fields.next() == Some("tracefs")
    })
}

#[cfg(test)]
mod tests {
    use super::lists;

    #[test]
    fn only_a_tracefs_on_the_folder_counts() {
        let mounts = "sysfs /sys sysfs rw 0 0\ntracefs /sys/kernel/tracing tracefs rw,relatime 0 0\n";
        assert!(lists(mounts, "/sys/kernel/tracing"));
        assert!(!lists(mounts, "/sys"));
        assert!(!lists(
            "debugfs /sys/kernel/tracing debugfs rw 0 0",
            "/sys/kernel/tracing"
        ));
    }
}
