//! The goroutines of a walk, and their stacks, read on a thread of their own while those that were read before are decoded:
//! most of the time is the kernel's, which copies what no processor has in its cache. Whoever decodes and has nothing to do
//! reads too.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvError, SyncSender, sync_channel},
    },
    thread,
};

use super::{
    goroutine::{Decoded, Goroutine, Status},
    offsets::Offsets,
    protocol::MAX_STACKS,
    reads::{self, Read, Standing},
    shapes::{KnownShapes, Shapes},
};
use crate::observe::{memory::Memory, monotonic};

/// Goroutines that are read at once: 2 MiB of them.
const BATCH: usize = 4 << 10;
/// Parts that wait for being decoded.
const AHEAD: usize = 1;

/// Some goroutines of a walk.
#[derive(Default)]
pub struct Part {
    /// CLOCK_MONOTONIC ns, after they were read.
    pub ended: u64,
    pub goroutines: Vec<Goroutine>,
    /// Of each its place in the runtime's list.
    pub places: Vec<u32>,
    /// Not in memory, or no goroutines.
    pub unreadable: u64,
    pub stacks: Option<Stacks>,
}

/// The first stacks of a part.
pub struct Stacks {
    /// [`reads::order`].
    pub order: Vec<usize>,
    pub read: Read,
}

impl Stacks {
    pub fn of(memory: &mut Memory, found: &[Standing<'_>], shapes: &Shapes) -> Self {
        let order = reads::order(found);
        let read = reads::stacks(memory, found, &order, shapes);
        Self { order, read }
    }
}

/// The goroutines that nobody has begun to read.
struct Left {
    offsets: &'static Offsets,
    /// What is known of the stacks, where these are read too.
    stacks: Option<KnownShapes>,
    /// By their addresses in falling order, each with its place in the runtime's list.
    addresses: Mutex<Vec<(u64, u32)>>,
}

impl Left {
    const fn at_once(&self) -> usize {
        // Stacks are read while the goroutines are still in the processor's cache, which they are looked up in again.
        if self.stacks.is_some() { MAX_STACKS } else { BATCH }
    }

    /// Reads the next ones; `None`: there are no more.
    fn read(&self, memory: &mut Memory) -> Option<Part> {
        let mut left = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let from = left.len().saturating_sub(self.at_once());
        let mut some = left.split_off(from);
        drop(left);
        some.reverse();
        (!some.is_empty()).then(|| self.part(memory, some))
    }

    fn part(&self, memory: &mut Memory, some: Vec<(u64, u32)>) -> Part {
        let (addresses, orders): (Vec<u64>, Vec<u32>) = some.into_iter().unzip();
        let (mut goroutines, mut places, mut unreadable) =
            (Vec::with_capacity(addresses.len()), Vec::new(), 0);
        reads::read(
            self.offsets,
            memory,
            &addresses,
            |number, decoded| match decoded {
                Decoded::Live(goroutine) => {
                    goroutines.push(goroutine);
                    places.push(orders[number]);
                }
                Decoded::Dead => {}
                Decoded::Invalid => unreadable += 1,
            },
        );
        let ended = monotonic();
        let stacks = self.stacks.as_ref();
        let stacks = stacks.map(|known| Stacks::of(memory, &standing(&goroutines), &known.read()));
        Part {
            ended,
            goroutines,
            places,
            unreadable,
            stacks,
        }
    }
}

/// What is being read.
pub struct Reading {
    left: Arc<Left>,
    parts: Receiver<Part>,
    /// Of parts that have not been taken.
    count: usize,
}

impl Reading {
    /// Begins to read goroutines, `addresses` in falling order, each with its place in the runtime's list; with their stacks
    /// if it is given what is known of these. It ends when all have been read, or nobody waits for parts any more.
    pub fn begin(
        offsets: &'static Offsets,
        mut memory: Memory,
        addresses: Vec<(u64, u32)>,
        stacks: Option<KnownShapes>,
    ) -> io::Result<Self> {
        let (sender, parts) = sync_channel(AHEAD);
        let length = addresses.len();
        let left = Arc::new(Left {
            offsets,
            stacks,
            addresses: Mutex::new(addresses),
        });
        let count = length.div_ceil(left.at_once());
        let shared = Arc::clone(&left);
        thread::Builder::new()
            .name("reads".to_owned())
            .spawn(move || send(&shared, &mut memory, &sender))?;
        Ok(Self { left, parts, count })
    }

    /// Some of them, in no order, and whether these are the last.
    ///
    /// # Errors
    /// When the thread that reads them is gone.
    pub fn next(&mut self, memory: &mut Memory) -> Result<(Part, bool), RecvError> {
        if self.count == 0 {
            return Ok((Part::default(), true));
        }
        let part = match self.parts.try_recv() {
            Ok(part) => part,
            Err(_) => match self.left.read(memory) {
                Some(part) => part,
                None => self.parts.recv()?,
            },
        };
        self.count -= 1;
        Ok((part, self.count == 0))
    }
}

fn send(left: &Left, memory: &mut Memory, parts: &SyncSender<Part>) {
    while let Some(part) = left.read(memory) {
        if parts.send(part).is_err() {
            return;
        }
    }
}

/// All of these whose stacks stand still.
pub fn standing(goroutines: &[Goroutine]) -> Vec<Standing<'_>> {
    let one = |goroutine| match goroutine {
        &Goroutine {
            status: Status::Running,
            ..
        } => Standing::Moved,
        stands => Standing::Stands(stands),
    };
    goroutines.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::{super::goroutine::tests::waiting, *};

    /// The numbers and places that are read of so many goroutines, with their parts.
    fn read(count: u64, whole: bool) -> (Vec<(u64, u32)>, usize) {
        let (one, offsets) = waiting();
        let mut bytes = one.repeat(count as usize);
        let size = one.len();
        for (number, bytes) in (1..=count).zip(bytes.chunks_exact_mut(size)) {
            bytes[offsets.goid..offsets.goid + 8].copy_from_slice(&number.to_le_bytes());
        }
        let address = |number: u64| bytes.as_ptr() as u64 + number * size as u64;
        let addresses: Vec<(u64, u32)> = (0..count)
            .rev()
            .map(|number| (address(number), number as u32))
            .collect();
        // SAFETY: takes nothing, returns a number.
        let memory = || Memory::of(unsafe { libc::gettid() } as u32).unwrap();
        let mut reading = Reading::begin(offsets, memory(), addresses, whole.then(KnownShapes::new)).unwrap();
        let (mut found, mut parts, mut own) = (Vec::new(), 0, memory());
        loop {
            let (part, is_last) = reading.next(&mut own).unwrap();
            assert_eq!((part.unreadable, part.stacks.is_some()), (0, whole && count > 0));
            let ids = part.goroutines.iter().map(|goroutine| goroutine.id);
            found.extend(ids.zip(part.places));
            parts += 1;
            if is_last {
                found.sort_unstable();
                return (found, parts);
            }
        }
    }

    #[test]
    fn each_goroutine_is_read_once_whoever_reads_it() {
        for (count, whole) in [
            (0, true),
            (1, false),
            (10_000, false),
            (10_000, true),
            (4 * BATCH as u64, false),
        ] {
            let (found, parts) = read(count, whole);
            let expected: Vec<(u64, u32)> = (1..=count).zip(0..).collect();
            assert_eq!(found, expected, "{count} {whole}");
            let at_once = if whole { MAX_STACKS } else { BATCH };
            assert_eq!(
                parts,
                (count as usize).div_ceil(at_once).max(1),
                "{count} {whole}"
            );
        }
    }

    #[test]
    fn who_wants_no_more_is_not_waited_for() {
        let (one, offsets) = waiting();
        let addresses = vec![(one.as_ptr() as u64, 0); 10 * BATCH];
        // SAFETY: takes nothing, returns a number.
        let memory = Memory::of(unsafe { libc::gettid() } as u32).unwrap();
        let reading = Reading::begin(offsets, memory, addresses, None).unwrap();
        let left = Arc::downgrade(&reading.left);
        drop(reading);
        let begun = std::time::Instant::now();
        while left.upgrade().is_some() {
            assert!(
                begun.elapsed() < std::time::Duration::from_secs(20),
                "it reads on"
            );
            thread::yield_now();
        }
    }
}
