//! The helper's side: answers on its standard input until that is closed.

use std::{
    io,
    os::{fd::FromRawFd as _, unix::net::UnixStream},
    path::PathBuf,
};

use rustix::process::{Resource, Rlimit, setrlimit};

use super::{Asked, MAX_READ, Reply, Request, receive, send};
use crate::{
    identify::{Inspector, Options, modules},
    observe::{go, memory::read_present, thread::holders::is_private, tokio},
    rights, scheduling,
};

/// Bytes of memory of its own that the helper may ask for: what a hostile file makes it ask for beyond is refused. Files that
/// it maps do not count: they may be larger, and take no memory until they are read.
const MAX_MEMORY: u64 = 8 << 30;

/// Bytes of free memory that the helper keeps.
#[cfg(target_env = "gnu")]
const KEPT_MEMORY: libc::c_int = 32 << 20;

/// The helper's whole life.
///
/// # Errors
/// When the stream breaks.
pub fn serve(debug_dirs: impl Iterator<Item = PathBuf>) -> io::Result<()> {
    // SAFETY: plain numbers. It ends with the monitor, however that ends; it leaves no core file of a target's data.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_DUMPABLE, 0);
    }
    // It works with more just as well.
    let _ = rights::keep_reading();
    let _ = scheduling::give_way();
    keep_memory();
    limit(Resource::Data, MAX_MEMORY);
    limit(Resource::Core, 0);
    // SAFETY: standard input is the stream that the monitor passed, and nobody else uses it.
    let mut stream = unsafe { UnixStream::from_raw_fd(0) };
    let mut inspector = Inspector::new(Options {
        debug_dirs: debug_dirs.collect(),
        ..Options::default()
    });
    let mut runtimes = Runtimes::default();
    let mut buffer = Vec::new();
    loop {
        let asked: Asked = match receive(&mut stream) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            asked => asked?,
        };
        inspector.now_stands_for(asked.pid, asked.identity);
        send(
            &mut stream,
            &answer(&mut inspector, &mut runtimes, &asked.request),
            &mut buffer,
        )?;
        runtimes.go.read_ahead();
    }
}

/// What is known of the processes of each runtime.
#[derive(Default)]
struct Runtimes {
    go: go::Inspector,
    tokio: tokio::Inspector,
}

fn answer(inspector: &mut Inspector, runtimes: &mut Runtimes, request: &Request) -> Reply {
    match request {
        Request::Read { tid, address, length } => {
            Reply::Bytes(read_present(*tid, *address, (*length as usize).min(MAX_READ)))
        }
        Request::IsPrivate { tid, address } => Reply::IsPrivate(is_private(*tid, *address)),
        Request::Stack { pid, tid, registers } => {
            let stack = inspector.stack(*pid, *tid, *registers);
            Reply::Stack(stack.map_err(|error| error.to_string()))
        }
        Request::SpawnPoints { pid, tid } => Reply::SpawnPoints(
            inspector
                .spawn_points(*pid, *tid)
                .map_err(|error| error.to_string()),
        ),
        Request::Go(question) => Reply::Go(runtimes.go.answer(question)),
        Request::Tokio(question) => Reply::Tokio(runtimes.tokio.answer(question, inspector)),
        Request::ThreadStart {
            pid,
            tid,
            thread_pointer,
        } => Reply::ThreadStart(
            inspector
                .thread_start(*pid, *tid, *thread_pointer)
                .map_err(|error| error.to_string()),
        ),
        Request::Modules { pid, tid } => {
            Reply::Modules(modules(*pid, *tid).map_err(|error| error.to_string()))
        }
        Request::Birth(birth) => Reply::Birth(inspector.birth(birth).map_err(|error| error.to_string())),
    }
}

/// Goroutines and stacks are read into buffers of megabytes, one after the other. Given back to the kernel each time,
/// every page of them would be made, cleared and thrown away again.
fn keep_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets numbers in the allocator; no other thread is there.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT_MEMORY);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_MEMORY);
    }
}

fn limit(resource: Resource, value: u64) {
    let limit = Rlimit {
        current: Some(value),
        maximum: Some(value),
    };
    // Where it is refused the deadline still holds.
    let _ = setrlimit(resource, limit);
}
