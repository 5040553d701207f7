//! Whether a wait ends by itself. A timeout of [`LONG`] or more counts as none.

use std::time::Duration;

use super::syscalls::{Call, Timeout};

/// Nobody waits a day for a timeout: it is there for form's sake.
pub const LONG: Duration = Duration::from_secs(24 * 60 * 60);

/// `FUTEX_CLOCK_REALTIME` and the command mask of include/uapi/linux/futex.h.
const FUTEX_CLOCK_REALTIME: u64 = 256;
const FUTEX_CMD_MASK: u64 = 0x7f;
const TIMER_ABSTIME: u64 = 1;
/// include/uapi/linux/io_uring.h.
const IORING_ENTER_EXT_ARG: u64 = 1 << 3;
const IORING_ENTER_ABS_TIMER: u64 = 1 << 5;
/// Offset of `ts` in `struct io_uring_getevents_arg`.
const URING_TS: u64 = 16;

/// The clocks of the machine and the wait's beginning on the first of them, ns.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// CLOCK_MONOTONIC when the wait began.
    pub since: u64,
    /// CLOCK_REALTIME − CLOCK_MONOTONIC.
    pub realtime_offset: i128,
    /// CLOCK_BOOTTIME − CLOCK_MONOTONIC.
    pub boottime_offset: i128,
}

/// What a wait's arguments say of its timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// It has none, or a long one.
    Unbounded,
    /// It ends by itself.
    Bounded,
    /// The target's memory says it: read there with [`InMemory::bound`].
    InMemory(InMemory),
}

/// A timeout that lies in the target's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InMemory {
    pub address: u64,
    form: Form,
    narrow: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Relative {
        units_per_second: u32,
    },
    Absolute(libc::clockid_t),
    /// A pointer to the `timespec`, NULL for none.
    Pointer {
        absolute: bool,
    },
}

const TIMESPEC: Form = Form::Relative {
    units_per_second: 1_000_000_000,
};
const TIMEVAL: Form = Form::Relative {
    units_per_second: 1_000_000,
};

/// What the arguments say; total over all of them.
pub fn bound(call: &Call, args: &[u64; 6]) -> Bound {
    match call.timeout {
        Timeout::Never => Bound::Unbounded,
        Timeout::Millis(at) => millis(args[at] as i32),
        Timeout::Timespec(at) => pointer(args[at], TIMESPEC, call),
        Timeout::Timeval(at) => pointer(args[at], TIMEVAL, call),
        Timeout::Deadline(at, clock) => pointer(args[at], Form::Absolute(clock), call),
        Timeout::DeadlineOn(at, clock) => {
            pointer(args[at], Form::Absolute(args[clock] as libc::clockid_t), call)
        }
        Timeout::Futex => futex(call, args),
        Timeout::ClockNanosleep => {
            let absolute = args[1] & TIMER_ABSTIME != 0;
            let form = if absolute {
                Form::Absolute(args[0] as libc::clockid_t)
            } else {
                TIMESPEC
            };
            pointer(args[2], form, call)
        }
        Timeout::IoUring if args[3] & IORING_ENTER_EXT_ARG == 0 => Bound::Unbounded,
        Timeout::IoUring => {
            let form = Form::Pointer {
                absolute: args[3] & IORING_ENTER_ABS_TIMER != 0,
            };
            pointer(args[4].saturating_add(URING_TS), form, call)
        }
        // Nothing of today makes this call; its timeout is behind two pointers.
        Timeout::OldSelect => Bound::Bounded,
    }
}

fn millis(timeout: i32) -> Bound {
    match u64::try_from(timeout) {
        Ok(short) if Duration::from_millis(short) < LONG => Bound::Bounded,
        _ => Bound::Unbounded,
    }
}

fn pointer(address: u64, form: Form, call: &Call) -> Bound {
    if address == 0 {
        return Bound::Unbounded;
    }
    Bound::InMemory(InMemory {
        address,
        form,
        narrow: call.narrow_time,
    })
}

/// kernel/futex/syscalls.c: relative for WAIT alone; LOCK_PI is always on the realtime clock.
fn futex(call: &Call, args: &[u64; 6]) -> Bound {
    let realtime = args[1] & FUTEX_CLOCK_REALTIME != 0;
    let by_flag = if realtime {
        libc::CLOCK_REALTIME
    } else {
        libc::CLOCK_MONOTONIC
    };
    let form = match args[1] & FUTEX_CMD_MASK {
        0 => TIMESPEC,
        6 => Form::Absolute(libc::CLOCK_REALTIME),
        9 | 11 | 13 => Form::Absolute(by_flag),
        // Wakes and requeues have no timeout, whatever the argument holds.
        _ => return Bound::Unbounded,
    };
    pointer(args[3], form, call)
}

impl InMemory {
    /// Bytes to read at [`Self::address`].
    pub fn length(&self) -> usize {
        match self.form {
            Form::Pointer { .. } => 8,
            _ if self.narrow => 8,
            _ => 16,
        }
    }

    /// What the bytes say. `None` when they are too few.
    pub fn bound(&self, bytes: &[u8], clocks: &Clocks) -> Option<Bound> {
        if let Form::Pointer { absolute } = self.form {
            let address = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
            let form = if absolute {
                Form::Absolute(libc::CLOCK_MONOTONIC)
            } else {
                TIMESPEC
            };
            return Some(match address {
                0 => Bound::Unbounded,
                _ => Bound::InMemory(Self {
                    address,
                    form,
                    narrow: false,
                }),
            });
        }
        let (seconds, fraction) = self.words(bytes)?;
        let nanos = |units: i128| i128::from(seconds) * 1_000_000_000 + i128::from(fraction) * units;
        let length = match self.form {
            Form::Relative { units_per_second } => nanos(i128::from(1_000_000_000 / units_per_second)),
            Form::Absolute(clock) => {
                let offset = match clock {
                    libc::CLOCK_REALTIME => clocks.realtime_offset,
                    libc::CLOCK_BOOTTIME => clocks.boottime_offset,
                    _ => 0,
                };
                nanos(1) - offset - i128::from(clocks.since)
            }
            Form::Pointer { .. } => return None,
        };
        Some(if length >= LONG.as_nanos() as i128 {
            Bound::Unbounded
        } else {
            Bound::Bounded
        })
    }

    fn words(&self, bytes: &[u8]) -> Option<(i64, i64)> {
        if self.narrow {
            let word = |at: usize| Some(i32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
            return Some((word(0)?.into(), word(4)?.into()));
        }
        let word = |at: usize| Some(i64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Some((word(0)?, word(8)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::thread::syscalls::{lookup, number};

    const NULL: u64 = 0;
    const CLOCKS: Clocks = Clocks {
        since: 1_000_000_000_000,
        realtime_offset: 1_700_000_000_000_000_000,
        boottime_offset: 5_000_000_000,
    };

    fn of(name: &str, args: [u64; 6]) -> Bound {
        bound(&lookup(number(name, false).unwrap(), false), &args)
    }

    fn timespec(seconds: i64, nanos: i64) -> Vec<u8> {
        [seconds.to_le_bytes(), nanos.to_le_bytes()].concat()
    }

    #[test]
    fn null_is_untimed_wherever_the_timeout_is_a_pointer() {
        let at = |index: usize, value: u64| {
            let mut args = [7, 0, 7, 7, 7, 7];
            args[index] = value;
            args
        };
        for (name, index) in [
            ("select", 4),
            ("pselect6", 4),
            ("mq_timedsend", 4),
            ("mq_timedreceive", 4),
            ("io_getevents", 4),
            ("io_pgetevents", 4),
            ("semtimedop", 3),
            ("epoll_pwait2", 3),
            ("futex", 3),
            ("futex_waitv", 3),
            ("futex_wait", 4),
            ("ppoll", 2),
            ("rt_sigtimedwait", 2),
        ] {
            assert_eq!(of(name, at(index, NULL)), Bound::Unbounded, "{name}");
            assert!(matches!(of(name, at(index, 8)), Bound::InMemory(_)), "{name}");
        }
        assert_eq!(of("recvmmsg", [1; 6]), Bound::Unbounded);
    }

    #[test]
    fn any_negative_number_of_milliseconds_is_untimed() {
        for (name, at) in [("poll", 2), ("epoll_wait", 3), ("epoll_pwait", 3)] {
            let with = |timeout: i32| {
                let mut args = [0; 6];
                args[at] = timeout as u32 as u64;
                of(name, args)
            };
            assert_eq!(with(-1), Bound::Unbounded, "{name}");
            assert_eq!(with(i32::MIN), Bound::Unbounded, "{name}");
            assert_eq!(with(0), Bound::Bounded, "{name}");
            assert_eq!(with(86_399_999), Bound::Bounded, "{name}");
            assert_eq!(with(86_400_000), Bound::Unbounded, "{name}");
        }
    }

    #[test]
    fn wakes_have_no_timeout_whatever_the_argument_holds() {
        for cmd in [1, 3, 4, 5, 7, 10, 12] {
            assert_eq!(of("futex", [0, cmd, 0, 1, 0, 0]), Bound::Unbounded, "{cmd}");
        }
    }

    #[test]
    fn a_futex_deadline_is_on_the_clock_that_its_flag_names() {
        let day = 86_400;
        let bound_of = |op: u64, bytes: &[u8]| {
            let Bound::InMemory(memory) = of("futex", [0, op, 0, 8, 0, 0]) else {
                panic!("{op}")
            };
            memory.bound(bytes, &CLOCKS).unwrap()
        };
        // FUTEX_WAIT: relative.
        assert_eq!(bound_of(0x80, &timespec(day - 1, 0)), Bound::Bounded);
        assert_eq!(bound_of(0x80, &timespec(day, 0)), Bound::Unbounded);
        // FUTEX_WAIT_BITSET: a point in time, on CLOCK_MONOTONIC (the wait began at 1,000 s) …
        assert_eq!(bound_of(0x89, &timespec(1_000 + day - 1, 0)), Bound::Bounded);
        assert_eq!(bound_of(0x89, &timespec(1_000 + day, 0)), Bound::Unbounded);
        // … or on CLOCK_REALTIME.
        let began = 1_700_000_000 + 1_000;
        assert_eq!(bound_of(0x189, &timespec(began + day - 1, 0)), Bound::Bounded);
        assert_eq!(bound_of(0x189, &timespec(began + day, 0)), Bound::Unbounded);
        // FUTEX_LOCK_PI: on CLOCK_REALTIME without the flag.
        assert_eq!(bound_of(0x86, &timespec(began + 60, 0)), Bound::Bounded);
    }

    #[test]
    fn time_of_32_bit_programs_has_half_the_width() {
        let call = lookup(240, true);
        let Bound::InMemory(memory) = bound(&call, &[0, 0, 0, 8, 0, 0]) else {
            panic!()
        };
        assert_eq!(memory.length(), 8);
        let bytes = [86_400i32.to_le_bytes(), 0i32.to_le_bytes()].concat();
        assert_eq!(memory.bound(&bytes, &CLOCKS), Some(Bound::Unbounded));
    }

    #[test]
    fn io_uring_hides_its_timeout_behind_a_pointer() {
        assert_eq!(of("io_uring_enter", [3, 0, 1, 1, 0, 0]), Bound::Unbounded);
        let Bound::InMemory(outer) = of("io_uring_enter", [3, 0, 1, 1 | 8, 0x1000, 24]) else {
            panic!()
        };
        assert_eq!((outer.address, outer.length()), (0x1010, 8));
        assert_eq!(outer.bound(&0u64.to_le_bytes(), &CLOCKS), Some(Bound::Unbounded));
        let Some(Bound::InMemory(inner)) = outer.bound(&0x2000u64.to_le_bytes(), &CLOCKS) else {
            panic!()
        };
        assert_eq!(inner.bound(&timespec(5, 0), &CLOCKS), Some(Bound::Bounded));
    }

    #[test]
    fn hostile_times_do_not_overflow() {
        let Bound::InMemory(memory) = of("futex", [0, 0x189, 0, 8, 0, 0]) else {
            panic!()
        };
        for seconds in [i64::MIN, -1, i64::MAX] {
            for nanos in [i64::MIN, i64::MAX] {
                assert!(memory.bound(&timespec(seconds, nanos), &CLOCKS).is_some());
            }
        }
        assert_eq!(memory.bound(&[0; 15], &CLOCKS), None);
    }
}
