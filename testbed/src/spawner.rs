//! Starts processes that die with this one.
//!
//! The kernel sends the signal that a child asks for by PR_SET_PDEATHSIG when the *thread* that made it ends,
//! and a test's thread ends with the test. So all children come from one thread that lives as long as the
//! process.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{self, Child, Command};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Sender, SyncSender};
use std::thread;

struct Request {
    command: Command,
    reply: SyncSender<io::Result<Child>>,
}

static SPAWNER: LazyLock<Sender<Request>> = LazyLock::new(|| {
    let (sender, requests) = mpsc::channel::<Request>();
    thread::spawn(move || {
        for mut request in requests {
            // Who asked may have given up meanwhile.
            let _ = request.reply.send(request.command.spawn());
        }
    });
    sender
});

/// Starts the command as the leader of a process group of its own.
pub fn spawn(mut command: Command) -> io::Result<Child> {
    let parent = process::id();
    command.process_group(0);
    // SAFETY: the closure makes two system calls, which is permitted between fork and exec.
    unsafe {
        command.pre_exec(move || die_with(parent));
    }
    let (reply, answer) = mpsc::sync_channel(1);
    let gone = || io::Error::other("the thread that starts processes has ended");
    SPAWNER.send(Request { command, reply }).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}

fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: takes and returns plain numbers.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as above.
    if unsafe { libc::getppid() } as u32 != parent {
        // It ended before the line above, so no signal will come.
        return Err(io::Error::other("the parent has ended"));
    }
    Ok(())
}
