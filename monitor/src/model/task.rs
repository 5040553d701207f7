//! One task, its wait, its stack, and where it is in the code.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use super::{Cause, Kind, Process, Reason, WaitClass};

/// A wait without a timeout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// In the runtime's own words.
    pub reason: Reason,
    pub class: WaitClass,
    /// How long it had lasted when it was seen.
    pub age: Duration,
    /// For threads: what its stack is read by.
    pub anchor: Option<Box<Anchor>>,
}

/// A sleeping thread in one wait of its: the same anchor, the same stack. Never exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Anchor {
    pub tid: u32,
    /// CLOCK_BOOTTIME at the thread's start, ns.
    pub start_boottime: u64,
    /// CLOCK_MONOTONIC ns when the wait began.
    pub began: u64,
    pub registers: Registers,
}

/// Registers of a thread that sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Registers {
    pub ip: u64,
    pub sp: u64,
    pub bp: u64,
}

/// One thread, goroutine or async task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    pub kind: Kind,
    /// tid, goid or tokio task id.
    pub id: u64,
    /// Tells it from an earlier task with the same id: a thread's start (CLOCK_BOOTTIME ns); where ids are never used
    /// again, 0 while it runs and 1 of what is kept of it.
    pub start: u64,
    /// `None` when it runs, could run, or its wait ends by itself.
    pub wait: Option<Wait>,
    /// A thread's own name, where it is not its process's.
    pub name: Option<Box<str>>,
    /// Of a blocked task, where it could be read.
    pub stack: Option<Arc<Stack>>,
    /// What it runs, where that is known without its stack.
    pub entry: Option<Arc<Site>>,
    /// Where it was made, when that was seen or can be read of it.
    pub spawn_site: Option<Arc<Site>>,
    /// It has ended: what is left of it is kept by who has its handle.
    pub is_kept: bool,
    /// Who holds what it waits for, who holds what that one waits for, and so on, as far as it is known.
    pub waits_for: Option<Arc<Vec<u64>>>,
    /// What else there is to tell; only where all tasks of a process were asked for, and not of every kind.
    pub facts: Option<Box<Facts>>,
}

impl Task {
    /// What is known of it, told or not.
    pub fn state(&self) -> State {
        match (&self.facts, &self.wait) {
            (Some(facts), _) => facts.state,
            (None, _) if self.is_kept => State::Complete,
            (None, Some(_)) => State::Waiting,
            (None, None) => State::Unknown,
        }
    }

    /// What it waits for, also where that ends by itself.
    pub fn reason(&self) -> Option<&Reason> {
        let told = self.facts.as_ref().and_then(|facts| facts.reason.as_ref());
        self.wait.as_ref().map(|wait| &wait.reason).or(told)
    }

    /// For how long it has waited at least.
    pub fn age(&self) -> Option<Duration> {
        let told = self.facts.as_ref().and_then(|facts| facts.age);
        self.wait.as_ref().map(|wait| wait.age).or(told)
    }
}

/// Whether a task runs.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Waiting,
    /// It could run, and waits for a CPU.
    Runnable,
    /// It runs, or has not waited for long enough to be sure: there is no stack to read.
    Running,
    /// By a signal, a tracer or the freezer.
    Stopped,
    /// It has ended. A tokio task stays as long as somebody has its `JoinHandle`, and so does what it has returned.
    Complete,
    /// It is not told: it may run, or wait for something that is not known or that ends by itself.
    Unknown,
}

impl State {
    /// As in labels and JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Runnable => "runnable",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Complete => "complete",
            Self::Unknown => "unknown",
        }
    }
}

/// What is told of a task where all tasks of its process are asked for, blocked or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub state: State,
    pub reason: Option<Reason>,
    pub age: Option<Duration>,
    /// What a thread's stack is read by.
    pub anchor: Option<Anchor>,
    pub made: Option<Made>,
    /// Of the same kind.
    pub made_by: Option<u64>,
    /// Of a tokio task: how many handles, wakers and lists refer to it; 255 where there are more.
    pub references: Option<u8>,
    pub trace: Option<Trace>,
}

/// When a task was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    pub ago: Duration,
    /// Its birth was seen. Otherwise it was there already when it was first seen: it may be older.
    pub is_exact: bool,
}

/// How the runtime itself prints a task, beside its stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Where it comes among the others.
    pub order: u32,
    /// It is the runtime's own, and not printed.
    pub is_hidden: bool,
    pub status: Reason,
    pub minutes: u64,
    pub is_locked: bool,
    /// The program's own search for leaks has found that nothing alive can wake it.
    pub is_leaked: bool,
    /// Of testing/synctest, that it is in.
    pub bubble: Option<u64>,
    /// What the program says of whom it works for.
    pub labels: Option<Arc<Labels>>,
    /// Whether that is printed, too.
    pub prints_labels: bool,
    pub creator: Option<Arc<Creator>>,
    /// How far into its function each frame of the stack is; 0 of inlined ones.
    pub within: Arc<[u32]>,
}

/// What a program calls some of its tasks: keys and values, in its own order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Labels {
    pub pairs: Vec<(String, String)>,
    /// There are more, or longer ones, or some could not be read.
    pub truncated: bool,
}

/// What has made tasks: the function that stands there, whatever was put into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creator {
    pub site: Site,
    pub within: u32,
}

/// All tasks of a process.
#[derive(Clone, Debug)]
pub struct ProcessTasks {
    pub process: Arc<Process>,
    pub taken_at: SystemTime,
    /// `go1.27.3`, of a process that runs Go.
    pub go_version: Option<String>,
    pub tasks: Vec<Task>,
    pub incomplete: BTreeSet<Cause>,
    /// It has ended meanwhile: what was seen of it until then.
    pub is_gone: bool,
    /// Where they were asked for.
    pub modules: Vec<ModuleFile>,
}

/// A file whose code a process has mapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleFile {
    /// As in [`Frame::module`].
    pub name: String,
    /// Hexadecimal; empty where it has none.
    pub build_id: String,
}

/// The stack of a task, and what it says of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Stack {
    /// Innermost first, inlined frames expanded.
    pub frames: Vec<Frame>,
    /// There are more frames than these.
    pub truncated: bool,
    /// The innermost frame of the program's own code.
    pub block_site: Option<Arc<Site>>,
    /// What the task runs: the outermost frame of the program's own code.
    pub entry: Option<Arc<Site>>,
}

/// A place in the code of a target.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Site {
    pub function: String,
    pub file: Option<String>,
    pub line: Option<u32>,
}

/// One frame of a stack, as it leaves the monitor: never an address of the target.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// Demangled; `None` where no symbol covers it.
    pub function: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
    /// The compiler put it into the frame below it.
    pub inlined: bool,
    /// File name of the mapping (`libc.so.6`), `[vdso]`, `[jit]` for anonymous code, or empty.
    pub module: String,
    /// In the module's file.
    pub offset: u64,
    /// Found by a guess (a scan for call sites), not by unwind information or frame pointers.
    pub guessed: bool,
}
