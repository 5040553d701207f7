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
};
use crate::observe::memory::space::{Space, word};

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

/// What unwinding tells. It is overwritten: thousands of stacks are unwound, and few differ.
#[derive(Debug, Default)]
pub struct Unwound {
    pub pcs: Pcs,
    /// Where each of the return addresses lies, that of the outermost frame included.
    pub places: Vec<u64>,
}

impl Unwound {
    fn clear(&mut self) {
        self.places.clear();
        self.pcs.pcs.clear();
    }
}

/// Where a stack's frames stand, innermost first: the first is an instruction, the others are return addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pcs {
    pub pcs: Vec<u64>,
    /// The way did not lead to the goroutine's beginning.
    pub truncated: bool,
}

impl Copied<'_> {
    /// By frame pointers where these lead to the end, else by the table.
    pub fn unwind<S: Space>(&self, functions: &Pclntab<S>, told: &mut Unwound) {
        told.pcs.truncated =
            self.by_frame_pointers(told).is_none() && self.by_table(functions, told).is_none();
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
    fn by_frame_pointers(&self, told: &mut Unwound) -> Option<()> {
        // Before Go 1.23 a system call kept none.
        if self.goroutine.status == Status::Syscall && self.goroutine.bp == 0 {
            return None;
        }
        told.clear();
        told.pcs.pcs.push(self.own(self.goroutine.pc));
        let mut frame = self.goroutine.bp;
        while told.pcs.pcs.len() < MAX_PCS {
            let next = self.word(frame)?;
            let place = frame.checked_add(8)?;
            let pc = self.own(self.word(place)?);
            told.places.push(place);
            if self.goexit.contains(&pc) {
                return Some(());
            }
            told.pcs.pcs.push(pc);
            // They rise, or the chain has a cycle.
            if next <= frame {
                return None;
            }
            frame = next;
        }
        None
    }

    /// `None` where it does not lead to the goroutine's beginning.
    fn by_table<S: Space>(&self, functions: &Pclntab<S>, told: &mut Unwound) -> Option<()> {
        let (mut sp, mut pc) = (self.goroutine.sp, self.own(self.goroutine.pc));
        told.clear();
        while told.pcs.pcs.len() < MAX_PCS {
            if self.goexit.contains(&pc) {
                return Some(());
            }
            let function = functions.function(pc)?;
            // A return address belongs to the call before it.
            let at = if told.places.is_empty() {
                pc
            } else {
                pc.wrapping_sub(1)
            };
            told.pcs.pcs.push(pc);
            let place = sp.checked_add(functions.frame_size(&function, at)?)?;
            (pc, sp) = (self.own(self.word(place)?), place.checked_add(8)?);
            told.places.push(place);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::pclntab::Header, *};
    use crate::observe::memory::space::Flat;

    const GOEXIT: std::ops::Range<u64> = 0x50_0000..0x50_0010;

    /// Waiting at `0x40_0001`, its frame pointer at the bottom of a stack of these words.
    fn unwind(words: &[u64], status: Status, bp: u64) -> Unwound {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let goroutine = Goroutine {
            address: 0xc000,
            id: 7,
            status,
            reason: 14,
            seq: 1,
            wait_since: 0,
            gopc: 0,
            startpc: 0,
            parent: 0,
            is_locked: false,
            is_leaked: false,
            bubble: 0,
            labels: 0,
            waiting: 0,
            stack: 0x1000..0x1000 + bytes.len() as u64,
            sp: 0x1000,
            pc: 0x40_0001,
            bp,
            m: 0,
        };
        // No table: what frame pointers do not tell is not known.
        let empty = Flat {
            base: 0x9000,
            bytes: [[0xf1, 0xff, 0xff, 0xff, 0, 0, 1, 8], 1_u64.to_le_bytes()]
                .concat()
                .into_iter()
                .chain([0; 16])
                .chain([72_u64; 5].iter().flat_map(|word| word.to_le_bytes()))
                .chain([0; 64])
                .collect(),
        };
        let header = Header::read(&empty, 0x9000).unwrap();
        let functions = Pclntab::new(empty, header, 0x40_0000, 0);
        let copied = Copied {
            goroutine: &goroutine,
            bytes: &bytes,
            bias: 0,
            goexit: &GOEXIT,
        };
        let mut told = Unwound {
            pcs: Pcs {
                pcs: vec![7],
                truncated: true,
            },
            places: vec![8],
        };
        copied.unwind(&functions, &mut told);
        told
    }

    #[test]
    fn frame_pointers_lead_to_the_beginning() {
        let words = [0x1010, 0x40_0002, 0x1020, 0x40_0003, 0, GOEXIT.start + 1];
        let told = unwind(&words, Status::Waiting, 0x1000);
        assert_eq!(told.pcs.pcs, [0x40_0001, 0x40_0002, 0x40_0003]);
        assert_eq!(told.places, [0x1008, 0x1018, 0x1028]);
        assert!(!told.pcs.truncated);
    }

    #[test]
    fn where_they_lead_nowhere_the_stack_is_cut() {
        for (words, bp) in [
            // In a circle; out of the stack; to its very end; from nowhere.
            ([0x1010, 2, 0x1000, 3], 0x1000),
            ([0x8000, 2, 0, 3], 0x1000),
            ([0x1018, 2, 0, 3], 0x1000),
            ([0x1010, 2, 0, 3], u64::MAX),
        ] {
            assert!(unwind(&words, Status::Waiting, bp).pcs.truncated, "{words:x?}");
        }
        // A system call before Go 1.23 keeps no frame pointer.
        assert!(unwind(&[0, GOEXIT.start], Status::Syscall, 0).pcs.truncated);
    }

    proptest! {
        #[test]
        fn any_stack_ends(words in prop::collection::vec(0x1000_u64..0x2000, 0..600), bp in 0x1000_u64..0x2000) {
            let told = unwind(&words, Status::Waiting, bp);
            prop_assert!(told.pcs.pcs.len() <= MAX_PCS);
        }
    }
}
