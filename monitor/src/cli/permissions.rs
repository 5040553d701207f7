//! What the monitor must be allowed to do.

use caps::{CapSet, Capability};

use super::Failure;

/// A capability and what it is for.
pub struct Need {
    pub capability: Capability,
    pub purpose: &'static str,
    /// What is lost without it; `None`: nothing can be observed.
    pub loss: Option<&'static str>,
    /// Any of these serves instead.
    instead: &'static [Capability],
}

pub const NEEDS: &[Need] = &[
    Need {
        capability: Capability::CAP_BPF,
        purpose: "to load the eBPF programs",
        loss: None,
        instead: &[Capability::CAP_SYS_ADMIN],
    },
    Need {
        capability: Capability::CAP_PERFMON,
        purpose: "to attach them and to let them read the kernel's thread structures",
        loss: None,
        instead: &[Capability::CAP_SYS_ADMIN],
    },
    Need {
        capability: Capability::CAP_SYS_PTRACE,
        purpose: "to read other users' /proc/PID/exe, memory and mappings",
        loss: Some(
            "for other users' processes `exe` is empty, stacks, holders, goroutines, tokio tasks and spawn sites are unknown, and \
             waits with a timeout of a day or more are missed",
        ),
        instead: &[],
    },
    Need {
        capability: Capability::CAP_CHECKPOINT_RESTORE,
        purpose: "to open the files that a program has mapped (/proc/PID/map_files)",
        loss: Some("functions have no names: no block sites, no entries, and no spawn probes"),
        instead: &[Capability::CAP_SYS_ADMIN],
    },
    Need {
        capability: Capability::CAP_DAC_READ_SEARCH,
        purpose: "to open other users' /proc/PID/mem and map_files, and tracefs where we are not root",
        loss: Some(
            "for other users' processes stacks, holders, goroutines, tokio tasks and spawn sites are unknown, and waits with a \
             timeout of a day or more are missed; the futex probes are not attached unless tracefs is readable",
        ),
        instead: &[Capability::CAP_DAC_OVERRIDE],
    },
    Need {
        capability: Capability::CAP_SYSLOG,
        purpose: "to see the kernel's symbol addresses (kptr_restrict)",
        loss: Some("waits that went on after a stop are not told apart from timed ones"),
        instead: &[],
    },
];

impl Need {
    pub fn is_met(&self) -> bool {
        has(self.capability) || self.instead.iter().any(|instead| has(*instead))
    }
}

fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// Says what is lost for want of a capability.
///
/// # Errors
/// When one is missing without which nothing can be observed.
pub fn check() -> Result<(), Failure> {
    let (lossy, missing): (Vec<&Need>, Vec<&Need>) = NEEDS
        .iter()
        .filter(|need| !need.is_met())
        .partition(|need| need.loss.is_some());
    for need in lossy {
        tracing::warn!(
            "{} is missing; it is needed {}. Without it: {}",
            need.capability,
            need.purpose,
            need.loss.unwrap_or_default()
        );
    }
    if missing.is_empty() {
        return Ok(());
    }
    let mut text = "not permitted:".to_owned();
    for need in &missing {
        text.push_str(&format!(
            "\n  {} is missing; it is needed {}",
            need.capability, need.purpose
        ));
    }
    text.push_str("\nRun as root (sudo), or grant the capabilities: in a container with --cap-add, for a unit with AmbientCapabilities=.");
    Err(Failure::NotPermitted(text))
}
