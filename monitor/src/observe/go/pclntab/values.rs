//! Values that hold for some bytes of code each: the tables that `runtime.pcvalue` reads.

use crate::observe::memory::space::{Space, SpaceExt as _};

/// Steps of one pc-value table: more than the instructions of the longest function.
const MAX_STEPS: usize = 1 << 18;

/// The value of a table, one of those at `tables`, at an address: pairs of varints, how the value changes (zigzag) and for
/// how many bytes of code it then holds (`runtime.pcvalue`).
pub fn at(space: &impl Space, tables: u64, table: u32, entry: u64, pc: u64) -> Option<i32> {
    if table == 0 {
        return None;
    }
    let mut values = Varints::new(space, tables.checked_add(table.into())?);
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
