//! Go's table of functions: names, files and lines, inlined calls, and how far the stack pointer is from the return
//! address at each instruction. It is in every binary, stripped or not: the runtime itself unwinds by it.
//!
//! runtime/symtab.go (`pcHeader`, `_func`, `pcvalue`, `funcdata`), runtime/symtabinl.go and cmd/link/internal/ld/pcln.go
//! (Go 1.18 to 1.27). All addresses are the linker's.

use crate::observe::memory::space::{Space, SpaceExt as _, half, word};

/// Go 1.18 and 1.19, and from 1.20 on (`_func.startLine`, a shorter entry of the inline tree).
const MAGICS: [(u32, Format); 2] = [(0xffff_fff1, Format::Go120), (0xffff_fff0, Format::Go118)];
/// Steps of code are of one byte, pointers of eight.
const AMD64: [u8; 4] = [0, 0, 1, 8];
/// `pcHeader` up to and with `pclnOffset`.
const HEADER: u64 = 72;
/// No program known has a tenth of it.
const MAX_FUNCTIONS: u64 = 4 << 20;
/// Bytes of the table of names.
const MAX_NAMES: u64 = 256 << 20;
/// Steps of one pc-value table: more than the instructions of the longest function.
const MAX_STEPS: usize = 1 << 18;
/// Inlined calls in one another; the compiler's budget ends far below.
const MAX_INLINED: usize = 100;

/// `internal/abi/symtab.go`: indices of a function's tables.
const PCDATA_INLINE_INDEX: u32 = 2;
const FUNCDATA_INLINE_TREE: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Go118,
    Go120,
}

/// `runtime.pcHeader`: where the parts of the table are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub address: u64,
    format: Format,
    count: u64,
    pub names: u64,
    units: u64,
    files: u64,
    values: u64,
    pub functions: u64,
}

impl Header {
    /// The bytes that it begins with.
    pub fn patterns() -> impl Iterator<Item = [u8; 8]> {
        MAGICS.iter().map(|(magic, _)| {
            let [a, b, c, d] = magic.to_le_bytes();
            let [e, f, g, h] = AMD64;
            [a, b, c, d, e, f, g, h]
        })
    }

    /// The header at an address, if it is one.
    pub fn read(space: &impl Space, address: u64) -> Option<Self> {
        let bytes: [u8; HEADER as usize] = space.array(address)?;
        let magic = half(&bytes, 0)?;
        let (_, format) = MAGICS.iter().find(|(known, _)| *known == magic)?;
        let word = |index: usize| word(&bytes, 8 * index);
        // The third word is `textStart`, which Go 1.26 no longer fills in.
        let offsets = [word(4)?, word(5)?, word(6)?, word(7)?, word(8)?];
        let rises = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        let count = word(1)?;
        if bytes[4..8] != AMD64 || !rises || offsets[0] < 0x40 || count == 0 || count > MAX_FUNCTIONS {
            return None;
        }
        let [names, units, files, values, functions] = offsets.map(|offset| address.checked_add(offset));
        Some(Self {
            address,
            format: *format,
            count,
            names: names?,
            units: units?,
            files: files?,
            values: values?,
            functions: functions?,
        })
    }
}

/// A function of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub entry: u64,
    /// Of the next function.
    pub end: u64,
    name: i32,
    sp_table: u32,
    file_table: u32,
    line_table: u32,
    unit: u32,
    /// `internal/abi.FuncID`: what the runtime does with it.
    pub id: u8,
    pcdata_count: u32,
    funcdata_count: u8,
    /// Where its lists of tables begin.
    lists: u64,
}

/// A call as the program's text has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub function: String,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub id: u8,
    pub inlined: bool,
}

/// The whole table.
pub struct Pclntab<S> {
    space: S,
    header: Header,
    /// `moduledata.text` and `.gofunc`: what offsets of functions and of their data count from.
    text: u64,
    gofunc: u64,
}

impl<S: Space> Pclntab<S> {
    pub fn new(space: S, header: Header, text: u64, gofunc: u64) -> Self {
        Self {
            space,
            header,
            text,
            gofunc,
        }
    }

    pub fn space(&self) -> &S {
        &self.space
    }

    /// The function that an address lies in.
    pub fn function(&self, pc: u64) -> Option<Function> {
        let offset = u32::try_from(pc.checked_sub(self.text)?).ok()?;
        let (mut low, mut high) = (0, self.header.count);
        // The last entry is the end of the text.
        if offset < self.index(0)?.0 || offset >= self.index(self.header.count)?.0 {
            return None;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.index(middle)?.0 <= offset {
                low = middle;
            } else {
                high = middle;
            }
        }
        self.nth(low)
    }

    /// The functions of these names, in their order.
    pub fn find<const N: usize>(&self, names: [&str; N]) -> [Option<Function>; N] {
        let wanted = names.map(|name| self.find_name(name));
        let mut found = [const { None }; N];
        for number in 0..self.header.count {
            let Some((_, offset)) = self.index(number) else {
                break;
            };
            let name = self.name_offset(offset).map(i64::from);
            let index = wanted
                .iter()
                .position(|wanted| wanted.is_some() && *wanted == name);
            if let Some(index) = index
                && found[index].is_none()
            {
                found[index] = self.nth(number);
                if found
                    .iter()
                    .zip(&wanted)
                    .all(|(found, wanted)| found.is_some() || wanted.is_none())
                {
                    break;
                }
            }
        }
        found
    }

    /// Where a name is in the table of names.
    fn find_name(&self, name: &str) -> Option<i64> {
        const STEP: u64 = 64 << 10;
        let mut pattern = name.as_bytes().to_vec();
        pattern.push(0);
        let finder = memchr::memmem::Finder::new(&pattern);
        let length = self.header.units.checked_sub(self.header.names)?.min(MAX_NAMES);
        let mut at = 0;
        while at < length {
            let read = (STEP + pattern.len() as u64).min(length - at);
            let bytes = self
                .space
                .some(self.header.names.checked_add(at)?, read as usize, 4096);
            for place in finder.find_iter(&bytes) {
                let offset = at + place as u64;
                let before = offset
                    .checked_sub(1)
                    .and_then(|at| self.space.array(self.header.names + at));
                // The end of a longer name is none.
                if offset == 0 || before == Some([0]) {
                    return i64::try_from(offset).ok();
                }
            }
            at += STEP;
        }
        None
    }

    pub fn name(&self, function: &Function) -> Option<String> {
        self.space.name(self.name_address(function.name)?)
    }

    /// File and line of an address in a function.
    pub fn line(&self, function: &Function, pc: u64) -> (Option<String>, Option<u32>) {
        let line = self.value(function.line_table, function.entry, pc);
        let line = line
            .and_then(|line| u32::try_from(line).ok())
            .filter(|line| *line > 0);
        (self.file(function, pc), line)
    }

    fn file(&self, function: &Function, pc: u64) -> Option<String> {
        let number = self.value(function.file_table, function.entry, pc)?;
        let number = u64::from(function.unit) + u64::try_from(number).ok()?;
        let offset = self.space.u32(self.header.units.checked_add(4 * number)?)?;
        self.space.name(self.header.files.checked_add(offset.into())?)
    }

    /// How far the return address lies above the stack pointer at an address of the function.
    pub fn frame_size(&self, function: &Function, pc: u64) -> Option<u64> {
        u64::try_from(self.value(function.sp_table, function.entry, pc)?).ok()
    }

    /// The calls that stand at an address, innermost first: inlined ones, and the function itself.
    pub fn calls(&self, function: &Function, mut pc: u64) -> Vec<Call> {
        let mut calls = Vec::new();
        if let Some(tree) = self.funcdata(function, FUNCDATA_INLINE_TREE) {
            let indices = self.pcdata(function, PCDATA_INLINE_INDEX).unwrap_or(0);
            while calls.len() < MAX_INLINED {
                let index = self.value(indices, function.entry, pc);
                let Some(inlined) = index.and_then(|index| self.inlined(tree, index)) else {
                    break;
                };
                let Some(name) = self
                    .name_address(inlined.name)
                    .and_then(|name| self.space.name(name))
                else {
                    break;
                };
                let (file, line) = self.line(function, pc);
                calls.push(Call {
                    function: name,
                    file,
                    line,
                    id: inlined.id,
                    inlined: true,
                });
                pc = function.entry.wrapping_add(inlined.parent_pc.into());
            }
        }
        let (file, line) = self.line(function, pc);
        calls.push(Call {
            function: self.name(function).unwrap_or_default(),
            file,
            line,
            id: function.id,
            inlined: false,
        });
        calls
    }

    /// Entry offset and place of a function's record: `moduledata.ftab`, which the function table begins with.
    fn index(&self, number: u64) -> Option<(u32, u32)> {
        let pair = self.space.u64(self.header.functions.checked_add(8 * number)?)?;
        Some((pair as u32, (pair >> 32) as u32))
    }

    fn name_offset(&self, offset: u32) -> Option<i32> {
        let address = self.header.functions.checked_add(offset.into())?;
        self.space.u32(address.checked_add(4)?).map(|name| name as i32)
    }

    fn name_address(&self, offset: i32) -> Option<u64> {
        self.header.names.checked_add(u64::try_from(offset).ok()?)
    }

    /// `runtime._func`.
    fn nth(&self, number: u64) -> Option<Function> {
        let (entry, offset) = self.index(number)?;
        let (end, _) = self.index(number + 1)?;
        let address = self.header.functions.checked_add(offset.into())?;
        let size: usize = match self.header.format {
            Format::Go118 => 40,
            Format::Go120 => 44,
        };
        let mut bytes = [0; 44];
        self.space.fill(address, &mut bytes[..size]).then_some(())?;
        let number = |at: usize| half(&bytes, at);
        // In both: funcID, flag, a byte of padding, nfuncdata.
        let [id, _, _, funcdata_count] = number(size - 4)?.to_le_bytes();
        Some(Function {
            entry: self.text.checked_add(entry.into())?,
            end: self.text.checked_add(end.into())?,
            name: number(4)? as i32,
            sp_table: number(16)?,
            file_table: number(20)?,
            line_table: number(24)?,
            pcdata_count: number(28)?,
            unit: number(32)?,
            id,
            funcdata_count,
            lists: address.checked_add(size as u64)?,
        })
    }

    fn pcdata(&self, function: &Function, index: u32) -> Option<u32> {
        if index >= function.pcdata_count {
            return None;
        }
        self.space.u32(function.lists.checked_add(4 * u64::from(index))?)
    }

    fn funcdata(&self, function: &Function, index: u32) -> Option<u64> {
        if index >= function.funcdata_count.into() {
            return None;
        }
        let at = u64::from(function.pcdata_count) + u64::from(index);
        let offset = self.space.u32(function.lists.checked_add(4 * at)?)?;
        if offset == u32::MAX {
            return None;
        }
        self.gofunc.checked_add(offset.into())
    }

    /// `runtime.inlinedCall`.
    fn inlined(&self, tree: u64, index: i32) -> Option<Inlined> {
        let index = u64::try_from(index).ok()?;
        match self.header.format {
            // parent int16, funcID, _, file, line, func, parentPc int32
            Format::Go118 => {
                let bytes: [u8; 20] = self.space.array(tree.checked_add(20 * index)?)?;
                Some(Inlined {
                    id: bytes[2],
                    name: half(&bytes, 12)? as i32,
                    parent_pc: half(&bytes, 16)?,
                })
            }
            // funcID, _, _, _, nameOff, parentPc, startLine int32
            Format::Go120 => {
                let bytes: [u8; 16] = self.space.array(tree.checked_add(16 * index)?)?;
                Some(Inlined {
                    id: bytes[0],
                    name: half(&bytes, 4)? as i32,
                    parent_pc: half(&bytes, 8)?,
                })
            }
        }
    }

    /// The value of a table at an address: pairs of varints, how the value changes (zigzag) and for how many bytes
    /// of code it then holds (`runtime.pcvalue`).
    fn value(&self, table: u32, entry: u64, pc: u64) -> Option<i32> {
        if table == 0 {
            return None;
        }
        let mut values = Varints::new(&self.space, self.header.values.checked_add(table.into())?);
        let (mut value, mut at) = (-1_i32, entry);
        for step in 0..MAX_STEPS {
            let change = values.next()?;
            if change == 0 && step > 0 {
                return None;
            }
            let change = (change >> 1) as i32 ^ -((change & 1) as i32);
            value = value.wrapping_add(change);
            at = at.checked_add(values.next()?.into())?;
            if pc < at {
                return Some(value);
            }
        }
        None
    }
}

struct Inlined {
    id: u8,
    name: i32,
    parent_pc: u32,
}

/// Reads varints one behind the other.
struct Varints<'a, S> {
    space: &'a S,
    next: u64,
    bytes: Vec<u8>,
    at: usize,
}

impl<'a, S: Space> Varints<'a, S> {
    const READ: usize = 64;

    fn new(space: &'a S, address: u64) -> Self {
        Self {
            space,
            next: address,
            bytes: Vec::new(),
            at: 0,
        }
    }

    fn byte(&mut self) -> Option<u8> {
        if self.at == self.bytes.len() {
            self.bytes = self.space.some(self.next, Self::READ, 1);
            self.next = self.next.checked_add(self.bytes.len() as u64)?;
            self.at = 0;
        }
        let byte = self.bytes.get(self.at).copied()?;
        self.at += 1;
        Some(byte)
    }

    fn next(&mut self) -> Option<u32> {
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
