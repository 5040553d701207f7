//! System calls as the table of scenarios names them, and which of them wait without a timeout: written down
//! a second time on purpose, from the kernel's own tables, and for no more calls than the testbed makes.

use testbed::Syscall;

/// Names with their numbers on x86-64 and on i386.
const CALLS: [(&str, i64, i64); 28] = [
    ("page_fault", -1, -1),
    ("read", 0, 3),
    ("poll", 7, 168),
    ("pause", 34, 29),
    ("nanosleep", 35, 162),
    ("accept", 43, NONE),
    ("recvfrom", 45, NONE),
    ("socketcall", NONE, 102),
    ("vfork", 58, 190),
    ("wait4", 61, 114),
    ("msgrcv", 70, NONE),
    ("ipc", NONE, 117),
    ("fcntl", 72, NONE),
    ("fcntl64", NONE, 221),
    ("flock", 73, 143),
    ("rt_sigtimedwait", 128, 177),
    ("rt_sigsuspend", 130, 179),
    ("futex", 202, 240),
    ("semtimedop", 220, NONE),
    ("clock_nanosleep", 230, 267),
    ("epoll_wait", 232, 256),
    ("mq_timedreceive", 243, 280),
    ("waitid", 247, 284),
    ("pselect6", 270, 308),
    ("ppoll", 271, 309),
    ("io_uring_enter", 426, 426),
    ("futex_waitv", 449, 449),
    ("futex_wait", 455, 455),
];

/// No call has this number.
const NONE: i64 = -2;

pub fn name(call: &Syscall, is_32_bit: bool) -> &'static str {
    let is_it = |entry: &&(&str, i64, i64)| call.number == if is_32_bit { entry.2 } else { entry.1 };
    CALLS.iter().find(is_it).map_or("another call", |entry| entry.0)
}

/// Whether the call, in which a thread sleeps, has no timeout.
pub fn is_untimed(call: &Syscall, is_32_bit: bool) -> bool {
    let is_null = |arg: usize| call.args[arg] == 0;
    let is_negative = |arg: usize| (call.args[arg] as i32) < 0;
    match name(call, is_32_bit) {
        "nanosleep" | "clock_nanosleep" => false,
        "poll" => is_negative(2),
        "epoll_wait" => is_negative(3),
        "ppoll" | "rt_sigtimedwait" => is_null(2),
        "futex" | "futex_waitv" | "semtimedop" => is_null(3),
        "futex_wait" | "pselect6" | "mq_timedreceive" => is_null(4),
        _ => true,
    }
}
