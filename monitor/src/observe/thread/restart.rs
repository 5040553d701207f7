//! Which call hides behind `restart_syscall` (219; 0 in the 32-bit ABI): after a stop or a thaw, calls with a
//! timeout go on under that number with their old arguments (`task_struct.restart_block.fn` knows).

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
};

use super::syscalls;

/// Functions that a restart block can hold, with the call that each goes on with.
const RESTARTS: [(&str, &str); 4] = [
    ("futex_wait_restart", "futex"),
    ("do_restart_poll", "poll"),
    ("hrtimer_nanosleep_restart", "nanosleep"),
    ("posix_cpu_nsleep_restart", "nanosleep"),
];
/// Clocks have small numbers; an address does not. Tells `clock_nanosleep(clock, …)` from `nanosleep(time, …)`.
const MAX_CLOCK: u64 = 16;

/// Addresses of [`RESTARTS`] in the running kernel; read when the first restarted call is met.
#[derive(Default)]
pub struct Restarts {
    functions: Option<Vec<(u64, &'static str)>>,
}

impl Restarts {
    /// Whether the number is `restart_syscall`'s.
    pub fn is_restart(number: i64, compat: bool) -> bool {
        number == if compat { 0 } else { 219 }
    }

    /// Number of the call that goes on. `None` when the kernel hides its addresses (kptr_restrict).
    pub fn original(&mut self, function: u64, args: &[u64; 6], compat: bool) -> Option<i64> {
        let functions = self.functions.get_or_insert_with(read);
        let (_, name) = functions.iter().find(|(address, _)| *address == function)?;
        let name = match *name {
            "nanosleep" if args[0] < MAX_CLOCK => "clock_nanosleep",
            name => name,
        };
        syscalls::number(name, compat)
    }
}

fn read() -> Vec<(u64, &'static str)> {
    let Ok(file) = File::open("/proc/kallsyms") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for line in BufReader::new(file).lines().map_while(Result::ok) {
        let mut parts = line.split_ascii_whitespace();
        let (Some(address), Some(_), Some(symbol)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        if let Some((_, call)) = RESTARTS.iter().find(|(function, _)| *function == symbol)
            && let Ok(address) = u64::from_str_radix(address, 16)
            && address != 0
        {
            found.push((address, *call));
        }
    }
    found
}
