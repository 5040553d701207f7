//! Programs whose files are larger than anybody would read whole: debug information of several gigabytes is not rare.

use std::{
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    os::unix::fs::PermissionsExt as _,
    process::Command,
};

use object::{
    LittleEndian as E,
    elf::{FileHeader64, SectionHeader64},
    read::elf::{FileHeader as _, SectionHeader as _},
};
use testbed::{
    Target,
    tokio::{self, Flavor, NEWEST},
};

use super::bed::look;
use crate::support::{Folder, Process};

const LARGE: u64 = 3 << 30;
const SCENARIOS: [&str; 3] = ["mpsc_recv=3", "mutex=2", "sleeper=2"];

/// The program with all debug information, as it comes to lie in the folder once it is changed.
fn program(test: &str, folder: &Folder, change: impl FnOnce(&mut File, &[u8])) -> Option<Target> {
    let built = tokio::build(NEWEST, Flavor::Debug).map(|command| {
        let bytes = fs::read(command.get_program()).unwrap();
        let path = folder.path("tasks");
        let mut file = File::create(&path).unwrap();
        file.write_all(&bytes).unwrap();
        change(&mut file, &bytes);
        file.set_permissions(fs::Permissions::from_mode(0o755)).unwrap();
        path
    });
    let started = built.and_then(|path| Target::start_command(Command::new(path), &SCENARIOS));
    testbed::or_skip(test, started).unwrap_or_else(|error| panic!("{test}: {error:#}"))
}

/// Where the header of `.debug_info` stands in the file, and the section's bytes.
fn debug_info(bytes: &[u8]) -> (usize, &[u8]) {
    let header = FileHeader64::<E>::parse(bytes).unwrap();
    let sections = header.sections(E, bytes).unwrap();
    let (index, section) = sections.section_by_name(E, b".debug_info").unwrap();
    let at = header.e_shoff.get(E) as usize + index.0 * size_of::<SectionHeader64<E>>();
    (at, section.data(E, bytes).unwrap())
}

/// Blocked tasks by place.
fn seen(process: &Process) -> Vec<(String, u64)> {
    let groups = process.groups().iter().filter(|group| group["kind"] == "tokio");
    let mut seen: Vec<(String, u64)> = groups
        .map(|group| {
            let site = group["block_site"]["function"].as_str().unwrap_or_default();
            (site.to_owned(), group["count"].as_u64().unwrap())
        })
        .collect();
    seen.sort();
    seen
}

/// What is known of them where no types are: their futures, by their symbols.
fn by_future() -> Vec<(String, u64)> {
    let future = |name: &str, count| (format!("tasks::stuck::{name}::{{async block}}"), count);
    vec![future("mpsc_recv", 3), future("mutex_lock", 2)]
}

/// A file is read in pieces: how long it is does not matter.
#[test]
fn a_program_of_three_gigabytes_is_read_like_any_other() {
    let folder = Folder::new("large-file");
    let lengthen = |file: &mut File, _: &[u8]| file.set_len(LARGE).unwrap();
    let Some(target) = program("tokio::large::file", &folder, lengthen) else {
        return;
    };
    let process = look(&target);
    assert!(process.incomplete().is_empty(), "{:?}", process.incomplete());
    let expected = [("tasks::stuck::mpsc_recv", 3), ("tasks::stuck::mutex_lock", 2)];
    assert_eq!(
        seen(&process),
        expected.map(|(site, count)| (site.to_owned(), count))
    );
    assert_eq!(process.value["tasks"]["tokio"], 7);
}

/// What cannot be borne is not read, which is said, and the rest goes on.
#[test]
fn debug_information_of_three_gigabytes_is_left_out() {
    let folder = Folder::new("large-section");
    let move_to_the_end = |file: &mut File, bytes: &[u8]| {
        let (header, content) = debug_info(bytes);
        let offset = file.seek(SeekFrom::End(0)).unwrap();
        file.write_all(content).unwrap();
        file.set_len(offset + LARGE).unwrap();
        // sh_offset and sh_size (man 5 elf).
        file.seek(SeekFrom::Start(header as u64 + 24)).unwrap();
        file.write_all(&offset.to_le_bytes()).unwrap();
        file.write_all(&LARGE.to_le_bytes()).unwrap();
    };
    let Some(target) = program("tokio::large::section", &folder, move_to_the_end) else {
        return;
    };
    let process = look(&target);
    assert_eq!(process.incomplete(), ["tokio_types_missing"]);
    assert_eq!(process.value["tasks"]["tokio"], 7);
    assert_eq!(seen(&process), by_future());
    // Threads are named by the symbols.
    let threads = process.groups().iter().filter(|group| group["kind"] == "thread");
    let entries: Vec<&str> = threads
        .map(|group| group["entry"]["function"].as_str().unwrap_or_default())
        .collect();
    assert!(entries.contains(&"tasks::main"), "{entries:?}");
}

/// Whatever its bytes say, tasks are listed, and nobody hangs or dies.
#[test]
fn debug_information_of_noise_is_left_out() {
    let folder = Folder::new("noise");
    let overwrite = |file: &mut File, bytes: &[u8]| {
        let (header, content) = debug_info(bytes);
        let mut noise = vec![0; content.len()];
        fastrand::Rng::with_seed(42).fill(&mut noise);
        // The first unit's header is as it was: what is in it is not.
        noise[..16].copy_from_slice(&content[..16]);
        let (section, _) = object::from_bytes::<SectionHeader64<E>>(&bytes[header..]).unwrap();
        file.seek(SeekFrom::Start(section.sh_offset.get(E))).unwrap();
        file.write_all(&noise).unwrap();
    };
    let Some(target) = program("tokio::large::noise", &folder, overwrite) else {
        return;
    };
    let process = look(&target);
    assert_eq!(process.value["tasks"]["tokio"], 7);
    assert_eq!(seen(&process), by_future());
    assert!(
        process.incomplete().contains(&"tokio_types_missing"),
        "{:?}",
        process.incomplete()
    );
}
