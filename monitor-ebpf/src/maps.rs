//! The maps and globals that user space knows by name (`monitor_common::names`).

use core::cell::UnsafeCell;

use aya_ebpf::{
    Global,
    bindings::{BPF_F_NO_PREALLOC, BPF_NOEXIST},
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use monitor_common::{
    Counter, Filter, FutexWait, GoProcess, MAX_GO_PROCESSES, MAX_TOKIO_ENDED, MAX_TOKIO_PLACES,
    MAX_TOKIO_PROCESSES, MAX_TOKIO_STEPS, MAX_TOKIO_TASKS, ProcessEntry, SpawnCall, SpawnCount, SpawnPlace,
    TaskRecord, TokioBirth, TokioStep, TokioTask, selected,
};

/// `-EEXIST`.
const EEXIST: i32 = -17;

/// An entry for each thread of a watched process. Preallocated: an insert takes a free slot, it allocates
/// nothing. User space sets the size at load.
#[map]
pub static WAITS: HashMap<u32, FutexWait> = HashMap::with_max_entries(65_536, 0);

#[map]
pub static PROCESSES: HashMap<u32, ProcessEntry> = HashMap::with_max_entries(32_768, 0);

#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT as u32, 0);

/// Where the sweep puts a record together: it is too big for a program's 512 bytes of stack.
#[map]
pub static SCRATCH: PerCpuArray<TaskRecord> = PerCpuArray::with_max_entries(1, 0);

#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(64 * 1024, 0);

/// Births and deaths of threads; room for some two hundred births at once.
#[map]
pub static SPAWNS: RingBuf = RingBuf::with_byte_size(1024 * 1024, 0);

/// Calls of `pthread_create` that have not made their thread yet, by the creator's host tid. A call that fails
/// leaves its entry behind until the same thread calls again, or others push it out.
#[map]
pub static SPAWNING: LruHashMap<u32, SpawnCall> = LruHashMap::with_max_entries(4_096, 0);

/// Processes whose goroutines are counted. User space fills in what is to be known of one before its probes run.
#[map]
pub static GO_PROCESSES: Array<GoProcess> = Array::with_max_entries(MAX_GO_PROCESSES, 0);

/// A program has some dozens of `go` statements, a large one some hundreds. User space removes those of processes that
/// are gone.
#[map]
pub static GO_SITES: HashMap<SpawnPlace, SpawnCount> = HashMap::with_max_entries(16_384, 0);

/// How often each of the functions that poll was seen to run.
#[map]
pub static TOKIO_RUNS: Array<u64> = Array::with_max_entries(MAX_TOKIO_PLACES, 0);

/// Tasks that user space watches. It puts them in, and allocates them: there may be none, or very many.
#[map]
pub static TOKIO_WATCHED: HashMap<TokioTask, u64> =
    HashMap::with_max_entries(MAX_TOKIO_TASKS, BPF_F_NO_PREALLOC);

/// Those of them that were polled, until user space has read it.
#[map]
pub static TOKIO_POLLED: HashMap<TokioTask, u64> = HashMap::with_max_entries(16_384, 0);

/// How often the probes on births and deaths have run in each process.
#[map]
pub static TOKIO_SPAWN_RUNS: Array<u64> = Array::with_max_entries(MAX_TOKIO_PROCESSES, 0);

/// As `GO_SITES`, of tasks.
#[map]
pub static TOKIO_SITES: HashMap<SpawnPlace, SpawnCount> = HashMap::with_max_entries(16_384, 0);

/// How creators' stacks are followed. User space puts it in.
#[map]
pub static TOKIO_STEPS: HashMap<SpawnPlace, TokioStep> =
    HashMap::with_max_entries(MAX_TOKIO_STEPS, BPF_F_NO_PREALLOC);

/// Where that was not known, until user space has read it.
#[map]
pub static TOKIO_STEPS_WANTED: HashMap<SpawnPlace, u64> = HashMap::with_max_entries(4_096, 0);

/// Tasks that were made while somebody looked, until they end. There may be none, or very many: a million take some 80 MiB
/// of the kernel's memory.
#[map]
pub static TOKIO_BORN: HashMap<TokioTask, TokioBirth> =
    HashMap::with_max_entries(MAX_TOKIO_TASKS, BPF_F_NO_PREALLOC);

/// Those of them that have ended, and whose handle somebody had then, until user space takes them in. Who makes tasks and
/// awaits them uses the same memory again and again: there is one entry for each place that a task lies at.
#[map]
pub static TOKIO_ENDED: HashMap<TokioTask, TokioBirth> =
    HashMap::with_max_entries(MAX_TOKIO_ENDED, BPF_F_NO_PREALLOC);

#[unsafe(no_mangle)]
pub static SPAWN_PROBES: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
pub static FILTER: Global<u32> = Global::new(Filter::All as u32);

#[unsafe(no_mangle)]
pub static OWN_TGID: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
pub static FUTEX_PROBES: Global<u32> = Global::new(0);

/// Who the monitor is in the initial PID namespace, which user space cannot ask for: the sweep finds out when
/// it meets the monitor, and the probes read it.
pub struct Own {
    host_tgid: UnsafeCell<u32>,
    pid_level: UnsafeCell<u32>,
}

// SAFETY: two aligned words, written by the sweep only, always with the same values.
unsafe impl Sync for Own {}

#[unsafe(no_mangle)]
pub static OWN: Own = Own {
    host_tgid: UnsafeCell::new(0),
    pid_level: UnsafeCell::new(0),
};

impl Own {
    #[inline(always)]
    pub fn remember(&self, host_tgid: u32, pid_level: u32) {
        // SAFETY: see `Sync`; volatile, because LLVM cannot select atomic accesses for the generic BPF CPU.
        unsafe {
            self.host_tgid.get().write_volatile(host_tgid);
            self.pid_level.get().write_volatile(pid_level);
        }
    }

    /// The monitor's pid in the initial PID namespace; 0 before the first sweep.
    #[inline(always)]
    pub fn host_tgid(&self) -> u32 {
        // SAFETY: see `remember`.
        unsafe { self.host_tgid.get().read_volatile() }
    }

    /// Depth of the monitor's PID namespace; 0 before the first sweep.
    #[inline(always)]
    pub fn pid_level(&self) -> u32 {
        // SAFETY: see `remember`.
        unsafe { self.pid_level.get().read_volatile() }
    }
}

/// Counts one up.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(count) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a slot of this CPU's own; programs of one CPU do not run at the same time here (a nested
        // one could lose a count, never more).
        unsafe { *count += 1 }
    }
}

/// Gives a thread an entry, unless it has one already.
///
/// # Errors
/// When the map is full (counted) or the thread has one.
#[inline(always)]
pub fn add_wait(host_tid: u32, wait: &FutexWait) -> Result<(), i32> {
    let added = WAITS.insert(host_tid, wait, u64::from(BPF_NOEXIST));
    match added {
        Ok(()) => count(Counter::WaitsAdded),
        Err(EEXIST) => {}
        Err(_) => count(Counter::WaitsFull),
    }
    added
}

#[inline(always)]
pub fn remove_wait(host_tid: u32) {
    if WAITS.remove(host_tid).is_ok() {
        count(Counter::WaitsRemoved);
    }
}

/// Whether the probes look at this process. Host tgid.
#[inline(always)]
pub fn is_watched(host_tgid: u32) -> bool {
    if FILTER.load() == Filter::All as u32 {
        return host_tgid != OWN.host_tgid();
    }
    // SAFETY: one word, read in place.
    unsafe { PROCESSES.get(host_tgid) }.is_some_and(|entry| entry.selected != selected::NO)
}

/// Puts a process in, or over the entry that it has.
///
/// # Errors
/// When the map is full (counted).
#[inline(always)]
pub fn put_process(host_tgid: u32, entry: &ProcessEntry) -> Result<(), i32> {
    let is_new = PROCESSES.get_ptr(host_tgid).is_none();
    let put = PROCESSES.insert(host_tgid, entry, 0);
    match put {
        Ok(()) if is_new => count(Counter::ProcessesAdded),
        Ok(()) => {}
        Err(_) => count(Counter::ProcessesFull),
    }
    put
}

#[inline(always)]
pub fn remove_process(host_tgid: u32) {
    if PROCESSES.remove(host_tgid).is_ok() {
        count(Counter::ProcessesRemoved);
    }
}

/// The counts of a place of a process, and what runs that was made there (0: that is not known).
#[inline(always)]
pub fn spawn_place(
    places: &HashMap<SpawnPlace, SpawnCount>,
    full: Counter,
    process: u32,
    pc: u64,
    runs: u64,
) -> Option<*mut SpawnCount> {
    let key = SpawnPlace { process, _pad: 0, pc };
    let known = places.get_ptr_mut(key).or_else(|| {
        // Another CPU may put it in at the same time: then there is one all the same.
        let _ = places.insert(key, SpawnCount::default(), u64::from(BPF_NOEXIST));
        places.get_ptr_mut(key)
    });
    let Some(place) = known else {
        count(full);
        return None;
    };
    if runs != 0 {
        // SAFETY: the pointer was just looked up. Of two CPUs that come first one wins, and the other one notices the
        // next time.
        unsafe {
            if (*place).runs == 0 {
                (*place).runs = runs;
            } else if (*place).runs != runs && (*place).is_mixed == 0 {
                (*place).is_mixed = 1;
            }
        }
    }
    Some(place)
}

/// Adds to a counter that programs on other CPUs add to as well. `core` has no `fetch_add` for this target.
#[inline(always)]
pub fn add(counter: *mut u64, amount: u64) {
    // SAFETY: the callers pass a pointer into a map's value, 8-byte aligned; BPF_XADD is one instruction.
    unsafe {
        core::arch::asm!("lock *(u64 *)({counter} + 0) += {amount}", counter = in(reg) counter, amount = in(reg) amount);
    }
}
