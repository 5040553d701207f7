//! Rights that are given up once nothing needs them any more. Each thread has its own, and hands them on to those that it
//! starts.

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

/// To load and to attach.
const ATTACHING: [Capability; 3] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_SYS_ADMIN,
];

/// To read other processes' memory and files.
const READING: [Capability; 4] = [
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_CHECKPOINT_RESTORE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_DAC_OVERRIDE,
];

/// Gives up what is needed to load and to attach alone. `works`: whether what is loaded can be used without; if not, all is
/// kept: before Linux 5.19 it cannot where `kernel.unprivileged_bpf_disabled` is set (`__sys_bpf`, kernel/bpf/syscall.c).
/// Returns whether it was given up.
///
/// # Errors
/// When the kernel lets nobody give up anything.
pub fn give_up_attaching(works: impl FnOnce() -> bool) -> Result<bool, CapsError> {
    let before = caps::read(None, CapSet::Effective)?;
    let given_up: CapsHashSet = ATTACHING.into_iter().filter(|it| !serves(&before, *it)).collect();
    let rest: CapsHashSet = before.difference(&given_up).copied().collect();
    caps::set(None, CapSet::Effective, &rest)?;
    if !works() {
        caps::set(None, CapSet::Effective, &before)?;
        return Ok(false);
    }
    keep_only(|it| !given_up.contains(&it))?;
    Ok(true)
}

/// Gives up all but what reading other processes takes.
///
/// # Errors
/// As [`give_up_attaching`].
pub fn keep_reading() -> Result<(), CapsError> {
    let before = caps::read(None, CapSet::Effective)?;
    keep_only(|it| READING.contains(&it) || serves(&before, it))
}

/// Whether a right stands for another one that is not there.
fn serves(rights: &CapsHashSet, right: Capability) -> bool {
    right == Capability::CAP_SYS_ADMIN && !rights.contains(&Capability::CAP_CHECKPOINT_RESTORE)
}

/// Those that are not permitted any more are not ambient either.
fn keep_only(is_kept: impl Fn(Capability) -> bool) -> Result<(), CapsError> {
    for set in [CapSet::Effective, CapSet::Inheritable, CapSet::Permitted] {
        let kept = caps::read(None, set)?
            .into_iter()
            .filter(|it| is_kept(*it))
            .collect();
        caps::set(None, set, &kept)?;
    }
    Ok(())
}
