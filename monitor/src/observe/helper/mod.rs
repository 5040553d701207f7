//! The helper process: everything that reads a target's memory or files happens in it.
//!
//! A read of a page that userfaultfd or FUSE serves sleeps until somebody serves it, and only SIGKILL ends it; a
//! mapped file that is truncated is a SIGBUS; a hostile ELF file may take all the memory that there is. So such
//! reads are made by another process (this binary, started anew), which the monitor kills when it misses its
//! deadline, and starts again when it is needed.

mod client;
mod deadline;
mod patience;
mod server;
pub mod words;

use std::{
    io::{self, Read, Write},
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use client::{Helper, HelperError};
pub use deadline::Allowance;
pub use server::serve;

use crate::{
    identify::{Identity, Stack},
    model::{ModuleFile, ProcessId, Registers, Site},
    observe::{go, thread::spawns::Origin, tokio},
};

/// First argument that makes this binary a helper; the options follow.
pub const ARGUMENT: &str = "--helper";

/// Longest read of memory; a longer one is answered with nothing.
pub const MAX_READ: usize = 64 * 1024;
/// Longest message; a longer one is an error.
const MAX_MESSAGE: u32 = 4 * 1024 * 1024;
/// Bytes that its length takes.
const LENGTH: usize = 4;

/// What the helper is started with.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HelperOptions {
    /// Folders with separate debug files.
    pub debug_dirs: Vec<PathBuf>,
}

/// A request, and which process it is about: its pid may have stood for another one before.
#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    pid: u32,
    identity: Identity,
    request: Request,
}

#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Bytes of the memory of the process that the live thread belongs to.
    Read { tid: u32, address: u64, length: u32 },
    /// Whether no other process can map the memory at an address.
    IsPrivate { tid: u32, address: u64 },
    /// The stack of a sleeping thread.
    Stack {
        pid: u32,
        tid: u32,
        registers: Registers,
    },
    /// Where a process's `pthread_create`s are.
    SpawnPoints { pid: u32, tid: u32 },
    /// Who made a thread, and what it runs.
    Birth(Birth),
    /// Something about a Go program.
    Go(go::Question),
    /// Something about a program with tokio in it.
    Tokio(tokio::Question),
    /// What a running thread was started with.
    ThreadStart { pid: u32, tid: u32, thread_pointer: u64 },
    /// The files whose code a process has mapped.
    Modules { pid: u32, tid: u32 },
}

#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Bytes(Option<Vec<u8>>),
    IsPrivate(bool),
    Stack(Result<Stack, String>),
    SpawnPoints(Result<Vec<SpawnPoint>, String>),
    Birth(Result<NamedBirth, String>),
    Go(go::Answer),
    Tokio(tokio::Answer),
    ThreadStart(Result<ThreadStart, String>),
    Modules(Result<Vec<ModuleFile>, String>),
}

/// A place for the spawn probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpawnPoint {
    /// Leads to the file from here, whatever the process's mounts (`/proc/PID/map_files/…`).
    pub file: PathBuf,
    pub offset: u64,
}

/// What the spawn probe saw of a birth.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Birth {
    pub pid: u32,
    pub creator: u32,
    pub start_routine: u64,
    pub argument: u64,
    pub argument_words: [u64; 3],
    pub registers: Registers,
    /// The creator's stack from the stack pointer upwards, as it was then.
    pub stack: Vec<u8>,
}

/// Who made a thread and what it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedBirth {
    pub origin: Origin,
    /// The program itself called `pthread_create`, with a function of its own: every birth with the same start
    /// routine and return address has the same origin.
    pub is_plain: bool,
}

/// What a running thread was started with, as far as the C library remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStart {
    pub entry: Option<Site>,
    /// It is what the thread was made for, and the program's own code: its stack can tell nothing better.
    pub is_certain: bool,
}

/// A process, as the helper is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    pub pid: u32,
    /// Any live thread of it.
    pub tid: u32,
    /// With the pid, what tells the program from every other one ([`ProcessId`]).
    pub start_boottime: u64,
    pub exec_id: u64,
}

impl Who {
    pub const fn of(process: ProcessId, tid: u32) -> Self {
        Self {
            pid: process.pid,
            tid,
            start_boottime: process.start_boottime,
            exec_id: process.exec_id,
        }
    }

    pub const fn process(self) -> ProcessId {
        ProcessId {
            pid: self.pid,
            start_boottime: self.start_boottime,
            exec_id: self.exec_id,
        }
    }
}

/// A message is its length in 4 bytes and its postcard form. `buffer`: what it is put together in, whatever is in it; large
/// ones grow by what is left of earlier ones.
fn send<T: Serialize>(stream: &mut impl Write, message: &T, buffer: &mut Vec<u8>) -> io::Result<()> {
    buffer.clear();
    buffer.extend([0; LENGTH]);
    *buffer = postcard::to_extend(message, std::mem::take(buffer)).map_err(io::Error::other)?;
    let length = u32::try_from(buffer.len() - LENGTH).map_err(io::Error::other)?;
    buffer[..LENGTH].copy_from_slice(&length.to_le_bytes());
    stream.write_all(buffer)
}

fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<T> {
    let mut length = [0; LENGTH];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_MESSAGE {
        return Err(io::Error::other(format!("a message of {length} bytes")));
    }
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes)?;
    postcard::from_bytes(&bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A message of these bytes.
    fn framed(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        [&length, bytes].concat()
    }

    proptest! {
        /// A helper that a hostile file has taken over may say anything: an error, or something of a bounded size.
        #[test]
        fn any_bytes_are_an_error_or_a_bounded_message(
            kind in 0_u8..9,
            bytes in prop::collection::vec(prop_oneof![Just(0_u8), Just(1), Just(0x7f), Just(0xff), any::<u8>()], 0..300),
        ) {
            let bytes = [&[kind], bytes.as_slice()].concat();
            if let Ok(reply) = receive::<Reply>(&mut framed(&bytes).as_slice()) {
                let again = postcard::to_allocvec(&reply).unwrap();
                prop_assert!(again.len() <= bytes.len() + 8, "{reply:?}");
            }
            let _ = receive::<Request>(&mut framed(&bytes).as_slice());
            let _ = receive::<Reply>(&mut bytes.as_slice());
        }

        /// What is sent comes back, but not if a byte of it is missing.
        #[test]
        fn births_come_back_whole_or_not_at_all(stack in prop::collection::vec(any::<u8>(), 0..600), at: u64, cut: prop::sample::Index) {
            let birth = Birth {
                pid: 1,
                creator: 2,
                start_routine: at,
                argument: !at,
                argument_words: [at, 0, 1],
                registers: Registers { ip: at, sp: at, bp: 0 },
                stack: stack.clone(),
            };
            let mut sent = Vec::new();
            send(&mut sent, &Request::Birth(birth), &mut Vec::new()).unwrap();
            let Request::Birth(received) = receive(&mut sent.as_slice()).unwrap() else { panic!() };
            prop_assert_eq!((received.stack, received.start_routine, received.argument), (stack, at, !at));
            prop_assert!(receive::<Request>(&mut &sent[..cut.index(sent.len())]).is_err());
        }
    }

    #[test]
    fn messages_come_back_as_they_were_sent() {
        let mut buffer = vec![9; 1_000];
        for tid in [7, 8] {
            let mut stream = Vec::new();
            let asked = Request::Read {
                tid,
                address: u64::MAX,
                length: 16,
            };
            send(&mut stream, &asked, &mut buffer).unwrap();
            let received: Request = receive(&mut stream.as_slice()).unwrap();
            assert_eq!(format!("{received:?}"), format!("{asked:?}"));
        }
    }

    #[test]
    fn broken_messages_are_errors() {
        let mut stream = Vec::new();
        send(&mut stream, &Reply::Bytes(Some(vec![1, 2, 3])), &mut Vec::new()).unwrap();
        for length in 0..stream.len() {
            assert!(receive::<Reply>(&mut &stream[..length]).is_err(), "{length}");
        }
        assert!(receive::<Reply>(&mut [0xff; 64].as_slice()).is_err());
    }
}
