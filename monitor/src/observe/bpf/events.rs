//! Execs as they happen: what a selector would match now is watched from its first instruction on.

use std::os::fd::{AsFd, BorrowedFd};

use aya::{
    Ebpf,
    maps::{MapData, RingBuf},
};
use monitor_common::{ExecEvent, names};

/// Reader of the ring buffer of execs.
pub struct ExecEvents(RingBuf<MapData>);

impl ExecEvents {
    pub(super) fn take(ebpf: &mut Ebpf) -> Option<Self> {
        RingBuf::try_from(ebpf.take_map(names::EVENTS)?).ok().map(Self)
    }

    /// The next event, if there is one; never waits.
    pub fn pop(&mut self) -> Option<ExecEvent> {
        let item = self.0.next()?;
        if item.len() < size_of::<ExecEvent>() {
            return None;
        }
        // SAFETY: long enough, and every bit pattern is a valid event (`aya::Pod`).
        Some(unsafe { item.as_ptr().cast::<ExecEvent>().read_unaligned() })
    }
}

impl AsFd for ExecEvents {
    /// Readable when there are events.
    fn as_fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsRawFd as _;
        // SAFETY: the map's file lives as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
