//! A program of the testbed that runs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::folders;
use crate::procfs::{self, Thread};
use crate::program::Program;
use crate::spawner;
use crate::unsupported::Unsupported;

/// How long a program may take to say `ready`: a JVM on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(20);
/// The exit status of a program that was asked for what the kernel does not have or permit.
const UNSUPPORTED: i32 = 77;
const MAX_STDERR: usize = 16 * 1024;

/// Killed, with all that it has started, when it is dropped or when this process ends.
pub struct Target {
    /// The program, or the wrapper that started it. It leads the process group.
    leader: Child,
    stdout: ChildStdout,
    stderr: Option<File>,
    pid: u32,
}

impl Target {
    /// Starts the program, compiled if need be, and returns when it has said `ready`. The error is
    /// [`Unsupported`] where the program or one of the scenarios is not to be had.
    pub fn start(program: Program, args: &[&str]) -> Result<Self> {
        Self::start_with(program, args, |command| command)
    }

    /// The same below a wrapper: `wrap` makes the command that is run out of the program's own. The wrapper
    /// must stay in its process group and keep its output streams. `unshare --fork` needs `--kill-child` to
    /// die with us.
    pub fn start_with(
        program: Program,
        args: &[&str],
        wrap: impl FnOnce(Command) -> Command,
    ) -> Result<Self> {
        // The demo speaks to whoever runs it.
        let stderr = if program == Program::Demo {
            None
        } else {
            Some(captured_stderr()?)
        };
        Self::start_built(program.build()?, args, wrap, stderr, program.says_ready())
    }

    /// Starts a command that keeps the contract of the programs, and returns when it has said `ready`.
    pub fn start_command(command: Command, args: &[&str]) -> Result<Self> {
        Self::start_command_with(command, args, |command| command)
    }

    /// The same below a wrapper, as [`Self::start_with`].
    pub fn start_command_with(
        command: Command,
        args: &[&str],
        wrap: impl FnOnce(Command) -> Command,
    ) -> Result<Self> {
        Self::start_built(command, args, wrap, Some(captured_stderr()?), true)
    }

    fn start_built(
        mut command: Command,
        args: &[&str],
        wrap: impl FnOnce(Command) -> Command,
        stderr: Option<File>,
        says_ready: bool,
    ) -> Result<Self> {
        command.args(args);
        let exe = PathBuf::from(command.get_program());
        let what = format!("{} {}", exe.display(), args.join(" "));
        let mut command = wrap(command);
        let wrapped = command.get_program() != exe;
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        if let Some(file) = &stderr {
            command.stderr(file.try_clone()?);
        }
        let mut leader = spawner::spawn(command).with_context(|| format!("cannot start {what}"))?;
        let stdout = leader.stdout.take().ok_or_else(|| anyhow!("{what}: no stdout"))?;
        let pid = leader.id();
        let mut target = Self {
            leader,
            stdout,
            stderr,
            pid,
        };
        if says_ready {
            target.wait_for_ready().with_context(|| what.clone())?;
        }
        if wrapped {
            target.pid = find_in_group(pid, &exe)
                .with_context(|| format!("{what}: not found in the process group {pid} of its wrapper"))?;
        }
        Ok(target)
    }

    /// The program's process, as it is numbered here.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn threads(&self) -> Result<Vec<Thread>> {
        procfs::threads(self.pid)
    }

    /// Sends a signal to the program's process.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        kill(self.pid as libc::pid_t, signal).with_context(|| format!("signal {signal} to {}", self.pid))
    }

    /// Waits for a program that ends by itself, and returns what it has printed since it was ready.
    pub fn wait_output(mut self) -> Result<String> {
        let mut output = String::new();
        self.stdout
            .read_to_string(&mut output)
            .context("cannot read what the program prints")?;
        let status = self.leader.wait()?;
        if !status.success() {
            return Err(self.failure(status));
        }
        Ok(output)
    }

    fn wait_for_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut said = Vec::new();
        loop {
            let mut chunk = [0; 256];
            let length = if readable(&self.stdout, GLANCE)? {
                self.stdout.read(&mut chunk)?
            } else {
                0
            };
            said.extend_from_slice(&chunk[..length]);
            if said
                .split_inclusive(|byte| *byte == b'\n')
                .any(|line| line == b"ready\n")
            {
                return Ok(());
            }
            if length == 0 {
                // Silent so far, or closed: a program that has ended does not get ready any more.
                if let Some(status) = self.leader.try_wait()? {
                    return Err(self.failure(status));
                }
                thread::sleep(GLANCE);
            }
            if Instant::now() > deadline {
                bail!("not ready within {PATIENCE:?}. On stderr: {}", self.stderr_text());
            }
        }
    }

    fn failure(&self, status: ExitStatus) -> anyhow::Error {
        let said = self.stderr_text();
        match (status.code(), status.signal()) {
            (Some(UNSUPPORTED), _) => Unsupported(said).into(),
            (Some(code), _) => anyhow!("ended with exit status {code}: {said}"),
            (None, signal) => anyhow!("killed by signal {}: {said}", signal.unwrap_or_default()),
        }
    }

    fn stderr_text(&self) -> String {
        let Some(file) = &self.stderr else {
            return "(not captured)".to_owned();
        };
        let mut text = vec![0; MAX_STDERR];
        let length = file.read_at(&mut text, 0).unwrap_or_default();
        String::from_utf8_lossy(&text[..length]).trim_end().to_owned()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // All of these fail only when there is nothing left to kill.
        let _ = kill(-(self.leader.id() as libc::pid_t), libc::SIGKILL);
        let _ = self.leader.kill();
        let _ = self.leader.wait();
    }
}

fn kill(pid: libc::pid_t, signal: libc::c_int) -> io::Result<()> {
    // SAFETY: takes and returns plain numbers.
    match unsafe { libc::kill(pid, signal) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn readable(stdout: &ChildStdout, timeout: Duration) -> Result<bool> {
    let mut poll = libc::pollfd {
        fd: stdout.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: the pointer is to one pollfd, as the count says, and lives through the call.
    match unsafe { libc::poll(&raw mut poll, 1, timeout.as_millis() as libc::c_int) } {
        -1 => Err(io::Error::last_os_error()).context("poll"),
        ready => Ok(ready > 0),
    }
}

/// A file without a name: unlike a pipe, it never fills up under a program that nobody listens to any more.
fn captured_stderr() -> Result<File> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "stderr.{}.{}",
        process::id(),
        NUMBER.fetch_add(1, Ordering::Relaxed)
    );
    let path = folders::outputs().join(name);
    let what = || format!("cannot make {}", path.display());
    fs::create_dir_all(folders::outputs()).with_context(what)?;
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create_new(true)
        .open(&path)
        .with_context(what)?;
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    Ok(file)
}

/// The program below its wrapper: of the processes in the group that run this file, the one that no other of
/// them has made (a program may fork).
fn find_in_group(group: u32, exe: &Path) -> Result<u32> {
    let exe = exe.canonicalize()?;
    let deadline = Instant::now() + PATIENCE;
    // A program that does not say `ready` may not have been started yet.
    while Instant::now() < deadline {
        let members = procfs::group(group)?;
        let running: Vec<_> = members
            .into_iter()
            .filter(|member| procfs::runs(member.pid, &exe))
            .collect();
        let is_first = |pid: u32| !running.iter().any(|other| other.pid == pid);
        if let Some(first) = running.iter().find(|member| is_first(member.parent)) {
            return Ok(first.pid);
        }
        thread::sleep(GLANCE);
    }
    bail!("no process runs {}", exe.display())
}
