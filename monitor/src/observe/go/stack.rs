//! A goroutine's stack: the return addresses on it.
//!
//! Go keeps frame pointers on amd64, which tell most stacks at little cost: enough to see that a thousand goroutines
//! stand at the same place. Where the chain does not lead to the goroutine's beginning (a callback from C, a system
//! call before Go 1.23) the table of functions says how large each frame is, as the runtime itself unwinds.
//!
//! Addresses are the linker's in what comes out, the process's in what goes in.

use serde::{Deserialize, Serialize};

use super::{
    goroutine::{Goroutine, Status},
    pclntab::Pclntab,
    space::{Space, word},
};

/// Return addresses of one stack; what lies further out is left out.
pub const MAX_PCS: usize = 256;

/// The used part of a goroutine's stack, as it was copied.
pub struct Copied<'a> {
    pub goroutine: &'a Goroutine,
    /// From its stack pointer upwards.
    pub bytes: &'a [u8],
    /// How far behind the linker's addresses the process has the program.
    pub bias: u64,
    /// Where every goroutine's outermost frame returns to.
    pub goexit: &'a std::ops::Range<u64>,
}

/// Where a stack's frames stand, innermost first: the first is an instruction, the others are return addresses.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pcs {
    pub pcs: Vec<u64>,
    /// The way did not lead to the goroutine's beginning.
    pub truncated: bool,
}

impl Copied<'_> {
    /// By frame pointers where these lead to the end, else by the table.
    pub fn unwind<S: Space>(&self, functions: &Pclntab<S>) -> Pcs {
        match self.by_frame_pointers() {
            Some(pcs) => Pcs {
                pcs,
                truncated: false,
            },
            None => self.by_table(functions),
        }
    }

    /// The word at an address of the process.
    fn word(&self, address: u64) -> Option<u64> {
        word(
            self.bytes,
            usize::try_from(address.checked_sub(self.goroutine.sp)?).ok()?,
        )
    }

    fn own(&self, pc: u64) -> u64 {
        pc.wrapping_sub(self.bias)
    }

    /// `None` where the chain breaks.
    fn by_frame_pointers(&self) -> Option<Vec<u64>> {
        // Before Go 1.23 a system call kept none.
        if self.goroutine.status == Status::Syscall && self.goroutine.bp == 0 {
            return None;
        }
        let mut pcs = vec![self.own(self.goroutine.pc)];
        let mut frame = self.goroutine.bp;
        while pcs.len() < MAX_PCS {
            let next = self.word(frame)?;
            let pc = self.own(self.word(frame.checked_add(8)?)?);
            if self.goexit.contains(&pc) {
                return Some(pcs);
            }
            pcs.push(pc);
            // They rise, or the chain has a cycle.
            if next <= frame {
                return None;
            }
            frame = next;
        }
        None
    }

    fn by_table<S: Space>(&self, functions: &Pclntab<S>) -> Pcs {
        let (mut sp, mut pc) = (self.goroutine.sp, self.own(self.goroutine.pc));
        let mut pcs = Vec::new();
        let truncated = |pcs| Pcs { pcs, truncated: true };
        while pcs.len() < MAX_PCS {
            if self.goexit.contains(&pc) {
                return Pcs {
                    pcs,
                    truncated: false,
                };
            }
            let Some(function) = functions.function(pc) else {
                return truncated(pcs);
            };
            // A return address belongs to the call before it.
            let at = if pcs.is_empty() { pc } else { pc.wrapping_sub(1) };
            pcs.push(pc);
            let size = functions.frame_size(&function, at);
            let Some(place) = size.and_then(|size| sp.checked_add(size)) else {
                return truncated(pcs);
            };
            let (Some(next), Some(above)) = (self.word(place), place.checked_add(8)) else {
                return truncated(pcs);
            };
            (pc, sp) = (self.own(next), above);
        }
        truncated(pcs)
    }
}
