//! OS threads: from sweep records to tasks with their waits.
//!
//! A thread waits when it sleeps (state S or D, not on a CPU) in a call without a timeout, or in none (a page
//! fault). Since when: the futex probes know exactly; for all other waits it is the moment when it left the
//! CPU, as the scheduler keeps it, which is right for waits from before the monitor came as well.

pub mod holders;
mod restart;
pub mod spawning;
pub mod spawns;
mod state;
mod syscalls;
mod timeout;
mod waits;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use monitor_common::record_flags;
use rustix::time::ClockId;

use self::{
    restart::Restarts,
    state::State,
    timeout::Clocks,
    waits::{Since, Waits},
};
use super::{boottime, bpf::TaskRecord, clock, helper::Helper, monotonic};
use crate::{
    identify::text::clean,
    model::{self, Anchor, Cause, Facts, Kind, Made, Observation, Process, ProcessId, Registers, Task, Wait},
};

/// Selected, but without an entry of the futex probes.
const NOT_WATCHED: u32 = record_flags::SELECTED | record_flags::FUTEX_WAIT;

/// Reads the threads of a pass, record by record, and keeps of them what the next pass needs.
pub struct Threads {
    waits: Waits,
    restarts: Restarts,
    /// Per process, the highest count of futex waits that was told: what a thread counted is for a moment in
    /// neither place when it ends during a sweep, and a counter must not fall.
    futex_waits: HashMap<ProcessId, u64>,
    /// Waits younger than this are not worth a look into the target's memory.
    threshold: Duration,
    futex_probes: bool,
    /// Of this process all is told.
    whole: Option<u32>,
    pass: Pass,
}

/// The records of one sweep, for what needs more of a thread than its task tells.
pub type Records = HashMap<ProcessId, Vec<TaskRecord>>;

#[derive(Default)]
struct Pass {
    observations: Vec<Observation>,
    records: Records,
    by_process: HashMap<ProcessId, usize>,
    /// CLOCK_MONOTONIC − the scheduler's clock, as near as this sweep came to it.
    clock_offset: Option<i64>,
    realtime_offset: i128,
    boottime_offset: i128,
}

impl Threads {
    pub fn new(threshold: Duration, futex_probes: bool) -> Self {
        Self {
            waits: Waits::new(tick()),
            restarts: Restarts::default(),
            futex_waits: HashMap::new(),
            threshold,
            futex_probes,
            whole: None,
            pass: Pass::default(),
        }
    }

    /// From the next pass on all is to be told of the threads of the process with this pid, whatever they do.
    pub fn tell_all_of(&mut self, pid: Option<u32>) {
        self.whole = pid;
    }

    /// Starts a pass.
    pub fn begin(&mut self) {
        self.pass = Pass {
            realtime_offset: i128::from(clock(ClockId::Realtime)) - i128::from(monotonic()),
            boottime_offset: i128::from(boottime()) - i128::from(monotonic()),
            ..Pass::default()
        };
    }

    /// Takes in one thread of a watched process.
    pub fn record(&mut self, record: &TaskRecord, process: &Arc<Process>, helper: &mut Helper) {
        let lag = record.sampled_at.wrapping_sub(record.reader_arrival) as i64;
        let offset = self.pass.clock_offset.map_or(lag, |offset| offset.min(lag));
        self.pass.clock_offset = Some(offset);
        let index = self.observation(process);
        let observation = &mut self.pass.observations[index];
        if let Some(waits) = &mut observation.futex_waits {
            *waits += record.futex.waits + record.exited_waits;
        }
        if record.record_flags & record_flags::SELECTED == 0 {
            // The probes' filter does not know it yet.
            observation.incomplete.insert(Cause::New);
        }
        let state = state::of(record);
        if state == State::Gone {
            return;
        }
        if self.futex_probes && record.record_flags & NOT_WATCHED == record_flags::SELECTED {
            observation.incomplete.insert(Cause::ProbesFull);
        }
        self.pass.records.entry(process.id).or_default().push(*record);
        let slept = match state {
            State::Sleeping => self.sleeping(record, index, offset, helper),
            State::Held(cause) => {
                self.pass.observations[index].incomplete.insert(cause);
                self.waits.held(record, offset).map(|(call, since)| Slept {
                    call,
                    since,
                    is_unbounded: true,
                })
            }
            _ => {
                self.waits.active(record);
                None
            }
        };
        let facts =
            (self.whole == Some(process.id.pid)).then(|| Box::new(self.facts(record, state, slept.as_ref())));
        let unbounded = slept.filter(|slept| slept.is_unbounded);
        let wait = unbounded.map(|Slept { call, since, .. }| Wait {
            reason: call.reason,
            class: call.class,
            age: age(record, since),
            anchor: anchor(record, since).map(Box::new),
        });
        self.pass.observations[index].tasks.push(Task {
            kind: Kind::Thread,
            id: record.tid.into(),
            start: record.start_boottime,
            name: name_of(record, process),
            wait,
            stack: None,
            entry: None,
            spawn_site: None,
            is_kept: false,
            waits_for: None,
            facts,
        });
    }

    /// Ends the pass: what is known of threads that were not met is forgotten.
    pub fn end(&mut self) -> (Vec<Observation>, Records) {
        self.waits.end_pass();
        let pass = std::mem::take(&mut self.pass);
        let mut told = HashMap::with_capacity(pass.observations.len());
        let mut observations = pass.observations;
        for observation in &mut observations {
            if let Some(waits) = &mut observation.futex_waits {
                let id = observation.process.id;
                *waits = (*waits).max(self.futex_waits.get(&id).copied().unwrap_or(0));
                told.insert(id, *waits);
            }
        }
        self.futex_waits = told;
        (observations, pass.records)
    }

    fn observation(&mut self, process: &Arc<Process>) -> usize {
        let Pass {
            observations,
            by_process,
            ..
        } = &mut self.pass;
        *by_process.entry(process.id).or_insert_with(|| {
            observations.push(Observation {
                process: Arc::clone(process),
                tasks: Vec::new(),
                incomplete: BTreeSet::new(),
                deadlocks: Vec::new(),
                futex_waits: self.futex_probes.then_some(0),
            });
            observations.len() - 1
        })
    }

    /// The wait of a sleeping thread; `None` when it is not known.
    fn sleeping(
        &mut self,
        record: &TaskRecord,
        index: usize,
        offset: i64,
        helper: &mut Helper,
    ) -> Option<Slept> {
        let process = self.pass.observations[index].process.id;
        let incomplete = &mut self.pass.observations[index].incomplete;
        if record.record_flags & record_flags::NO_REGISTERS != 0 {
            incomplete.insert(Cause::Registers);
            return None;
        }
        let compat = record.record_flags & record_flags::COMPAT != 0;
        let mut number = record.syscall;
        if Restarts::is_restart(number, compat) {
            let known = self.waits.number_before_restart(record);
            match known.or_else(|| self.restarts.original(record.restart_fn, &record.args, compat)) {
                Some(original) => number = original,
                None => {
                    incomplete.insert(Cause::Restart);
                    return None;
                }
            }
        }
        let call = syscalls::lookup(number, compat);
        let since = self.waits.sleeping(record, number, &call, offset);
        let clocks = Clocks {
            since: since.counted,
            realtime_offset: self.pass.realtime_offset,
            boottime_offset: self.pass.boottime_offset,
        };
        let read = |address, length| helper.read(process, record.tid, address, length);
        let is_worth_a_look = age(record, since) >= self.threshold;
        let is_unbounded = self
            .waits
            .is_unbounded(record, &call, &clocks, is_worth_a_look, read)
            .unwrap_or_else(|_| {
                incomplete.insert(Cause::Timeout);
                false
            });
        Some(Slept {
            call,
            since,
            is_unbounded,
        })
    }

    fn facts(&self, record: &TaskRecord, state: State, slept: Option<&Slept>) -> Facts {
        let state = match state {
            State::Held(_) => model::State::Stopped,
            State::Sleeping => model::State::Waiting,
            State::Active | State::Gone if record.on_cpu == 0 && record.state == 0 => model::State::Runnable,
            State::Active | State::Gone => model::State::Running,
        };
        let slept = slept.filter(|_| state == model::State::Waiting);
        let made = i128::from(record.start_boottime) - self.pass.boottime_offset;
        let ago = i128::from(record.sampled_at) - made;
        Facts {
            state,
            reason: slept.map(|slept| slept.call.reason.clone()),
            age: slept.map(|slept| age(record, slept.since)),
            anchor: slept.and_then(|slept| anchor(record, slept.since)),
            // The kernel keeps it.
            made: Some(Made {
                ago: Duration::from_nanos(u64::try_from(ago).unwrap_or(0)),
                is_exact: true,
            }),
            made_by: None,
            references: None,
            trace: None,
        }
    }
}

/// A wait.
struct Slept {
    call: syscalls::Call,
    since: Since,
    /// It does not end by itself.
    is_unbounded: bool,
}

/// Whether it sleeps, so that its registers are those that it will go on with.
pub fn is_asleep(record: &TaskRecord) -> bool {
    state::of(record) == State::Sleeping
}

fn age(record: &TaskRecord, since: Since) -> Duration {
    Duration::from_nanos(record.sampled_at.saturating_sub(since.counted))
}

/// The thread's own name, where it is not its process's.
fn name_of(record: &TaskRecord, process: &Process) -> Option<Box<str>> {
    let end = record
        .comm
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(record.comm.len());
    let name = clean(&String::from_utf8_lossy(&record.comm[..end]), record.comm.len());
    (name != process.comm).then(|| name.into())
}

/// `None` for 32-bit threads: nothing here unwinds their stacks.
fn anchor(record: &TaskRecord, since: Since) -> Option<Anchor> {
    (record.record_flags & record_flags::COMPAT == 0).then_some(Anchor {
        tid: record.tid,
        start_boottime: record.start_boottime,
        began: since.began,
        registers: Registers {
            ip: record.ip,
            sp: record.sp,
            bp: record.bp,
        },
    })
}

/// ns of a tick: the resolution of the coarse clocks (`LOW_RES_NSEC`, kernel/time/posix-timers.c).
fn tick() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: a valid struct to write to; this clock always exists.
    unsafe { libc::clock_getres(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    time.tv_nsec as u64
}
