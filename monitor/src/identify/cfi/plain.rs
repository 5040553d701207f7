//! Unwind information so plain that others can follow it: the kernel side does.

use gimli::{CfaRule, EhFrameHdr, LittleEndian, RegisterRule, UnwindSection, X86_64};

use super::{Cfi, Frames, Slice, debug_frame, eh_frame};

/// How to get from a frame to the one outside, whose return address stands right below where its stack pointer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plain {
    /// `cfa` counts from the frame pointer, not the stack pointer.
    pub from_bp: bool,
    /// To where the stack pointer is in the frame outside.
    pub cfa: i32,
    /// From there to where the frame pointer was saved; 0: it is what it was.
    pub bp: i32,
}

impl Cfi {
    /// `None` where it is not so plain.
    pub fn plain(&self, address: u64) -> Option<Plain> {
        match &self.frames {
            Frames::Eh(section) => self.plain_in(&eh_frame(section), address),
            Frames::Debug(section) => self.plain_in(&debug_frame(section), address),
        }
    }

    fn plain_in<'a, S: UnwindSection<Slice<'a>>>(&self, section: &S, address: u64) -> Option<Plain> {
        let entry = self.entry(section, address)?;
        let mut context = self.context.borrow_mut();
        let row = entry
            .unwind_info_for_address(section, &self.bases, &mut *context, address)
            .ok()?;
        let is_return = row.register(X86_64::RA) == Some(RegisterRule::Offset(-8));
        if !is_return || entry.is_signal_trampoline() {
            return None;
        }
        let (from_bp, cfa) = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } if *register == X86_64::RSP => (false, *offset),
            CfaRule::RegisterAndOffset { register, offset } if *register == X86_64::RBP => (true, *offset),
            _ => return None,
        };
        let bp = match row.register(X86_64::RBP) {
            None | Some(RegisterRule::Undefined | RegisterRule::SameValue) => 0,
            Some(RegisterRule::Offset(offset)) => offset,
            Some(_) => return None,
        };
        Some(Plain {
            from_bp,
            cfa: i32::try_from(cfa).ok()?,
            bp: i32::try_from(bp).ok()?,
        })
    }

    /// Beginnings of functions, so many at most.
    pub fn functions(&self, most: usize) -> Vec<u64> {
        if let Some(hdr) = &self.hdr {
            let Ok(hdr) = EhFrameHdr::new(&hdr.data, LittleEndian).parse(&self.bases, 8) else {
                return Vec::new();
            };
            let Some(table) = hdr.table() else {
                return Vec::new();
            };
            let mut entries = table.iter(&self.bases);
            let mut functions = Vec::new();
            while functions.len() < most
                && let Ok(Some((beginning, _))) = entries.next()
            {
                functions.extend(beginning.direct().ok());
            }
            return functions;
        }
        self.index
            .iter()
            .take(most)
            .map(|(beginning, _)| *beginning)
            .collect()
    }
}
