//! Being in nobody's way: who works for long gives its CPU to whoever wakes. Who has just got a CPU keeps it for a slice of some
//! milliseconds even so (`RUN_TO_PARITY`, kernel/sched/features.h): by that much others would be late while we look at many
//! tasks. A thread may ask for shorter slices than that, since Linux 6.12 (`custom_slice`, kernel/sched/fair.c).

use std::{io, mem, time::Duration};

/// The shortest that the kernel grants.
const SLICE: Duration = Duration::from_micros(100);

/// Asks for short slices for this thread, and for those that it starts from now on. Nothing else is changed: neither its share
/// of the CPUs nor its policy. Before Linux 6.12 it changes nothing.
///
/// # Errors
/// When the kernel refuses: then slices are as long as everybody's.
pub fn give_way() -> io::Result<()> {
    let mut attributes = attributes()?;
    // Whoever chose another policy for us knows why.
    if attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return Ok(());
    }
    attributes.sched_runtime = SLICE.as_nanos() as u64;
    // SAFETY: reads the structure, whose size it tells.
    done(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) })
}

/// How this thread is scheduled.
fn attributes() -> io::Result<libc::sched_attr> {
    // SAFETY: plain numbers, for which all bits at zero are a value.
    let mut attributes: libc::sched_attr = unsafe { mem::zeroed() };
    let size = mem::size_of_val(&attributes);
    // SAFETY: the kernel writes no more than the size that it is told.
    done(unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0) })?;
    Ok(attributes)
}

fn done(result: libc::c_long) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The policy of this thread, its nice value, and its slice.
    fn now() -> (u32, i32, u64) {
        let attributes = attributes().unwrap();
        (
            attributes.sched_policy,
            attributes.sched_nice,
            attributes.sched_runtime,
        )
    }

    #[test]
    fn slices_become_short_and_nothing_else_changes() {
        let (policy, nice, _) = now();
        give_way().unwrap();
        let inherited = std::thread::spawn(now).join().unwrap();
        let ours = now();
        assert_eq!((ours.0, ours.1), (policy, nice));
        // Before Linux 6.12 nobody tells of slices.
        assert!([0, SLICE.as_nanos() as u64].contains(&ours.2), "{ours:?}");
        assert_eq!(inherited, ours);
    }
}
