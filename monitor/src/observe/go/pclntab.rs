//! Go's table of functions: names, files and lines, inlined calls, and how far the stack pointer is from the return
//! address at each instruction. It is in every binary, stripped or not: the runtime itself unwinds by it.
//!
//! runtime/symtab.go (`pcHeader`, `_func`, `pcvalue`, `funcdata`), runtime/symtabinl.go and cmd/link/internal/ld/pcln.go
//! (Go 1.18 to 1.27). All addresses are the linker's.

mod header;
mod values;

use header::Format;
pub use header::Header;

use crate::observe::memory::space::{Space, SpaceExt as _, half};

/// Bytes of the table of names.
const MAX_NAMES: u64 = 256 << 20;
/// Inlined calls in one another; the compiler's budget ends far below.
const MAX_INLINED: usize = 100;

/// `internal/abi/symtab.go`: indices of a function's tables.
const PCDATA_INLINE_INDEX: u32 = 2;
const FUNCDATA_INLINE_TREE: u32 = 3;

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

    fn value(&self, table: u32, entry: u64, pc: u64) -> Option<i32> {
        values::at(&self.space, self.header.values, table, entry, pc)
    }
}

struct Inlined {
    id: u8,
    name: i32,
    parent_pc: u32,
}

#[cfg(test)]
mod tests;
