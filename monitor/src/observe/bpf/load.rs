//! Loading the object: offsets and filter as globals, map sizes, then the probes one by one.

use std::{
    collections, fs, io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex},
};

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{HashMap, MapData, MapError},
};
use monitor_common::{Filter, FutexWait, ProcessEntry, names, selected};

use super::{PROBES, ProbeState, attach, btf, events};

const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// The object, built by build.rs from `monitor-ebpf`.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/monitor-ebpf"));

/// How the kernel side is to be set up.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    pub filter: Filter,
    pub futex_probes: bool,
    /// Whether births and deaths of threads are to be told.
    pub spawn_probes: bool,
    /// Entries of the map of futex waits: threads that the probes can watch at once.
    pub max_threads: u32,
    /// Level of the kernel side's own messages; they cost nothing when off.
    pub log: log::LevelFilter,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(
        "the kernel's type information {BTF_PATH} cannot be read ({0}).\n  Without it taskleak does not know \
         where this kernel keeps a thread's state, and nothing can be observed.\n  Use a kernel with \
         CONFIG_DEBUG_INFO_BTF=y (5.15 or later), and in a container mount the host's /sys."
    )]
    NoBtf(io::Error),
    #[error("{0}.\n  taskleak cannot observe threads on this kernel: please report its version (uname -r).")]
    Offsets(#[from] btf::BtfError),
    #[error("no thread can be started: {0}")]
    Thread(io::Error),
    #[error("the eBPF object was refused: {0}")]
    Object(String),
    #[error(
        "the probe `{probe}` could not be attached: {cause}.\n  Without it {loss}. `taskleak doctor` says more."
    )]
    Required {
        probe: &'static str,
        cause: String,
        loss: &'static str,
    },
}

/// `BPF_NOEXIST` of include/uapi/linux/bpf.h.
const BPF_NOEXIST: u64 = 1;

/// Entries that user space has added to the maps, less those that it has removed.
#[derive(Default)]
pub(super) struct Added {
    pub processes: u64,
    pub waits: u64,
}

/// The loaded kernel side. Dropping it detaches everything.
pub struct Probes {
    pub(super) ebpf: Ebpf,
    pub(super) states: Vec<ProbeState>,
    pub(super) added: Added,
    /// Programs that were loaded once more, for links with many probes.
    pub(super) many: collections::HashMap<&'static str, OwnedFd>,
    futex_probes: bool,
    /// The kernel side's messages, printed from here on.
    log: Option<Mutex<aya_log::EbpfLogger<&'static dyn log::Log>>>,
}

impl Probes {
    /// Loads and attaches.
    ///
    /// # Errors
    /// When nothing could be observed. Probes that can be missed are reported by [`Self::states`] instead.
    pub fn load(options: &LoadOptions) -> Result<Self, LoadError> {
        raise_memlock_limit();
        raise_file_limit();
        let raw = fs::read(BTF_PATH).map_err(LoadError::NoBtf)?;
        let offsets = btf::task_offsets(&raw)?;
        drop(raw);
        let filter = options.filter as u32;
        let own_tgid = std::process::id();
        let futex_probes = u32::from(options.futex_probes);
        let spawn_probes = u32::from(options.spawn_probes);
        let log_level = options.log as u8;
        let mut ebpf = EbpfLoader::new()
            // The object has no relocations against kernel types.
            .btf(None)
            .override_global(names::OFFSETS, &offsets, true)
            .override_global(names::FILTER, &filter, true)
            .override_global(names::OWN_TGID, &own_tgid, true)
            .override_global(names::FUTEX_PROBES, &futex_probes, true)
            .override_global(names::SPAWN_PROBES, &spawn_probes, true)
            .override_global("AYA_LOG_LEVEL", &log_level, true)
            .map_max_entries(names::WAITS, options.max_threads)
            .load(OBJECT)
            .map_err(|error| LoadError::Object(error.to_string()))?;
        let states = attach_all(&mut ebpf, options.futex_probes)?;
        let log = (options.log != log::LevelFilter::Off)
            .then(|| aya_log::EbpfLogger::init(&mut ebpf).ok().map(Mutex::new))
            .flatten();
        Ok(Self {
            ebpf,
            states,
            added: Added::default(),
            many: collections::HashMap::new(),
            futex_probes: options.futex_probes,
            log,
        })
    }

    /// Every probe that was asked for, attached or not.
    pub fn states(&self) -> &[ProbeState] {
        &self.states
    }

    /// Tells the probes to look at a process, or not to any more. Of its threads the first is watched at once, the
    /// others from the next sweep on, and new ones from their birth.
    ///
    /// # Errors
    /// When a map is full, or the kernel refuses.
    pub fn select(&mut self, host_tgid: u32, selection: u32) -> Result<(), MapError> {
        let map = self
            .ebpf
            .map_mut(names::PROCESSES)
            .ok_or_else(|| no_map(names::PROCESSES))?;
        let mut processes: HashMap<&mut MapData, u32, ProcessEntry> = HashMap::try_from(map)?;
        let known = processes.get(&host_tgid, 0);
        let entry = ProcessEntry {
            selected: selection,
            ..known.as_ref().copied().unwrap_or_default()
        };
        processes.insert(host_tgid, entry, 0)?;
        self.added.processes += u64::from(known.is_err());
        if !self.futex_probes {
            return Ok(());
        }
        let map = self
            .ebpf
            .map_mut(names::WAITS)
            .ok_or_else(|| no_map(names::WAITS))?;
        let mut waits: HashMap<&mut MapData, u32, FutexWait> = HashMap::try_from(map)?;
        if selection != selected::NO {
            // It may have one: made at its birth or by a sweep. And a full map is said by the sweep.
            let is_new = waits.insert(host_tgid, FutexWait::default(), BPF_NOEXIST).is_ok();
            self.added.waits += u64::from(is_new);
        } else if waits.remove(&host_tgid).is_ok() {
            self.added.waits = self.added.waits.wrapping_sub(1);
        }
        Ok(())
    }

    /// A reader of execs, to be moved to where it is waited on. `None` when it was taken already.
    pub fn exec_events(&mut self) -> Option<events::ExecEvents> {
        events::ExecEvents::take(&mut self.ebpf)
    }

    /// Prints what the kernel side has logged since the last call.
    pub fn flush_log(&self) {
        if let Some(log) = &self.log
            && let Ok(mut log) = log.lock()
        {
            log.flush();
        }
    }
}

fn attach_all(ebpf: &mut Ebpf, futex_probes: bool) -> Result<Vec<ProbeState>, LoadError> {
    let btf = Arc::new(Btf::from_sys_fs().map_err(|error| LoadError::Object(error.to_string()))?);
    let mut states = Vec::new();
    for spec in PROBES.iter().filter(|spec| futex_probes || !spec.futex) {
        let failure = attach::attach(ebpf, spec, &btf).err();
        if let (true, Some(cause)) = (spec.required, &failure) {
            return Err(LoadError::Required {
                probe: spec.name,
                cause: cause.clone(),
                loss: spec.loss,
            });
        }
        states.push(ProbeState { spec, failure });
    }
    Ok(states)
}

pub(super) fn no_map(name: &str) -> MapError {
    MapError::InvalidName {
        name: name.to_owned(),
    }
}

/// Kernels before 5.11 count maps against this limit. Failing is not fatal: later ones do not.
fn raise_memlock_limit() {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: a valid struct that the call only reads.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) };
}

/// Each attached spawn probe is an open file: one a watched process.
fn raise_file_limit() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: valid structs. Where it fails the probes that do not fit are said to be off.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
