//! Starts a command of the user's own and holds it just before it ends, with all its threads alive.
//!
//! The command is started below a seccomp filter (`filter`) that asks us about `exit_group` and lets everything else pass.
//! A thread (`gate`) answers: the command itself waits until [`Launched::let_go`], whatever it has started ends as it
//! pleases. Nothing of the command is stopped meanwhile; only the thread that wants to end waits in its system call.
//!
//! The filter stays with whatever the command has started. When we end, their `exit_group` would fail, and they would crash
//! at their end: so what still runs then is given a process of its own that answers for us (`doorman`).

pub mod doorman;
mod filter;
mod gate;

use std::{
    io::{self, Read as _},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Command, ExitStatus},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use gate::Gate;

/// How long it may take to learn whether the filter could be put in.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why a command could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    #[error("`{name}` cannot be started: {cause}")]
    Start { name: String, cause: io::Error },
    #[error(
        "a command cannot be held at its end here: seccomp user notification: {0} (it needs Linux 5.5, and a container that \
         permits seccomp)"
    )]
    Filter(io::Error),
    #[error(transparent)]
    Other(#[from] io::Error),
}

/// What happens to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It wants to end, and is held: this thread of it waits in `exit_group`.
    AtExit(u32),
    Ended(ExitStatus),
}

/// A command that runs.
pub struct Launched {
    pid: u32,
    gate: Arc<Gate>,
    events: mpsc::Receiver<Event>,
    /// Readable when there are events.
    woken: UnixStream,
}

impl Launched {
    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started, or not be held at its end.
    pub fn start(mut command: Command) -> Result<Self, LaunchError> {
        let name = command.get_program().to_string_lossy().into_owned();
        let (ours, theirs) = UnixStream::pair()?;
        let (wake, woken) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let (tell, events) = mpsc::channel();
        let bell = Bell { tell, wake };
        let (found, gates) = mpsc::channel();
        // It must answer before the command runs: where it cannot be started, the child ends, and asks us.
        let keeper_bell = bell.try_clone()?;
        thread::Builder::new()
            .name("gate".to_owned())
            .spawn(move || gate::keep(&ours, &found, &keeper_bell))?;
        // SAFETY: between fork and exec it makes system calls only, and takes no memory.
        unsafe {
            command.pre_exec(move || filter::install_and_tell(&theirs));
        }
        let spawned = command.spawn();
        // Our end of what the child was to speak into closes with it.
        drop(command);
        let gate = gates.recv_timeout(PATIENCE);
        let (mut child, gate) = match (spawned, gate) {
            (Ok(child), Ok(Ok(gate))) => (child, gate),
            (_, Ok(Err(cause))) => return Err(LaunchError::Filter(cause)),
            (Err(cause), _) => return Err(LaunchError::Start { name, cause }),
            (Ok(mut child), Err(_)) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(io::Error::other("the command does not say that it is held").into());
            }
        };
        let pid = child.id();
        thread::Builder::new().name("reaper".to_owned()).spawn(move || {
            if let Ok(status) = child.wait() {
                bell.ring(Event::Ended(status));
            }
        })?;
        Ok(Self {
            pid,
            gate,
            events,
            woken,
        })
    }

    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Readable when there is a new event.
    pub fn woken(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }

    /// The next event, if there is one already.
    pub fn event(&self) -> Option<Event> {
        // What it says is in the events.
        let _ = (&self.woken).read(&mut [0; 64]);
        self.events.try_recv().ok()
    }

    /// Waits for the next event.
    pub fn wait(&self) -> Option<Event> {
        self.events.recv().ok()
    }

    /// Lets it end.
    pub fn let_go(&self) {
        self.gate.open();
    }

    /// Ends it: it is ours, and cannot be judged.
    pub fn kill(&self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid.cast_signed()) {
            // It may just have ended by itself.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        self.let_go();
    }

    /// When the command has ended: sees to it that what it has started and left running can end too. Whether there is such.
    ///
    /// # Errors
    /// When nobody can be found who answers for us.
    pub fn hand_over(&self) -> io::Result<bool> {
        if self.gate.is_deserted()? {
            return Ok(false);
        }
        doorman::start(&self.gate)?;
        Ok(true)
    }
}

/// Tells events, and wakes who waits for them.
struct Bell {
    tell: mpsc::Sender<Event>,
    wake: UnixStream,
}

impl Bell {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            tell: self.tell.clone(),
            wake: self.wake.try_clone()?,
        })
    }

    fn ring(&self, event: Event) {
        use std::io::Write as _;
        // Nobody may listen any more; a full socket has woken them already.
        let _ = self.tell.send(event);
        let _ = (&self.wake).write(&[0]);
    }
}
