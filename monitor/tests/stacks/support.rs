//! Programs, the sweep, and stacks as these tests look at them.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{LazyLock, Mutex},
    thread,
    time::Duration,
};

use monitor_common::{Filter, selected};
use taskleak::{
    identify::{Inspector, Options, Registers, Stack, StackError},
    observe::bpf::{LoadOptions, Probes, TaskRecord},
};
use testbed::{Program, Target, Unsupported};

/// `ready` is said just before the calls are made.
const SETTLE: Duration = Duration::from_secs(1);
/// How often a thread is looked at again that has moved meanwhile.
const ATTEMPTS: usize = 10;
/// What a program of ours ends with that is asked for what the kernel does not have.
const UNSUPPORTED: i32 = 77;

/// Loaded once: each test selects its own program.
static PROBES: LazyLock<Mutex<Probes>> = LazyLock::new(|| {
    let options = LoadOptions {
        filter: Filter::Selected,
        futex_probes: false,
        spawn_probes: false,
        max_threads: 1024,
        log: log::LevelFilter::Off,
    };
    Mutex::new(Probes::load(&options).unwrap())
});

/// A thread that the sweep saw, and its stack.
pub struct Thread {
    pub record: TaskRecord,
    pub comm: String,
    pub stack: Result<Stack, StackError>,
}

impl Thread {
    pub fn tid(&self) -> u32 {
        self.record.tid
    }

    pub fn stack(&self) -> &Stack {
        match &self.stack {
            Ok(stack) => stack,
            Err(error) => panic!("{} {}: {error}", self.comm, self.tid()),
        }
    }

    pub fn block_site(&self) -> String {
        self.stack()
            .block_site()
            .map_or("none".to_owned(), |site| site.function)
    }

    pub fn entry(&self) -> String {
        self.stack()
            .entry()
            .map_or("none".to_owned(), |site| site.function)
    }

    /// Mapping and offset of each frame that is none of an inlined function.
    pub fn places(&self) -> Vec<(String, u64)> {
        let frames = self.stack().frames.iter().filter(|frame| !frame.inlined);
        frames.map(|frame| (frame.module.clone(), frame.offset)).collect()
    }
}

impl std::fmt::Display for Thread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} {}", self.comm, self.tid())?;
        let stack = match &self.stack {
            Err(error) => return writeln!(f, "  {error}"),
            Ok(stack) => stack,
        };
        for frame in &stack.frames {
            let name = frame.function.as_deref().unwrap_or("?");
            write!(f, "  {name} [{}+{:#x}]", frame.module, frame.offset)?;
            if let (Some(file), Some(line)) = (&frame.file, frame.line) {
                write!(f, " at {file}:{line}")?;
            }
            let marks = [(frame.inlined, " inlined"), (frame.guessed, " guessed")];
            writeln!(
                f,
                "{}",
                marks.map(|(is, mark)| if is { mark } else { "" }).concat()
            )?;
        }
        if stack.truncated {
            writeln!(f, "  …")?;
        }
        Ok(())
    }
}

/// The records of all threads of a process.
pub fn sweep(pid: u32) -> Vec<TaskRecord> {
    let mut probes = PROBES.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut host = None;
    probes
        .sweep(|record| {
            if record.tgid == pid {
                host = Some(record.host_tgid);
            }
        })
        .unwrap();
    let host = host.expect("the process was swept");
    probes.select(host, selected::ALONE).unwrap();
    let mut records = Vec::new();
    probes
        .sweep(|record| {
            if record.tgid == pid {
                records.push(*record);
            }
        })
        .unwrap();
    probes.select(host, selected::NO).unwrap();
    records
}

pub fn registers(record: &TaskRecord) -> Registers {
    Registers {
        ip: record.ip,
        sp: record.sp,
        bp: record.bp,
    }
}

/// Every thread of a process with its stack: read again when it has moved meanwhile, as the monitor does.
pub fn stacks_by(inspector: &mut Inspector, pid: u32) -> Vec<Thread> {
    let mut records = sweep(pid);
    let mut threads: Vec<Thread> = Vec::new();
    for _ in 0..ATTEMPTS {
        for record in &records {
            let stack = inspector.stack(pid, record.tid, registers(record));
            let comm = String::from_utf8_lossy(&record.comm);
            let thread = Thread {
                comm: comm.trim_end_matches('\0').to_owned(),
                stack,
                record: *record,
            };
            threads.retain(|known| known.tid() != record.tid);
            threads.push(thread);
        }
        let moved = |now: &TaskRecord| {
            let seen = threads.iter().find(|thread| thread.tid() == now.tid);
            seen.is_some_and(|thread| thread.record.switches != now.switches)
        };
        records = sweep(pid).into_iter().filter(moved).collect();
        if records.is_empty() {
            break;
        }
    }
    threads
}

pub fn stacks(pid: u32) -> Vec<Thread> {
    stacks_by(&mut Inspector::new(Options::default()), pid)
}

/// Threads by name.
pub fn by_name(threads: Vec<Thread>) -> BTreeMap<String, Vec<Thread>> {
    let mut map: BTreeMap<String, Vec<Thread>> = BTreeMap::new();
    for thread in threads {
        map.entry(thread.comm.clone()).or_default().push(thread);
    }
    map
}

/// Says that a test cannot run here, and why; `cargo xtask test` counts these.
pub fn skip(test: &str, why: &str) {
    let nothing: anyhow::Result<()> = Err(Unsupported(why.to_owned()).into());
    assert!(testbed::or_skip(test, nothing).unwrap().is_none());
}

/// Starts a program of the testbed. `None` (and the test is skipped) where this machine cannot run it.
pub fn start(test: &str, program: Program, args: &[String]) -> Option<Target> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let target =
        testbed::or_skip(test, Target::start(program, &args)).unwrap_or_else(|error| panic!("{error:#}"));
    thread::sleep(SETTLE);
    target
}

/// A program that is none of the testbed's own; killed, with all that it has started, when it is dropped.
pub struct Running {
    child: Child,
}

impl Running {
    /// Starts it and waits until it says `ready`, and a moment more. `None` (and the test is skipped) where the
    /// kernel cannot do what it is asked for.
    pub fn start(test: &str, mut command: Command) -> Option<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0);
        // SAFETY: one system call, which is permitted between fork and exec. The thread that starts it is the
        // test's own, and lives as long as the test.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut running = Self { child };
        let mut line = String::new();
        BufReader::new(running.child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        if line != "ready\n" {
            let status = running.child.wait().unwrap();
            assert_eq!(status.code(), Some(UNSUPPORTED), "{command:?}: {status}");
            skip(test, "the kernel does not have what the program asks for");
            return None;
        }
        thread::sleep(SETTLE);
        Some(running)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: takes and returns plain numbers; the group is that of a child that was not reaped yet.
        unsafe { libc::kill(-(self.child.id() as i32), libc::SIGKILL) };
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder of a test's own, removed when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("stacks-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Whether a tool is not to be had here: then the test is skipped.
pub fn misses(test: &str, tools: &[&str]) -> bool {
    let is_missing = |tool: &&&str| Command::new(tool).arg("--version").output().is_err();
    let Some(tool) = tools.iter().find(is_missing) else {
        return false;
    };
    skip(
        test,
        &format!("no {tool}: apt-get install gcc binutils gdb musl-tools"),
    );
    true
}

/// Runs a tool to its end.
pub fn run(tool: &str, args: &[&str]) {
    let output = Command::new(tool)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{tool}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {args:?}: {said}");
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
