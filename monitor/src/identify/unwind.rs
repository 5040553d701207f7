//! From frame to frame: framehop where unwind information is plain, [`Cfi::step`](super::cfi::Cfi::step) where it
//! is not, and [`guess`] where there is none.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
};

use framehop::{FrameAddress, Unwinder as _, x86_64::UnwindRegsX86_64};

use super::{
    cfi::{Known, Row, Step},
    guess::{self, Surroundings},
    inspector::Target,
    module::Missing,
    stack_memory::{StackMemory, is_plausible},
};

/// `mov $15, %rax; syscall`: what a signal handler returns to (rt_sigreturn), in every libc.
const SIGRETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
/// Places of registers in `struct ucontext` (arch/x86/include/uapi/asm/sigcontext.h), to which the stack pointer
/// points when a handler has returned.
const SAVED_BP: u64 = 40 + 10 * 8;
const SAVED_SP: u64 = 40 + 15 * 8;
const SAVED_IP: u64 = 40 + 16 * 8;
/// Functions that nothing has called, of C libraries without unwind information.
const ROOTS: [&str; 7] = [
    "__clone",
    "clone",
    "__clone3",
    "clone3",
    "_start",
    "_start_c",
    // musl's __libc_start_main jumps to it.
    "libc_start_main_stage2",
];

/// An address on a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// That of an instruction of the function: of the call, where one is under way.
    pub address: u64,
    /// Found by a guess.
    pub guessed: bool,
}

/// The places of a stack, innermost first.
#[derive(Debug, Default)]
pub struct Walk {
    pub places: Vec<Place>,
    /// The last one is the outermost.
    pub complete: bool,
}

/// Walks a stack of at most `max` frames.
pub fn walk(target: &mut Target<'_>, memory: &mut StackMemory<'_>, known: Known, max: usize) -> Walk {
    let mut walk = Walk::default();
    let mut now = Step {
        registers: known,
        interrupted: true,
        guessed: false,
    };
    while walk.places.len() < max {
        let address = lookup(&now);
        walk.places.push(Place {
            address,
            guessed: now.guessed,
        });
        match next(target, memory, &now) {
            Next::Step(step) => {
                // A signal's handler returns to the beginning of the function that ends it.
                if let Some(place) = walk.places.last_mut().filter(|_| step.interrupted) {
                    place.address = now.registers.ip;
                }
                now = step;
            }
            Next::End => {
                walk.complete = true;
                break;
            }
            Next::Lost => break,
        }
    }
    walk
}

enum Next {
    Step(Step),
    /// This was the outermost frame.
    End,
    /// There is more, but no way to it.
    Lost,
}

/// An address within the instruction that is under way: what a call returns to may be another function already,
/// when the called one never returns.
fn lookup(step: &Step) -> u64 {
    match step.interrupted {
        true => step.registers.ip,
        false => step.registers.ip.wrapping_sub(1),
    }
}

fn next(target: &mut Target<'_>, memory: &mut StackMemory<'_>, now: &Step) -> Next {
    let address = lookup(now);
    let row = match target.place(address) {
        None => return Next::Lost,
        Some(Err(Missing::ThirtyTwoBit)) => return Next::Lost,
        Some(Err(Missing::Anonymous | Missing::Unreadable)) => Row::Uncovered,
        Some(Ok(placed)) => match &placed.module.cfi {
            Some(cfi) => cfi.row(address.wrapping_sub(placed.bias)),
            None => Row::Uncovered,
        },
    };
    let told = match row {
        Row::End => return Next::End,
        Row::Plain => plain(target, memory, now),
        Row::Special => special(target, memory, now),
        Row::Uncovered => return uncovered(target, memory, now),
    };
    match told {
        Some(step) if step.registers.ip == 0 => Next::End,
        Some(step) if leads_on(target, now, &step) => Next::Step(step),
        // A register that was guessed wrong makes the tables tell nonsense.
        _ => guessed(target, memory, now),
    }
}

/// Whether a step leads to code, and up the stack.
fn leads_on(target: &Target<'_>, now: &Step, step: &Step) -> bool {
    // A signal may have come while another stack was in use.
    let up = step.interrupted || step.registers.sp > now.registers.sp;
    // `vfork` of glibc has taken its return address off the stack.
    let still = now.interrupted && step.registers.sp == now.registers.sp;
    (up || still) && target.process.code_at(lookup(step)).is_some()
}

fn plain(target: &mut Target<'_>, memory: &mut StackMemory<'_>, now: &Step) -> Option<Step> {
    let Known { ip, sp, bp, .. } = now.registers;
    let address = match now.interrupted {
        true => FrameAddress::from_instruction_pointer(ip),
        false => FrameAddress::from_return_address(ip)?,
    };
    let mut registers = UnwindRegsX86_64::new(ip, sp, bp);
    let mut read = |address| memory.word(address).ok_or(());
    let process = &mut *target.process;
    // Its sums are not checked for overflow (0.16, dwarf.rs), and in a debug build that is a panic.
    let unwound = catch_unwind(AssertUnwindSafe(|| {
        process
            .unwinder
            .unwind_frame(address, &mut registers, &mut process.rules, &mut read)
    }));
    let ip = unwound.ok()?.ok()?.unwrap_or(0);
    Some(Step {
        registers: Known {
            ip,
            sp: registers.sp(),
            bp: registers.bp(),
            di: None,
        },
        interrupted: false,
        guessed: false,
    })
}

fn special(target: &mut Target<'_>, memory: &mut StackMemory<'_>, now: &Step) -> Option<Step> {
    let address = lookup(now);
    let placed = target.place(address)?.ok()?;
    let cfi = placed.module.cfi.as_ref()?;
    let known = Known {
        di: if now.interrupted {
            first_argument(target.tid, &now.registers)
        } else {
            None
        },
        ..now.registers
    };
    cfi.step(address.wrapping_sub(placed.bias), known, &mut |address| {
        memory.word(address)
    })
}

/// What a thread has in %rdi that waits in a system call: `vfork` of glibc keeps its return address there
/// (sysdeps/unix/sysv/linux/x86_64/vfork.S). `/proc/TID/syscall`: number, six arguments, stack and instruction
/// pointer.
fn first_argument(tid: u32, known: &Known) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{tid}/syscall")).ok()?;
    let words: Vec<&str> = text.split_ascii_whitespace().collect();
    let word = |index: usize| u64::from_str_radix(words.get(index)?.strip_prefix("0x")?, 16).ok();
    let same = (word(7)?, word(8)?) == (known.sp, known.ip);
    word(1).filter(|_| same)
}

fn uncovered(target: &mut Target<'_>, memory: &mut StackMemory<'_>, now: &Step) -> Next {
    if let Some(step) = sigreturn(memory, now) {
        return match leads_on(target, now, &step) {
            true => Next::Step(step),
            false => Next::Lost,
        };
    }
    if target
        .function(lookup(now))
        .is_some_and(|name| ROOTS.contains(&name.as_str()))
    {
        return Next::End;
    }
    guessed(target, memory, now)
}

/// The frame that a signal interrupted, where no unwind information tells of it (musl).
fn sigreturn(memory: &mut StackMemory<'_>, now: &Step) -> Option<Step> {
    let mut code = [0; SIGRETURN.len()];
    if now.interrupted || !memory.code(now.registers.ip, &mut code) || code != SIGRETURN {
        return None;
    }
    let saved = |place| now.registers.sp.checked_add(place);
    Some(Step {
        registers: Known {
            ip: memory.word(saved(SAVED_IP)?)?,
            sp: memory.word(saved(SAVED_SP)?)?,
            bp: memory.word(saved(SAVED_BP)?)?,
            di: None,
        },
        interrupted: true,
        guessed: now.guessed,
    })
}

fn guessed(target: &mut Target<'_>, memory: &mut StackMemory<'_>, now: &Step) -> Next {
    let Known { sp, bp, .. } = now.registers;
    let mut around = Around { target, memory };
    match guess::caller(lookup(now), sp, bp, &mut around) {
        Some(caller) => Next::Step(Step {
            registers: Known {
                ip: caller.return_address,
                sp: caller.sp,
                bp: caller.bp,
                di: None,
            },
            interrupted: false,
            guessed: caller.scanned,
        }),
        // A frame pointer of 0 is how threads and run-time systems mark their outermost frame.
        None if bp == 0 && !now.interrupted && !now.guessed => Next::End,
        None => Next::Lost,
    }
}

struct Around<'a, 'b, 'c> {
    target: &'a mut Target<'b>,
    memory: &'a mut StackMemory<'c>,
}

impl Surroundings for Around<'_, '_, '_> {
    fn word(&mut self, address: u64) -> Option<u64> {
        self.memory.word(address)
    }

    fn is_code(&mut self, address: u64) -> bool {
        is_plausible(address) && self.target.process.code_at(address).is_some()
    }

    fn is_made(&mut self, address: u64) -> bool {
        matches!(self.target.place(address), Some(Err(Missing::Anonymous)))
    }

    fn code(&mut self, address: u64, bytes: &mut [u8]) -> bool {
        self.memory.code(address, bytes)
    }

    fn function_start(&mut self, address: u64) -> Option<u64> {
        self.target.function_start(address)
    }
}
