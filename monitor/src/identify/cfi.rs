//! What the unwind information of a file says of an address in it.
//!
//! framehop walks the frames, but it does not tell whether it found the address in the tables or fell back to
//! guessing; it has no memory for expressions to look into, and sets them no bound; and it takes a signal's frame
//! for a call. So each address is looked up here first (once: the answer is kept), and what framehop cannot do is
//! done here: frames that a signal interrupted (`__restore_rt`), functions that align their stack, and entries of
//! the procedure linkage table.

mod frame;
mod plain;

use std::{cell::RefCell, collections::HashMap, ops::Range, sync::Arc};

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, EhFrame, EhFrameHdr, EndianSlice, FrameDescriptionEntry,
    LittleEndian, Register, RegisterRule, UnwindContext, UnwindSection, X86_64,
};

use super::elf::{Image, Section};
use frame::Frame;
pub use plain::Plain;

/// Addresses whose rows are kept for one file.
const MAX_ROWS: usize = 16 << 10;
/// Functions in the index of a file that has none itself.
const MAX_FUNCTIONS: usize = 1 << 20;

type Slice<'a> = EndianSlice<'a, LittleEndian>;

/// What unwind information says of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    /// Nothing.
    Uncovered,
    /// This is the outermost function.
    End,
    /// What framehop understands.
    Plain,
    /// What [`Cfi::step`] understands.
    Special,
}

/// The registers that are known of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    pub ip: u64,
    pub sp: u64,
    pub bp: u64,
    /// Of the innermost frame, where somebody asked the kernel.
    pub di: Option<u64>,
}

impl Known {
    fn get(&self, register: Register) -> Option<u64> {
        match register {
            X86_64::RA => Some(self.ip),
            X86_64::RSP => Some(self.sp),
            X86_64::RBP => Some(self.bp),
            X86_64::RDI => self.di,
            _ => None,
        }
    }
}

/// A step to the frame outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub registers: Known,
    /// A signal interrupted it: `ip` is where it was, not where a call returns to.
    pub interrupted: bool,
    /// Not what the tables say, but what the stack looks like.
    pub guessed: bool,
}

/// Unwind information of one file.
pub struct Cfi {
    frames: Frames,
    hdr: Option<Section>,
    bases: BaseAddresses,
    /// Beginnings of functions and where their entries are, where there is no usable `.eh_frame_hdr`.
    index: Vec<(u64, usize)>,
    rows: RefCell<HashMap<u64, Row>>,
    context: RefCell<UnwindContext<usize>>,
}

enum Frames {
    Eh(Section),
    Debug(Section),
}

impl Cfi {
    /// `None` when the file has none.
    pub fn new(image: &Image) -> Option<Self> {
        let frames = match (&image.eh_frame, &image.debug_frame) {
            (Some(section), _) => Frames::Eh(section.clone()),
            (None, Some(section)) => Frames::Debug(section.clone()),
            (None, None) => return None,
        };
        let mut bases = BaseAddresses::default();
        if let Some(text) = image.text {
            bases = bases.set_text(text);
        }
        if let Some(got) = image.got {
            bases = bases.set_got(got);
        }
        if let Some(section) = &image.eh_frame {
            bases = bases.set_eh_frame(section.address);
        }
        let hdr = match &frames {
            Frames::Eh(_) => image.eh_frame_hdr.clone(),
            Frames::Debug(_) => None,
        };
        if let Some(section) = &hdr {
            bases = bases.set_eh_frame_hdr(section.address);
        }
        let hdr = hdr.filter(|section| has_table(section, &bases));
        let index = match (&hdr, &frames) {
            (Some(_), _) => Vec::new(),
            (None, Frames::Eh(section)) => index(&eh_frame(section), &bases),
            (None, Frames::Debug(section)) => index(&debug_frame(section), &bases),
        };
        Some(Self {
            frames,
            hdr,
            bases,
            index,
            rows: RefCell::default(),
            context: RefCell::new(UnwindContext::new()),
        })
    }

    /// What can be told of an address of the file.
    pub fn row(&self, address: u64) -> Row {
        if let Some(row) = self.rows.borrow().get(&address) {
            return *row;
        }
        let row = match &self.frames {
            Frames::Eh(section) => self.classify(&eh_frame(section), address),
            Frames::Debug(section) => self.classify(&debug_frame(section), address),
        };
        let row = row.unwrap_or(Row::Uncovered);
        let mut rows = self.rows.borrow_mut();
        if rows.len() >= MAX_ROWS {
            rows.clear();
        }
        rows.insert(address, row);
        row
    }

    /// The frame outside of one whose row is [`Row::Special`]. `known` are the registers in it, `address` is where
    /// it is in the file, `word` reads the stack.
    pub fn step(&self, address: u64, known: Known, word: &mut dyn FnMut(u64) -> Option<u64>) -> Option<Step> {
        match &self.frames {
            Frames::Eh(section) => self.evaluate(&eh_frame(section), address, known, word),
            Frames::Debug(section) => self.evaluate(&debug_frame(section), address, known, word),
        }
    }

    /// From where to where the function goes that an address is in, by its entry.
    pub fn function_range(&self, address: u64) -> Option<Range<u64>> {
        fn range<S: gimli::Reader<Offset = usize>>(entry: &FrameDescriptionEntry<S>) -> Range<u64> {
            entry.initial_address()..entry.end_address()
        }
        match &self.frames {
            Frames::Eh(section) => Some(range(&self.entry(&eh_frame(section), address)?)),
            Frames::Debug(section) => Some(range(&self.entry(&debug_frame(section), address)?)),
        }
    }

    /// The sections as framehop wants them.
    pub fn eh_frame(&self) -> Option<&Arc<[u8]>> {
        match &self.frames {
            Frames::Eh(section) => Some(&section.data),
            Frames::Debug(_) => None,
        }
    }

    pub fn eh_frame_hdr(&self) -> Option<&Arc<[u8]>> {
        self.hdr.as_ref().map(|section| &section.data)
    }

    pub fn debug_frame(&self) -> Option<&Arc<[u8]>> {
        match &self.frames {
            Frames::Eh(_) => None,
            Frames::Debug(section) => Some(&section.data),
        }
    }

    /// How much the index takes.
    pub fn bytes(&self) -> usize {
        self.index.len() * size_of::<(u64, usize)>()
    }

    fn entry<'a, S: UnwindSection<Slice<'a>>>(
        &self,
        section: &S,
        address: u64,
    ) -> Option<FrameDescriptionEntry<Slice<'a>>> {
        let offset = match &self.hdr {
            Some(hdr) => {
                let hdr = EhFrameHdr::new(&hdr.data, LittleEndian)
                    .parse(&self.bases, 8)
                    .ok()?;
                let pointer = hdr.table()?.lookup(address, &self.bases).ok()?.direct().ok()?;
                pointer.checked_sub(hdr.eh_frame_ptr().direct().ok()?)? as usize
            }
            None => {
                let at = self.index.partition_point(|(start, _)| *start <= address);
                self.index.get(at.checked_sub(1)?)?.1
            }
        };
        let entry = section
            .fde_from_offset(&self.bases, S::Offset::from(offset), S::cie_from_offset)
            .ok()?;
        entry.contains(address).then_some(entry)
    }

    fn classify<'a, S: UnwindSection<Slice<'a>>>(&self, section: &S, address: u64) -> Option<Row> {
        let entry = self.entry(section, address)?;
        let mut context = self.context.borrow_mut();
        let row = entry
            .unwind_info_for_address(section, &self.bases, &mut *context, address)
            .ok()?;
        let return_address = row.register(X86_64::RA);
        if matches!(return_address, None | Some(RegisterRule::Undefined)) {
            return Some(Row::End);
        }
        let plain_cfa = matches!(
            row.cfa(),
            CfaRule::RegisterAndOffset { register, .. } if matches!(*register, X86_64::RSP | X86_64::RBP)
        );
        let plain_bp = matches!(
            row.register(X86_64::RBP),
            None | Some(RegisterRule::Undefined | RegisterRule::SameValue | RegisterRule::Offset(_))
        );
        let plain_return = return_address == Some(RegisterRule::Offset(-8));
        let plain = plain_cfa && plain_bp && plain_return && !entry.is_signal_trampoline();
        Some(if plain { Row::Plain } else { Row::Special })
    }

    fn evaluate<'a, S: UnwindSection<Slice<'a>>>(
        &self,
        section: &S,
        address: u64,
        known: Known,
        word: &mut dyn FnMut(u64) -> Option<u64>,
    ) -> Option<Step> {
        let entry = self.entry(section, address)?;
        let mut context = self.context.borrow_mut();
        let row = entry
            .unwind_info_for_address(section, &self.bases, &mut *context, address)
            .ok()?;
        let mut frame = Frame {
            section,
            encoding: entry.cie().encoding(),
            known,
            cfa: 0,
            word,
        };
        frame.cfa = frame.cfa(row.cfa())?;
        let ip = frame.recover(row.register(X86_64::RA), None)?;
        let bp = match row.register(X86_64::RBP) {
            None => known.bp,
            rule => frame.recover(rule, Some(known.bp)).unwrap_or(known.bp),
        };
        let sp = match row.register(X86_64::RSP) {
            None => frame.cfa,
            rule => frame.recover(rule, None)?,
        };
        Some(Step {
            registers: Known { ip, sp, bp, di: None },
            interrupted: entry.is_signal_trampoline(),
            guessed: false,
        })
    }
}

fn eh_frame(section: &Section) -> EhFrame<Slice<'_>> {
    let mut frames = EhFrame::new(&section.data, LittleEndian);
    frames.set_address_size(8);
    frames
}

fn debug_frame(section: &Section) -> DebugFrame<Slice<'_>> {
    let mut frames = DebugFrame::new(&section.data, LittleEndian);
    frames.set_address_size(8);
    frames
}

fn has_table(hdr: &Section, bases: &BaseAddresses) -> bool {
    let hdr = EhFrameHdr::new(&hdr.data, LittleEndian).parse(bases, 8);
    hdr.is_ok_and(|hdr| hdr.table().is_some())
}

fn index<'a, S: UnwindSection<Slice<'a>>>(section: &S, bases: &BaseAddresses) -> Vec<(u64, usize)> {
    let mut functions = Vec::new();
    let mut entries = section.entries(bases);
    // What is behind a broken entry is not known.
    while let Ok(Some(entry)) = entries.next() {
        let CieOrFde::Fde(partial) = entry else {
            continue;
        };
        let Ok(entry) = partial.parse(S::cie_from_offset) else {
            continue;
        };
        if functions.len() == MAX_FUNCTIONS {
            break;
        }
        functions.push((entry.initial_address(), entry.offset()));
    }
    functions.sort_unstable();
    functions
}

#[cfg(test)]
mod tests;
