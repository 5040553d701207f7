//! What the monitor must be allowed to do.

use caps::{CapSet, Capability};

use super::Failure;

/// A capability and what it is for.
pub struct Need {
    pub capability: Capability,
    pub purpose: &'static str,
    /// What is lost without it; `None`: nothing can be observed.
    pub loss: Option<&'static str>,
    /// Whether CAP_SYS_ADMIN serves instead.
    pub in_sys_admin: bool,
}

pub const NEEDS: &[Need] = &[
    Need {
        capability: Capability::CAP_BPF,
        purpose: "to load the eBPF programs",
        loss: None,
        in_sys_admin: true,
    },
    Need {
        capability: Capability::CAP_PERFMON,
        purpose: "to attach them and to let them read the kernel's thread structures",
        loss: None,
        in_sys_admin: true,
    },
    Need {
        capability: Capability::CAP_SYS_PTRACE,
        purpose: "to read other users' /proc/PID/exe, memory and mappings",
        loss: Some(
            "for other users' processes `exe` is empty, stacks, holders and spawn sites are unknown, and waits with a \
             timeout of a day or more are missed",
        ),
        in_sys_admin: false,
    },
    Need {
        capability: Capability::CAP_CHECKPOINT_RESTORE,
        purpose: "to open the files that a program has mapped (/proc/PID/map_files)",
        loss: Some("functions have no names: no block sites, no entries, and no spawn probes"),
        in_sys_admin: true,
    },
    Need {
        capability: Capability::CAP_DAC_READ_SEARCH,
        purpose: "to read tracefs and /proc as another user than root",
        loss: Some("the futex probes are not attached unless tracefs is readable"),
        in_sys_admin: false,
    },
    Need {
        capability: Capability::CAP_SYSLOG,
        purpose: "to see the kernel's symbol addresses (kptr_restrict)",
        loss: Some("waits that went on after a stop are not told apart from timed ones"),
        in_sys_admin: false,
    },
];

impl Need {
    pub fn is_met(&self) -> bool {
        has(self.capability) || self.in_sys_admin && has(Capability::CAP_SYS_ADMIN)
    }
}

fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// # Errors
/// When a capability is missing without which nothing can be observed.
pub fn check() -> Result<(), Failure> {
    let missing: Vec<&Need> = NEEDS
        .iter()
        .filter(|need| need.loss.is_none() && !need.is_met())
        .collect();
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
