//! The monitor's side of the helper: asks, waits no longer than a deadline, and starts it when it is needed.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Child, Command, Stdio},
    time::Duration,
};

use monitor_common::SpawnCall;

use super::{
    ARGUMENT, Birth, HelperOptions, MAX_READ, NamedBirth, Reply, Request, SpawnPoint, receive, send,
};
use crate::{
    identify::Stack,
    model::Registers,
    observe::{bpf::SpawnEvent, go},
};

/// A read of memory is a few microseconds.
const READ_DEADLINE: Duration = Duration::from_millis(200);
/// A stack may be the first one of a program with much debug information.
const STACK_DEADLINE: Duration = Duration::from_secs(5);
/// A question may be the first one about a large program.
const GO_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    #[error("not present or not readable")]
    Absent,
    #[error("no answer within the deadline")]
    Unresponsive,
    #[error("{0}")]
    Refused(String),
    #[error("the helper process failed: {0}")]
    Failed(#[from] io::Error),
}

/// A helper process, started when the first thing is asked for. It ends when this is dropped.
#[derive(Default)]
pub struct Helper {
    options: HelperOptions,
    running: Option<Running>,
}

struct Running {
    child: Child,
    stream: UnixStream,
}

impl Helper {
    pub fn new(options: HelperOptions) -> Self {
        Self {
            options,
            running: None,
        }
    }

    /// `length` bytes at `address` of the process that the live thread `tid` belongs to.
    ///
    /// # Errors
    /// [`HelperError::Absent`] when any byte of it is not there, is swapped out, or the range is too long.
    pub fn read(&mut self, tid: u32, address: u64, length: usize) -> Result<Vec<u8>, HelperError> {
        if length > MAX_READ {
            return Err(HelperError::Absent);
        }
        match self.ask(
            &Request::Read {
                tid,
                address,
                length: length as u32,
            },
            READ_DEADLINE,
        )? {
            Reply::Bytes(Some(bytes)) if bytes.len() == length => Ok(bytes),
            _ => Err(HelperError::Absent),
        }
    }

    /// The stack of a thread that sleeps with these registers.
    ///
    /// # Errors
    /// When it cannot be read, or the helper had to be given up: then what it had cached is lost as well.
    pub fn stack(&mut self, pid: u32, tid: u32, registers: Registers) -> Result<Stack, HelperError> {
        match self.ask(&Request::Stack { pid, tid, registers }, STACK_DEADLINE)? {
            Reply::Stack(stack) => stack.map_err(HelperError::Refused),
            _ => Err(another_answer()),
        }
    }

    /// Where the process's `pthread_create`s are. `tid`: any live thread of it.
    ///
    /// # Errors
    /// As [`Self::stack`].
    pub fn spawn_points(&mut self, pid: u32, tid: u32) -> Result<Vec<SpawnPoint>, HelperError> {
        match self.ask(&Request::SpawnPoints { pid, tid }, STACK_DEADLINE)? {
            Reply::SpawnPoints(points) => points.map_err(HelperError::Refused),
            _ => Err(another_answer()),
        }
    }

    /// Who made a thread, and what it runs.
    ///
    /// # Errors
    /// As [`Self::stack`].
    pub fn birth(&mut self, event: &SpawnEvent) -> Result<NamedBirth, HelperError> {
        let SpawnCall {
            start_routine,
            argument,
            ip,
            sp,
            bp,
            argument_words,
        } = event.call;
        let length = (event.stack_length as usize).min(event.stack.len());
        let birth = Birth {
            pid: event.tgid,
            creator: event.creator,
            start_routine,
            argument,
            argument_words,
            registers: Registers { ip, sp, bp },
            stack: event.stack[..length].to_vec(),
        };
        match self.ask(&Request::Birth(birth), STACK_DEADLINE)? {
            Reply::Birth(origin) => origin.map_err(HelperError::Refused),
            _ => Err(another_answer()),
        }
    }

    /// Something about a Go program.
    ///
    /// # Errors
    /// When the helper had to be given up.
    pub fn go(&mut self, question: &go::Question) -> Result<go::Answer, HelperError> {
        match self.ask(&Request::Go(question.clone()), GO_DEADLINE)? {
            Reply::Go(answer) => Ok(answer),
            _ => Err(another_answer()),
        }
    }

    /// Ends the helper process until something is asked again.
    pub fn stop(&mut self) {
        self.running = None;
    }

    /// Pid of the helper while one runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    fn ask(&mut self, request: &Request, deadline: Duration) -> Result<Reply, HelperError> {
        let running = match &mut self.running {
            Some(running) => running,
            none => none.insert(Running::start(&self.options)?),
        };
        let reply = running.ask(request, deadline);
        if reply.is_err() {
            // A late answer must not be taken for the next one's.
            self.running = None;
        }
        reply
    }
}

fn another_answer() -> HelperError {
    io::Error::other("another answer than to the question").into()
}

impl Running {
    fn start(options: &HelperOptions) -> io::Result<Self> {
        let (stream, theirs) = UnixStream::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg0("taskleak-helper")
            .arg(ARGUMENT)
            .args(&options.debug_dirs)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { child, stream })
    }

    fn ask(&mut self, request: &Request, deadline: Duration) -> Result<Reply, HelperError> {
        let late = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => HelperError::Unresponsive,
            _ => HelperError::Failed(error),
        };
        self.stream.set_write_timeout(Some(deadline))?;
        self.stream.set_read_timeout(Some(deadline))?;
        send(&mut self.stream, request).map_err(late)?;
        receive(&mut self.stream).map_err(late)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A reader that hangs in the kernel ends at SIGKILL only.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
