//! Reading another process's memory; only the helper process does it.

pub mod gather;
pub mod present;
pub mod space;

pub use gather::Memory;

use present::Pages;

/// The bytes, if all of them are in memory. `tid`: any live thread of the process.
pub fn read_present(tid: u32, address: u64, length: usize) -> Option<Vec<u8>> {
    let range = address..address.checked_add(length as u64)?;
    let parts = Pages::of(tid).ok()?.present(range.clone()).ok()?;
    if parts != [range] {
        return None;
    }
    let mut bytes = vec![0; length];
    (present::read(tid, &parts, &mut bytes) == length).then_some(bytes)
}
