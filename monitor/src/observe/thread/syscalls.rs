//! What each system call that can sleep means: its name, its wait class, and where its timeout is.
//!
//! Every sleeping call counts as a wait unless it carries a timeout, so the table lists the calls that *can*
//! time out, not those that block. Arguments have the same order in the 64-bit and the 32-bit ABI
//! (arch/x86/entry/syscalls/syscall_{64,32}.tbl), so one table by name serves both.

use std::{collections::HashMap, sync::LazyLock};

use syscalls::{x86, x86_64};

use crate::model::{
    Reason,
    WaitClass::{self, External, Internal},
};

/// Where a call's timeout is; numbers are argument positions from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// It has none.
    Never,
    /// An `int` of milliseconds; negative: none.
    Millis(usize),
    /// A pointer to a relative `timespec`; NULL: none.
    Timespec(usize),
    /// A pointer to a relative `timeval`; NULL: none.
    Timeval(usize),
    /// A pointer to a point in time on a fixed clock (`CLOCK_*`); NULL: none.
    Deadline(usize, libc::clockid_t),
    /// The same on the clock that another argument names.
    DeadlineOn(usize, usize),
    /// `futex`: depends on the operation.
    Futex,
    /// `clock_nanosleep`: relative or absolute by its flags.
    ClockNanosleep,
    /// `io_uring_enter`: in the extended argument.
    IoUring,
    /// The old 32-bit `select`: behind a block of arguments.
    OldSelect,
}

/// A system call as a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub reason: Reason,
    pub class: WaitClass,
    pub timeout: Timeout,
    /// Its `timespec` has two 32-bit words.
    pub narrow_time: bool,
}

/// Calls with a timeout. Sources: the SYSCALL_DEFINEs in kernel/futex/syscalls.c, fs/select.c, fs/eventpoll.c,
/// ipc/mqueue.c, ipc/sem.c, fs/aio.c, kernel/signal.c, kernel/time/{hrtimer,posix-timers}.c, io_uring/io_uring.c.
/// `recvmmsg` is not here: it looks at its timeout only when a message has come (net/socket.c).
const TIMED: &[(&str, Timeout)] = &[
    ("futex", Timeout::Futex),
    ("futex_time64", Timeout::Futex),
    ("futex_waitv", Timeout::DeadlineOn(3, 4)),
    ("futex_wait", Timeout::DeadlineOn(4, 5)),
    ("poll", Timeout::Millis(2)),
    ("ppoll", Timeout::Timespec(2)),
    ("ppoll_time64", Timeout::Timespec(2)),
    ("select", Timeout::Timeval(4)),
    ("_newselect", Timeout::Timeval(4)),
    ("pselect6", Timeout::Timespec(4)),
    ("pselect6_time64", Timeout::Timespec(4)),
    ("epoll_wait", Timeout::Millis(3)),
    ("epoll_pwait", Timeout::Millis(3)),
    ("epoll_pwait2", Timeout::Timespec(3)),
    ("mq_timedsend", Timeout::Deadline(4, libc::CLOCK_REALTIME)),
    ("mq_timedsend_time64", Timeout::Deadline(4, libc::CLOCK_REALTIME)),
    ("mq_timedreceive", Timeout::Deadline(4, libc::CLOCK_REALTIME)),
    (
        "mq_timedreceive_time64",
        Timeout::Deadline(4, libc::CLOCK_REALTIME),
    ),
    ("semtimedop", Timeout::Timespec(3)),
    ("semtimedop_time64", Timeout::Timespec(3)),
    ("io_getevents", Timeout::Timespec(4)),
    ("io_pgetevents", Timeout::Timespec(4)),
    ("io_pgetevents_time64", Timeout::Timespec(4)),
    ("rt_sigtimedwait", Timeout::Timespec(2)),
    ("rt_sigtimedwait_time64", Timeout::Timespec(2)),
    ("nanosleep", Timeout::Timespec(0)),
    ("clock_nanosleep", Timeout::ClockNanosleep),
    ("clock_nanosleep_time64", Timeout::ClockNanosleep),
    ("io_uring_enter", Timeout::IoUring),
];

/// Calls that wait for the program itself or for a lock. All other calls that have a name wait for the world;
/// those without one are taken for internal, because internal waits are shown.
const INTERNAL: &[&str] = &[
    "futex",
    "futex_time64",
    "futex_waitv",
    "futex_wait",
    "flock",
    "fcntl",
    "fcntl64",
    "semop",
    "semtimedop",
    "semtimedop_time64",
    // The 32-bit ABI's one call for semaphores and messages.
    "ipc",
    "vfork",
    "clone",
    "clone3",
    "exit",
    "exit_group",
    "membarrier",
    "userfaultfd",
];

/// A thread that sleeps outside any system call waits for a page.
const PAGE_FAULT: Call = Call {
    reason: Reason::Static("page_fault"),
    class: Internal,
    timeout: Timeout::Never,
    narrow_time: false,
};

/// x32 calls carry this bit (arch/x86/include/uapi/asm/unistd.h).
const X32_BIT: i64 = 0x4000_0000;

static NATIVE: LazyLock<HashMap<i64, Call>> = LazyLock::new(|| {
    x86_64::Sysno::iter()
        .map(|call| (i64::from(call.id()), describe(call.name(), false)))
        .collect()
});

static COMPAT: LazyLock<HashMap<i64, Call>> = LazyLock::new(|| {
    x86::Sysno::iter()
        .map(|call| {
            let mut described = describe(call.name(), !call.name().ends_with("_time64"));
            // Number 82 has the name of the 64-bit call, but takes one pointer to a block.
            if call.name() == "select" {
                described.timeout = Timeout::OldSelect;
            }
            (i64::from(call.id()), described)
        })
        .collect()
});

/// The call of a sleeping thread. `number` −1: none.
pub fn lookup(number: i64, compat: bool) -> Call {
    if number < 0 {
        return PAGE_FAULT;
    }
    let table = if compat { &COMPAT } else { &NATIVE };
    table.get(&(number & !X32_BIT)).cloned().unwrap_or_else(|| Call {
        reason: format!("syscall_{number}").into(),
        class: Internal,
        timeout: Timeout::Never,
        narrow_time: false,
    })
}

/// The number of a call by its name.
pub fn number(name: &str, compat: bool) -> Option<i64> {
    if compat {
        name.parse::<x86::Sysno>().ok().map(|call| i64::from(call.id()))
    } else {
        name.parse::<x86_64::Sysno>()
            .ok()
            .map(|call| i64::from(call.id()))
    }
}

fn describe(name: &'static str, narrow_time: bool) -> Call {
    Call {
        reason: Reason::Static(name),
        class: if INTERNAL.contains(&name) {
            Internal
        } else {
            External
        },
        timeout: TIMED
            .iter()
            .find(|(timed, _)| *timed == name)
            .map_or(Timeout::Never, |(_, timeout)| *timeout),
        narrow_time,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_tables_is_a_call() {
        for name in TIMED.iter().map(|(name, _)| name).chain(INTERNAL) {
            assert!(
                number(name, false).or_else(|| number(name, true)).is_some(),
                "{name}"
            );
        }
    }

    #[test]
    fn numbers_mean_what_the_kernel_says() {
        let name = |nr, compat| lookup(nr, compat).reason;
        assert_eq!(name(202, false), "futex");
        assert_eq!(name(240, true), "futex");
        assert_eq!(name(449, false), "futex_waitv");
        assert_eq!(name(455, false), "futex_wait");
        assert_eq!(name(58, false), "vfork");
        assert_eq!(name(73, false), "flock");
        assert_eq!(name(-1, false), "page_fault");
        assert_eq!(name(9999, false), "syscall_9999");
        assert_eq!(lookup(82, true).timeout, Timeout::OldSelect);
        assert_eq!(lookup(142, true).timeout, Timeout::Timeval(4));
        assert!(lookup(240, true).narrow_time && !lookup(422, true).narrow_time);
    }

    #[test]
    fn locks_are_internal_and_the_world_is_external() {
        for internal in [202, 73, 72, 65, 58, 9999, -1] {
            assert_eq!(lookup(internal, false).class, Internal, "{internal}");
        }
        // read, recvfrom, accept, wait4, pause, epoll_wait, msgrcv
        for external in [0, 45, 43, 61, 34, 232, 70] {
            assert_eq!(lookup(external, false).class, External, "{external}");
        }
    }
}
