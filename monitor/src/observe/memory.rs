//! Bounded reads of another process's memory that cannot hang the monitor.
//!
//! A read of a page that userfaultfd or FUSE serves sleeps until somebody serves it, and only SIGKILL ends it.
//! So reads are made by a helper process (this binary, started anew) that is killed when it misses its
//! deadline. It skips pages that are not present (`/proc/PID/pagemap`, Documentation/admin-guide/mm/pagemap.rst),
//! so that nothing is faulted in. It is started when the first read is asked for.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::{fs::FileExt as _, net::UnixStream, process::CommandExt as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// First argument that makes this binary a helper.
pub const HELPER_ARGUMENT: &str = "--memory-helper";

/// Longest read; a longer one is an error.
pub const MAX_LENGTH: usize = 64 * 1024;

const DEADLINE: Duration = Duration::from_millis(200);
const PAGE: u64 = 4096;
/// Bit 63 of a pagemap entry: the page is present.
const PRESENT: u64 = 1 << 63;
/// pid, length, address.
const REQUEST: usize = 4 + 4 + 8;

#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    #[error("not present or not readable")]
    Absent,
    #[error("the read did not end within {DEADLINE:?}")]
    Unresponsive,
    #[error("the memory helper failed: {0}")]
    Helper(#[from] io::Error),
}

/// Reads other processes' memory.
#[derive(Default)]
pub struct Memory {
    helper: Option<Helper>,
}

struct Helper {
    child: Child,
    stream: UnixStream,
}

impl Memory {
    /// `length` bytes at `address` of the process that the live thread `tid` belongs to.
    ///
    /// # Errors
    /// [`MemoryError::Absent`] when any byte of it is not there; the other two when the helper had to be given
    /// up (the next read starts another).
    pub fn read(&mut self, tid: u32, address: u64, length: usize) -> Result<Vec<u8>, MemoryError> {
        if length > MAX_LENGTH {
            return Err(MemoryError::Absent);
        }
        let helper = match &mut self.helper {
            Some(helper) => helper,
            none => none.insert(Helper::start()?),
        };
        let answer = helper.ask(tid, address, length);
        if matches!(answer, Err(MemoryError::Unresponsive | MemoryError::Helper(_))) {
            self.helper = None;
        }
        answer
    }

    /// Pid of the helper while one runs.
    pub fn helper_pid(&self) -> Option<u32> {
        self.helper.as_ref().map(|helper| helper.child.id())
    }
}

impl Helper {
    fn start() -> io::Result<Self> {
        let (stream, theirs) = UnixStream::pair()?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let child = Command::new("/proc/self/exe")
            .arg0("taskleak-memory-helper")
            .arg(HELPER_ARGUMENT)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { child, stream })
    }

    fn ask(&mut self, tid: u32, address: u64, length: usize) -> Result<Vec<u8>, MemoryError> {
        let mut request = [0; REQUEST];
        request[..4].copy_from_slice(&tid.to_le_bytes());
        request[4..8].copy_from_slice(&(length as u32).to_le_bytes());
        request[8..].copy_from_slice(&address.to_le_bytes());
        self.stream.write_all(&request).map_err(late)?;
        let mut status = [0];
        self.stream.read_exact(&mut status).map_err(late)?;
        if status[0] == 0 {
            return Err(MemoryError::Absent);
        }
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).map_err(late)?;
        Ok(bytes)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // A reader that hangs in the kernel ends at SIGKILL only.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn late(error: io::Error) -> MemoryError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => MemoryError::Unresponsive,
        _ => MemoryError::Helper(error),
    }
}

/// The helper's whole life: answers requests on its standard input until that is closed.
///
/// # Errors
/// When the stream breaks.
pub fn serve() -> io::Result<()> {
    // SAFETY: ends this process with the monitor, however that ends.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: standard input is the stream that `Helper::start` passed, and nobody else uses it.
    let mut stream = unsafe { <UnixStream as std::os::fd::FromRawFd>::from_raw_fd(0) };
    let mut request = [0; REQUEST];
    loop {
        match stream.read_exact(&mut request) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        let word =
            |at: usize| u32::from_le_bytes([request[at], request[at + 1], request[at + 2], request[at + 3]]);
        let (tid, length) = (word(0), word(4) as usize);
        let address = u64::from(word(8)) | u64::from(word(12)) << 32;
        match read_present(tid, address, length.min(MAX_LENGTH)) {
            Some(bytes) => {
                stream.write_all(&[1])?;
                stream.write_all(&bytes)?;
            }
            None => stream.write_all(&[0])?,
        }
    }
}

fn read_present(tid: u32, address: u64, length: usize) -> Option<Vec<u8>> {
    let end = address.checked_add(length as u64)?;
    let pagemap = File::open(format!("/proc/{tid}/pagemap")).ok()?;
    for page in address / PAGE..end.div_ceil(PAGE) {
        let mut entry = [0; 8];
        pagemap.read_exact_at(&mut entry, page.checked_mul(8)?).ok()?;
        if u64::from_le_bytes(entry) & PRESENT == 0 {
            return None;
        }
    }
    let mut bytes = vec![0; length];
    let local = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: length,
    };
    let remote = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: length,
    };
    // SAFETY: `local` is `bytes`; the kernel checks `remote` against the other process.
    let read = unsafe { libc::process_vm_readv(tid as libc::pid_t, &local, 1, &remote, 1, 0) };
    (read == length as isize).then_some(bytes)
}
