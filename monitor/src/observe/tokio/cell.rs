//! Reads of one task.

use super::{
    blocks::Blocks,
    program::Program,
    protocol::Record,
    task::{HEADER, Header, Status},
};
use crate::observe::{memory::space::word, programs::Placed};

/// Of a future that is compared with what it was.
const MAX_COMPARED: u64 = 4 << 10;

/// A task, and what its list says of it.
pub struct Cell {
    pub record: Record,
    /// It has ended, and somebody has its handle.
    is_kept: bool,
    /// The number of the list that owns it.
    pub owner: u64,
    /// The tasks before and behind it.
    pub before: u64,
    pub behind: u64,
}

/// The task at an address; `None` where there is none.
pub fn read(blocks: &mut Blocks, placed: &Placed<Program>, address: u64) -> Option<Cell> {
    if !Header::is_place(address) {
        return None;
    }
    let mut header = [0; HEADER as usize];
    blocks.fill(address, &mut header).then_some(())?;
    let header = Header::decode(&header)?;
    let linked = header.vtable.wrapping_sub(placed.bias);
    let vtable = placed.program.vtable(linked)?;
    let mut links = [0; 16];
    let trailer = address.checked_add(vtable.trailer)?;
    blocks.fill(trailer, &mut links).then_some(())?;
    let stage = vtable.stage();
    let mut body = vec![0; (8 + (stage.end - stage.start).min(MAX_COMPARED)) as usize];
    blocks.fill(address + vtable.id, &mut body).then_some(())?;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header.state.0.to_le_bytes());
    hasher.update(body.get(8..)?);
    Some(Cell {
        record: Record {
            address,
            id: word(&body, 0)?,
            vtable: linked,
            status: header.state.status(),
            references: header.state.references(),
            sum: hasher.finalize(),
            made_at: match word(&body, 8) {
                Some(place) if vtable.keeps_place => place.wrapping_sub(placed.bias),
                _ => 0,
            },
        },
        is_kept: header.state.is_kept(),
        owner: header.owner,
        before: word(&links, 0)?,
        behind: word(&links, 8)?,
    })
}

/// What is kept at an address of a task that has ended; `None` where nothing is. Memory that was freed says so itself: the
/// last one who refers to a cell counts its references down to none, and before that whoever has its handle takes his interest
/// back. What takes something out of a list leaves no links in it (tokio/src/util/linked_list.rs).
pub fn kept(blocks: &mut Blocks, placed: &Placed<Program>, address: u64) -> Option<Record> {
    let cell = read(blocks, placed, address)?;
    let is_in_no_list = cell.before == 0 && cell.behind == 0;
    (cell.is_kept && is_in_no_list).then_some(Record {
        status: Status::Kept,
        ..cell.record
    })
}
