//! Reading the iterator.

use std::{fs::File, io, io::Read, mem::size_of};

use aya::programs::Iter;
use monitor_common::TaskRecord;

use super::Probes;

/// As much as the kernel gives at once: `bpf_seq_read` fills a buffer of 8 pages (kernel/bpf/bpf_iter.c).
const BUFFER: usize = 64 * 1024;

impl Probes {
    /// Walks every thread of the monitor's PID namespace. Of processes that the filter does not pass only the
    /// leader is told.
    ///
    /// # Errors
    /// When the iterator cannot be opened or read.
    pub fn sweep(&mut self, mut each: impl FnMut(&TaskRecord)) -> io::Result<()> {
        // The distance between the scheduler's clock and CLOCK_MONOTONIC is read off the moment when this
        // thread came onto its CPU: make that moment recent.
        std::thread::sleep(std::time::Duration::from_micros(50));
        let mut file = self.open()?;
        let mut buffer = vec![0u64; BUFFER / 8];
        let mut filled = 0;
        loop {
            let bytes = as_bytes_mut(&mut buffer);
            let read = match file.read(&mut bytes[filled..]) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            filled += read;
            let whole = filled - filled % size_of::<TaskRecord>();
            for record in bytes[..whole].chunks_exact(size_of::<TaskRecord>()) {
                // SAFETY: the size is right, and every bit pattern is a valid record (`aya::Pod`).
                each(&unsafe { record.as_ptr().cast::<TaskRecord>().read_unaligned() });
            }
            bytes.copy_within(whole..filled, 0);
            filled -= whole;
        }
    }

    fn open(&mut self) -> io::Result<File> {
        let program = self
            .ebpf
            .program_mut("sweep")
            .ok_or_else(|| io::Error::other("no sweep program"))?;
        let program: &mut Iter = program.try_into().map_err(io::Error::other)?;
        // A link serves one walk: the kernel's file cannot be rewound.
        let link = program.attach().map_err(io::Error::other)?;
        let link = program.take_link(link).map_err(io::Error::other)?;
        link.into_file().map_err(io::Error::other)
    }
}

fn as_bytes_mut(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: the same memory, alignment of bytes is 1, every bit pattern is valid for both.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel side and this one are built by different compilers: the layout must not move unnoticed.
    #[test]
    fn record_has_no_implicit_padding() {
        assert_eq!(size_of::<TaskRecord>() % 8, 0);
        let fields = 4 * 4 + 3 * 8 + 4 * 4 + 8 + 2 * 4 + 6 * 8 + 8 + 6 * 8 + 4 * 8 + 8 + 2 * 16 + 8;
        assert_eq!(
            size_of::<TaskRecord>(),
            fields + size_of::<monitor_common::FutexWait>()
        );
        assert_eq!(size_of::<monitor_common::FutexWait>(), 5 * 8 + 4 * 4);
    }
}
