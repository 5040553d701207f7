//! Answers the kernel's questions whether a process may end.

use std::{
    fs, io,
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};

use super::{Bell, Event, filter::Word};

/// Who waits in front of it, and whether it is open.
#[derive(Default)]
struct State {
    /// Questions that were not answered.
    held: Vec<u64>,
    is_open: bool,
    /// The command: the first who came below the filter.
    pid: Option<u32>,
}

pub struct Gate {
    listener: OwnedFd,
    state: Mutex<State>,
}

impl AsFd for Gate {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// The gatekeeper's life: learns of the gate, tells of it, and answers until nobody is left who could ask.
pub fn keep(child: &UnixStream, found: &mpsc::Sender<io::Result<Arc<Gate>>>, bell: &Bell) {
    let gate = match receive(child) {
        Ok(listener) => Arc::new(Gate::of(listener)),
        Err(error) => {
            // `None`: it did not even come so far, and whoever starts it knows why.
            if let Some(error) = error {
                let _ = found.send(Err(error));
            }
            return;
        }
    };
    // Nobody waits any more: then nobody is to be held either.
    if found.send(Ok(Arc::clone(&gate))).is_err() {
        gate.open();
    }
    while let Ok(true) = gate.wait_for_question(None) {
        if let Some((id, tid)) = gate.question() {
            gate.consider(id, tid, bell);
        }
    }
}

/// The listener, as the child sends it.
fn receive(child: &UnixStream) -> Result<OwnedFd, Option<io::Error>> {
    let mut word: Word = [0; 4];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        child,
        &mut [IoSliceMut::new(&mut word)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    );
    let received = received.map_err(|error| Some(error.into()))?;
    if received.bytes == 0 {
        return Err(None);
    }
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    rights.ok_or_else(|| Some(io::Error::from_raw_os_error(i32::from_ne_bytes(word))))
}

impl Gate {
    pub fn of(listener: OwnedFd) -> Self {
        Self {
            listener,
            state: Mutex::default(),
        }
    }

    /// Lets everybody through, from now on.
    pub fn open(&self) {
        let mut state = self.state();
        state.is_open = true;
        for id in state.held.drain(..) {
            self.allow(id);
        }
    }

    /// Whether nobody is left below the filter.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn is_deserted(&self) -> io::Result<bool> {
        self.wait_for_question(Some(Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }))
        .map(|is_there| !is_there)
    }

    /// `false` when nobody is left who could ask; `true` when somebody asks, or time is up.
    pub fn wait_for_question(&self, timeout: Option<Timespec>) -> io::Result<bool> {
        loop {
            let mut files = [PollFd::new(&self.listener, PollFlags::IN)];
            match poll(&mut files, timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => {
                    let seen = files[0].revents();
                    // (Linux 5.9; before, a listener that nobody uses is silent.)
                    return Ok(!seen.intersects(PollFlags::HUP) || seen.intersects(PollFlags::IN));
                }
            }
        }
    }

    /// The next question, and the thread that asks.
    pub fn question(&self) -> Option<(u64, u32)> {
        // SAFETY: all zeroes is a value of it, and what the kernel asks for.
        let mut question: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel fills the struct that the request is made for.
        let received = unsafe {
            libc::ioctl(
                self.listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_RECV,
                &raw mut question,
            )
        };
        // It may have died meanwhile.
        (received == 0).then_some((question.id, question.pid))
    }

    /// Lets one through.
    pub fn allow(&self, id: u64) {
        let mut answer = libc::seccomp_notif_resp {
            id,
            val: 0,
            error: 0,
            flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        };
        // SAFETY: the struct that the request is made for. Who has died meanwhile needs no answer.
        unsafe {
            libc::ioctl(
                self.listener.as_raw_fd(),
                libc::SECCOMP_IOCTL_NOTIF_SEND,
                &raw mut answer,
            )
        };
    }

    fn consider(&self, id: u64, tid: u32, bell: &Bell) {
        let pid = process_of(tid);
        let mut state = self.state();
        // Whoever comes first is the command: nothing that it has started lives longer than the question.
        let is_command = pid.is_some() && (state.pid.is_none() || state.pid == pid) && is_child(tid);
        if !is_command || state.is_open || !has_called_exec(tid) {
            drop(state);
            self.allow(id);
            return;
        }
        let is_first = state.pid.is_none();
        state.pid = pid;
        state.held.push(id);
        drop(state);
        if is_first {
            bell.ring(Event::AtExit(tid));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A line of `/proc/TID/status`, which tells of a thread whatever its process.
fn status(tid: u32, key: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{tid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().parse().ok()
}

fn process_of(tid: u32) -> Option<u32> {
    status(tid, "Tgid:")
}

/// Whether a process is our own child, and not what that has started.
fn is_child(tid: u32) -> bool {
    status(tid, "PPid:") == Some(std::process::id())
}

/// Before its exec it is a copy of us: then the command could not be started, and the child ends.
fn has_called_exec(tid: u32) -> bool {
    let theirs = fs::read(format!("/proc/{tid}/cmdline")).unwrap_or_default();
    fs::read("/proc/self/cmdline").is_ok_and(|ours| ours != theirs)
}
