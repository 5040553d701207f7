//! The monitor's side of the helper: asks, waits no longer than a deadline, and starts it when it is needed.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use monitor_common::SpawnCall;

use super::{
    ARGUMENT, Asked, Birth, HelperOptions, MAX_READ, NamedBirth, Reply, Request, SpawnPoint, ThreadStart,
    deadline::{Deadline, Starvation},
    patience::Patience,
    receive, send,
};
use crate::{
    identify::Stack,
    model::{ModuleFile, ProcessId, Registers},
    observe::{bpf::SpawnEvent, go, tokio},
};

/// A read of memory is a few microseconds.
const READ_DEADLINE: Duration = Duration::from_millis(200);
/// Helpers that were killed and have not ended: a read of a file whose FUSE server has taken the request and does not
/// answer cannot be killed (`request_wait_answer`, fs/fuse/dev.c). With more of them none is started.
const MAX_DYING: usize = 16;
/// How long a helper may take to start: that is no target's fault.
const START_DEADLINE: Duration = Duration::from_secs(5);
/// A stack may be the first one of a program with much debug information.
const STACK_DEADLINE: Duration = Duration::from_secs(5);
/// A question may be the first one about a large program.
const GO_DEADLINE: Duration = Duration::from_secs(5);
/// As above: its debug information may have to be read.
const TOKIO_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    #[error("not present or not readable")]
    Absent,
    #[error("no answer within the deadline")]
    Unresponsive,
    #[error("{0}")]
    Refused(String),
    /// It did not answer before, and is not asked for a while.
    #[error("left alone for a while")]
    LeftAlone,
    #[error("the helper process failed: {0}")]
    Failed(#[from] io::Error),
}

/// A helper process, started when the first thing is asked for. It ends when this is dropped.
#[derive(Default)]
pub struct Helper {
    options: HelperOptions,
    running: Option<Running>,
    dying: Vec<Child>,
    patience: Patience,
}

struct Running {
    child: Child,
    stream: UnixStream,
    starvation: Starvation,
}

impl Helper {
    pub fn new(options: HelperOptions) -> Self {
        let mut helper = Self::default();
        helper.options = options;
        helper
    }

    /// `length` bytes at `address` of the process that the live thread `tid` belongs to.
    ///
    /// # Errors
    /// [`HelperError::Absent`] when any byte of it is not there, is swapped out, or the range is too long.
    pub fn read(
        &mut self,
        process: ProcessId,
        tid: u32,
        address: u64,
        length: usize,
    ) -> Result<Vec<u8>, HelperError> {
        if length > MAX_READ {
            return Err(HelperError::Absent);
        }
        let request = Request::Read {
            tid,
            address,
            length: length as u32,
        };
        match self.ask(process, request, READ_DEADLINE)? {
            Reply::Bytes(Some(bytes)) if bytes.len() == length => Ok(bytes),
            _ => Err(HelperError::Absent),
        }
    }

    /// Whether an address lies in memory that no other process can map.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn is_private(&mut self, process: ProcessId, tid: u32, address: u64) -> Result<bool, HelperError> {
        match self.ask(process, Request::IsPrivate { tid, address }, READ_DEADLINE)? {
            Reply::IsPrivate(is_private) => Ok(is_private),
            _ => Err(another_answer()),
        }
    }

    /// The stack of a thread that sleeps with these registers.
    ///
    /// # Errors
    /// When it cannot be read, or the helper had to be given up: then what it had cached is lost as well.
    pub fn stack(
        &mut self,
        process: ProcessId,
        tid: u32,
        registers: Registers,
    ) -> Result<Stack, HelperError> {
        let request = Request::Stack {
            pid: process.pid,
            tid,
            registers,
        };
        match self.ask(process, request, STACK_DEADLINE)? {
            Reply::Stack(stack) => stack.map_err(HelperError::Refused),
            _ => Err(another_answer()),
        }
    }

    /// Where the process's `pthread_create`s are.
    ///
    /// # Errors
    /// As [`Self::stack`].
    pub fn spawn_points(&mut self, process: ProcessId) -> Result<Vec<SpawnPoint>, HelperError> {
        let request = Request::SpawnPoints {
            pid: process.pid,
            tid: process.pid,
        };
        match self.ask(process, request, STACK_DEADLINE)? {
            Reply::SpawnPoints(points) => points.map_err(HelperError::Refused),
            _ => Err(another_answer()),
        }
    }

    /// The files whose code the process has mapped.
    ///
    /// # Errors
    /// As [`Self::stack`].
    pub fn modules(&mut self, process: ProcessId, tid: u32) -> Result<Vec<ModuleFile>, HelperError> {
        let request = Request::Modules {
            pid: process.pid,
            tid,
        };
        match self.ask(process, request, STACK_DEADLINE)? {
            Reply::Modules(modules) => modules.map_err(HelperError::Refused),
            _ => Err(another_answer()),
        }
    }

    /// Who made a thread, and what it runs.
    ///
    /// # Errors
    /// As [`Self::stack`].
    pub fn birth(&mut self, process: ProcessId, event: &SpawnEvent) -> Result<NamedBirth, HelperError> {
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
        match self.ask(process, Request::Birth(birth), STACK_DEADLINE)? {
            Reply::Birth(origin) => origin.map_err(HelperError::Refused),
            _ => Err(another_answer()),
        }
    }

    /// What a running thread was started with. `thread_pointer`: that of [`monitor_common::TaskRecord`].
    ///
    /// # Errors
    /// As [`Self::stack`].
    pub fn thread_start(
        &mut self,
        process: ProcessId,
        tid: u32,
        thread_pointer: u64,
    ) -> Result<ThreadStart, HelperError> {
        let request = Request::ThreadStart {
            pid: process.pid,
            tid,
            thread_pointer,
        };
        match self.ask(process, request, STACK_DEADLINE)? {
            Reply::ThreadStart(start) => start.map_err(HelperError::Refused),
            _ => Err(another_answer()),
        }
    }

    /// Something about a Go program.
    ///
    /// # Errors
    /// When the helper had to be given up.
    pub fn go(&mut self, process: ProcessId, question: &go::Question) -> Result<go::Answer, HelperError> {
        match self.ask(process, Request::Go(question.clone()), GO_DEADLINE)? {
            Reply::Go(answer) => Ok(answer),
            _ => Err(another_answer()),
        }
    }

    /// Something about a program with tokio in it.
    ///
    /// # Errors
    /// When the helper had to be given up.
    pub fn tokio(
        &mut self,
        process: ProcessId,
        question: &tokio::Question,
    ) -> Result<tokio::Answer, HelperError> {
        match self.ask(process, Request::Tokio(question.clone()), TOKIO_DEADLINE)? {
            Reply::Tokio(answer) => Ok(answer),
            _ => Err(another_answer()),
        }
    }

    /// Ends the helper process until something is asked again.
    pub fn stop(&mut self) {
        self.dying.extend(self.running.take().map(Running::kill));
    }

    /// Pid of the helper while one runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.child.id())
    }

    /// Asks about a process, unless that is left alone.
    fn ask(
        &mut self,
        process: ProcessId,
        request: Request,
        deadline: Duration,
    ) -> Result<Reply, HelperError> {
        if self.patience.is_left_alone(process, Instant::now()) {
            return Err(HelperError::LeftAlone);
        }
        // Somebody has ended it while it had nothing to do: that is no target's fault.
        if self.running.as_mut().is_some_and(Running::has_ended) {
            self.stop();
        }
        let running = match &mut self.running {
            Some(running) => running,
            none => {
                self.dying
                    .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
                if self.dying.len() >= MAX_DYING {
                    return Err(io::Error::other("too many helpers hang in the kernel").into());
                }
                none.insert(Running::start(&self.options)?)
            }
        };
        let asked = Asked {
            pid: process.pid,
            identity: (process.start_boottime, process.exec_id),
            request,
        };
        let reply = running.ask(&asked, deadline);
        if let Err(error) = &reply {
            // A late answer must not be taken for the next one's. A helper that dies over a process (a truncated file,
            // too much memory) is as bad as one that hangs.
            let alone = self.patience.lose(process, deadline, Instant::now());
            tracing::warn!(
                "process {} does not let itself be looked at ({error}): left alone for {alone:?}",
                process.pid
            );
            self.dying.extend(self.running.take().map(Running::kill));
        }
        reply
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            let mut child = running.kill();
            // It hangs nowhere: it was waiting for the next question.
            let _ = child.wait();
        }
    }
}

fn another_answer() -> HelperError {
    io::Error::other("another answer than to the question").into()
}

impl Running {
    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    fn start(options: &HelperOptions) -> io::Result<Self> {
        let (stream, theirs) = UnixStream::pair()?;
        let child = Command::new("/proc/self/exe")
            .arg0("taskleak-helper")
            .arg(ARGUMENT)
            .args(&options.debug_dirs)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        let mut running = Self {
            starvation: Starvation::of(child.id()),
            child,
            stream,
        };
        // Thread 0 does not exist: the answer says but that it listens.
        let hello = Asked {
            pid: 0,
            identity: (0, 0),
            request: Request::IsPrivate { tid: 0, address: 0 },
        };
        match running.ask(&hello, START_DEADLINE) {
            Ok(_) => Ok(running),
            Err(error) => {
                let _ = running.kill().wait();
                Err(io::Error::other(format!("it does not start: {error}")))
            }
        }
    }

    fn ask(&mut self, asked: &Asked, deadline: Duration) -> Result<Reply, HelperError> {
        let late = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => HelperError::Unresponsive,
            _ => HelperError::Failed(error),
        };
        let mut stream = Deadline::new(&mut self.stream, deadline, || self.starvation.so_far());
        send(&mut stream, asked, &mut Vec::new()).map_err(late)?;
        receive(&mut stream).map_err(late)
    }

    /// A reader that hangs in the kernel ends at SIGKILL only, and not even then at once: nobody waits for it.
    fn kill(mut self) -> Child {
        let _ = self.child.kill();
        self.child
    }
}
