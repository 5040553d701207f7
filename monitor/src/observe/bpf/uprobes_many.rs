//! Uprobes that are put into one process by the hundred, with one link for all of them (`BPF_TRACE_UPROBE_MULTI`, which aya 0.14
//! does not know). To take off a probe the kernel waits until nobody is in any, some 90 ms, one after the other; a link's are
//! taken off together.

use std::{
    collections::HashSet,
    ffi::CString,
    io, mem,
    os::{
        fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya::{maps::Map, util::KernelVersion};
use aya_obj::{
    Object,
    generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_type},
};

use super::{Probes, load::OBJECT};

/// Before that a link for one process ran for one of its threads only (46ba0e49b642).
const SINCE: KernelVersion = KernelVersion::new(6, 10, 0);

/// Where probes of one program go.
pub(super) struct Spots<'a> {
    pub pid: u32,
    /// A path that leads to the file from here.
    pub file: &'a Path,
    /// Offsets in it, and what the program is told there.
    pub places: &'a [(u64, u64)],
}

/// Whether this kernel has such links.
pub(super) fn are_many_known() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= SINCE)
}

impl Probes {
    /// Puts a program in at all these places. They are taken off when the file is closed.
    ///
    /// # Errors
    /// Cause in one line; then none is attached.
    pub(super) fn put_uprobes(
        &mut self,
        program: &'static str,
        spots: &Spots<'_>,
    ) -> Result<OwnedFd, String> {
        if !are_many_known() {
            let count = spots.places.len();
            return Err(format!("{count} probes at once take Linux 6.10 or later"));
        }
        let loaded = match self.many.remove(program) {
            Some(loaded) => loaded,
            None => self.load_for_many(program)?,
        };
        let link = link(&loaded, spots).map_err(|error| format!("{program}: {error}"));
        self.many.insert(program, loaded);
        link
    }

    /// Loads a program once more: what it may be attached to is said at its load. It shares the maps of the others.
    fn load_for_many(&self, name: &str) -> Result<OwnedFd, String> {
        let mut object = Object::parse(OBJECT).map_err(|error| error.to_string())?;
        let program = object.programs.remove(name);
        let program = program.ok_or("the object does not have it")?;
        // Of the others the maps may have been given away; what is no program may be called.
        let others: HashSet<usize> = object.programs.values().map(|it| it.section_index).collect();
        let (key, section) = (program.function_key(), program.section_index);
        object
            .functions
            .retain(|at, _| *at == key || (at.0 != section && !others.contains(&at.0)));
        object.programs.clear();
        let license = program.license.clone();
        object.programs.insert(name.to_owned(), program);
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let maps = object.maps.clone();
        let maps = maps.iter().filter_map(|(name, map)| {
            let descriptor = self.ebpf.map(name).and_then(descriptor)?;
            Some((name.as_str(), descriptor, map))
        });
        object
            .relocate_maps(maps, &sections)
            .map_err(|error| error.to_string())?;
        object
            .relocate_calls(&sections)
            .map_err(|error| error.to_string())?;
        let function = object.functions.get(&key).ok_or("the object does not have it")?;
        let mut attributes = no_attributes();
        // SAFETY: all of the union are integers, of which zero is a value.
        let load = unsafe { &mut attributes.__bindgen_anon_3 };
        load.prog_type = bpf_prog_type::BPF_PROG_TYPE_KPROBE as u32;
        load.expected_attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
        load.insns = function.instructions.as_ptr() as u64;
        load.insn_cnt = function.instructions.len() as u32;
        load.license = license.as_ptr() as u64;
        // SAFETY: what the attributes point to lives through the call.
        unsafe { bpf(bpf_cmd::BPF_PROG_LOAD, &mut attributes) }.map_err(|error| format!("{name}: {error}"))
    }
}

fn link(program: &OwnedFd, spots: &Spots<'_>) -> io::Result<OwnedFd> {
    let path = CString::new(spots.file.as_os_str().as_bytes())?;
    let (offsets, cookies): (Vec<u64>, Vec<u64>) = spots.places.iter().copied().unzip();
    let mut attributes = no_attributes();
    // SAFETY: all of the union are integers, of which zero is a value.
    let create = unsafe { &mut attributes.link_create };
    create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    create.attach_type = bpf_attach_type::BPF_TRACE_UPROBE_MULTI as u32;
    create.__bindgen_anon_3.uprobe_multi.path = path.as_ptr() as u64;
    // SAFETY: as above.
    let places = unsafe { &mut create.__bindgen_anon_3.uprobe_multi };
    places.offsets = offsets.as_ptr() as u64;
    places.cookies = cookies.as_ptr() as u64;
    places.cnt = offsets.len() as u32;
    places.pid = spots.pid;
    // SAFETY: what the attributes point to lives through the call.
    unsafe { bpf(bpf_cmd::BPF_LINK_CREATE, &mut attributes) }
}

fn no_attributes() -> bpf_attr {
    // SAFETY: a union of integers and of structures of them, of which zero is a value.
    unsafe { mem::zeroed() }
}

/// A call that makes a file.
///
/// # Safety
/// What the attributes point to must be as the command wants it.
unsafe fn bpf(command: bpf_cmd, attributes: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are as long as is said, and the caller answers for the rest.
    let made = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_int,
            &raw mut *attributes,
            size_of::<bpf_attr>(),
        )
    };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was made just now, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(made as RawFd) })
}

/// Of the kinds of maps that the object has.
fn descriptor(map: &Map) -> Option<RawFd> {
    match map {
        Map::Array(map)
        | Map::HashMap(map)
        | Map::LruHashMap(map)
        | Map::PerCpuArray(map)
        | Map::RingBuf(map) => Some(map.fd().as_fd().as_raw_fd()),
        _ => None,
    }
}
