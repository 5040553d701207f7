//! Libraries that lie, in which a thread waits: in their tables, their sizes, and their names.

use std::{fs, time::Duration};

use object::{LittleEndian, elf};

use super::{Folder, GUEST, Hostile, MAX_HELPER_KIB, Neighbour, compile, helper_peak, program, watch};

/// `DW_OP_skip` back to itself: an expression without an end.
const ENDLESS_EXPRESSION: &str = "-DTABLE=.cfi_escape 0x0f, 3, 0x2f, 0xfd, 0xff";
/// A signal's frame, whose caller is itself: the CFA is the stack pointer, the return address the instruction pointer.
const ENDLESS_FRAMES: &str =
    "-DTABLE=.cfi_signal_frame; .cfi_escape 0x0f, 2, 0x77, 0; .cfi_escape 0x16, 16, 2, 0x80, 0";
/// A frame pointer that points at itself and returns to the function itself, and no table that says otherwise.
const OWN_FRAME: &str =
    "-DPROLOGUE=push %rbp; mov %rsp, %rbp; mov %rbp, (%rbp); lea NAME(%rip), %rax; mov %rax, 8(%rbp)";

/// A field of each of these is set to what no file has.
#[derive(Clone, Copy)]
enum Lie {
    SectionCount,
    SectionSizes,
    SymbolCounts,
    ProgramHeaders,
    CieOfItself,
}

type Section = elf::SectionHeader64<LittleEndian>;
const E: LittleEndian = LittleEndian;

/// Offsets of the section headers, and their types.
fn sections(bytes: &[u8]) -> Vec<(usize, u32)> {
    let (header, _) = object::from_bytes::<elf::FileHeader64<LittleEndian>>(bytes).unwrap();
    let first = header.e_shoff.get(E) as usize;
    let offsets = (0..usize::from(header.e_shnum.get(E))).map(|index| first + index * size_of::<Section>());
    offsets
        .map(|at| {
            let (section, _) = object::from_bytes::<Section>(&bytes[at..]).unwrap();
            (at, section.sh_type.get(E))
        })
        .collect()
}

fn tell(bytes: &mut [u8], lie: Lie) {
    /// Places in the headers (man 5 elf).
    const E_PHOFF: usize = 32;
    const E_PHNUM: usize = 56;
    const E_SHNUM: usize = 60;
    const SH_OFFSET: usize = 24;
    const SH_SIZE: usize = 32;
    const SH_ENTSIZE: usize = 56;
    let huge = (1_u64 << 62).to_le_bytes();
    let sections = sections(bytes);
    match lie {
        Lie::SectionCount => bytes[E_SHNUM..E_SHNUM + 2].fill(0xff),
        Lie::SectionSizes => {
            for (at, _) in sections {
                bytes[at + SH_SIZE..at + SH_SIZE + 8].copy_from_slice(&huge);
            }
        }
        Lie::SymbolCounts => {
            for (at, _) in sections
                .into_iter()
                .filter(|(_, kind)| matches!(*kind, elf::SHT_SYMTAB | elf::SHT_DYNSYM))
            {
                // As large as may be read, of a file that ends long before.
                bytes[at + SH_SIZE..at + SH_SIZE + 8].copy_from_slice(&(250_u64 << 20).to_le_bytes());
                bytes[at + SH_ENTSIZE..at + SH_ENTSIZE + 8].fill(0);
            }
        }
        Lie::ProgramHeaders => {
            bytes[E_PHNUM..E_PHNUM + 2].fill(0xff);
            bytes[E_PHOFF..E_PHOFF + 8].copy_from_slice(&(u64::MAX - 8).to_le_bytes());
        }
        Lie::CieOfItself => {
            // Each entry of `.eh_frame`, a section of type PROGBITS or of its own, behind its length: the distance back
            // to its CIE. 4 is to the entry itself.
            let is_frames = |at: &usize| {
                let (section, _) = object::from_bytes::<Section>(&bytes[*at..]).unwrap();
                let names = section.sh_flags.get(E) == u64::from(elf::SHF_ALLOC);
                names && section.sh_size.get(E) > 16
            };
            let candidates: Vec<usize> = sections.iter().map(|(at, _)| *at).filter(is_frames).collect();
            for at in candidates {
                let offset = u64::from_le_bytes(bytes[at + SH_OFFSET..at + SH_OFFSET + 8].try_into().unwrap())
                    as usize;
                let size =
                    u64::from_le_bytes(bytes[at + SH_SIZE..at + SH_SIZE + 8].try_into().unwrap()) as usize;
                let mut entry = offset;
                while entry + 8 <= offset + size {
                    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
                    let (length, back) = (word(entry), word(entry + 4));
                    if length == 0 || length > size {
                        break;
                    }
                    if back != 0 && back == entry + 4 - offset {
                        bytes[entry + 4..entry + 8].copy_from_slice(&4_u32.to_le_bytes());
                    }
                    entry += length + 4;
                }
            }
        }
    }
}

struct Guest {
    name: &'static str,
    flags: Vec<String>,
    lie: Option<Lie>,
    /// Length that the file is given.
    length: Option<u64>,
    /// Where its threads are to be seen to wait; `None` where the tables may be so broken that it cannot be told.
    site: Option<String>,
}

fn guests() -> Vec<Guest> {
    let guest = |name, flags: &[&str], lie, site: Option<&str>| Guest {
        name,
        flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        lie,
        length: None,
        site: site.map(str::to_owned),
    };
    let acting = format!("-DNAME=\u{1b}]0;owned\u{7}{}", "n".repeat(1 << 20));
    let shown = "\u{fffd}]0;owned\u{fffd}nnn".to_owned();
    vec![
        guest("honest", &[], None, Some("guest_sleep")),
        guest(
            "endless_expression",
            &[ENDLESS_EXPRESSION],
            None,
            Some("guest_sleep"),
        ),
        guest("endless_frames", &[ENDLESS_FRAMES], None, Some("guest_sleep")),
        guest("own_frame", &[OWN_FRAME, "-DBARE=1"], None, Some("guest_sleep")),
        guest("own_cie", &[], Some(Lie::CieOfItself), Some("guest_sleep")),
        guest("section_count", &[], Some(Lie::SectionCount), None),
        guest("section_sizes", &[], Some(Lie::SectionSizes), None),
        guest("symbol_counts", &[], Some(Lie::SymbolCounts), None),
        guest(
            "program_headers",
            &[],
            Some(Lie::ProgramHeaders),
            Some("[guest-program_headers.so]"),
        ),
        Guest {
            length: Some(1 << 40),
            ..guest("sparse", &[], None, Some("guest_sleep"))
        },
        guest("names", &[&acting], None, Some(&shown)),
    ]
}

/// Every one of them beside each other: all threads are counted, where they can be told from is told, and nothing of it
/// acts on who reads it.
#[test]
fn libraries_that_lie() {
    let test = "hostile::libraries_that_lie";
    let folder = Folder::new("libraries");
    let Some(exe) = program(test, &folder) else { return };
    let Some(neighbour) = Neighbour::start(test) else {
        return;
    };
    let guests = guests();
    let mut running = Vec::new();
    for guest in &guests {
        let library = folder.path(&format!("guest-{}.so", guest.name));
        let mut flags = vec!["-shared"];
        // A name of 1 MB is longer than an argument may be.
        let included = folder.path(&format!("{}.h", guest.name));
        let defines: String = guest
            .flags
            .iter()
            .map(
                |flag| match flag.strip_prefix("-D").and_then(|define| define.split_once('=')) {
                    Some(("NAME", value)) => format!("#define NAME \"{value}\"\n"),
                    Some((name, value)) => format!("#define {name} {value}\n"),
                    None => String::new(),
                },
            )
            .collect();
        fs::write(&included, defines).unwrap();
        flags.extend(["-include", &included]);
        flags.extend(
            guest
                .flags
                .iter()
                .filter(|flag| !flag.starts_with("-D"))
                .map(String::as_str),
        );
        compile(GUEST, &library, &flags);
        let Some(hostile) = Hostile::start(test, &exe, &["guest", &library]) else {
            return;
        };
        // What it is by now mapped from changes under it: the loader would have refused some of it.
        if let Some(lie) = guest.lie {
            let mut bytes = fs::read(&library).unwrap();
            let honest = bytes.clone();
            tell(&mut bytes, lie);
            assert_ne!(bytes, honest, "{}", guest.name);
            let file = fs::OpenOptions::new().write(true).open(&library).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        }
        if let Some(length) = guest.length {
            let file = fs::OpenOptions::new().write(true).open(&library).unwrap();
            file.set_len(length).unwrap();
        }
        running.push(hostile);
    }
    let daemon = watch(&neighbour, &running.iter().collect::<Vec<_>>());
    neighbour.stays_seen(&daemon, Duration::from_secs(5));
    for (guest, hostile) in guests.iter().zip(&running) {
        let seen = daemon.process(hostile.pid()).unwrap();
        assert_eq!(seen.incomplete(), [""; 0], "{}: {seen:?}", guest.name);
        assert_eq!(seen.threads(), 3, "{}", guest.name);
        let counted: u64 = seen.counts().values().sum();
        assert_eq!(counted, 3, "{}: {seen:?}", guest.name);
        let sites: Vec<(&str, u64)> = seen
            .groups()
            .iter()
            .map(|group| {
                let site = group["block_site"]["function"].as_str().unwrap();
                (site, group["count"].as_u64().unwrap())
            })
            .collect();
        println!(
            "{}: {:?}",
            guest.name,
            sites
                .iter()
                .map(|(s, n)| (s.chars().take(40).collect::<String>(), n))
                .collect::<Vec<_>>()
        );
        if let Some(expected) = &guest.site {
            let found = sites.iter().find(|(site, _)| site.starts_with(expected.as_str()));
            assert_eq!(
                found.map(|(_, count)| *count),
                Some(2),
                "{}: {sites:?}",
                guest.name
            );
        }
    }
    let peak = helper_peak(&daemon);
    assert!(peak < MAX_HELPER_KIB, "{peak} KiB");
    for page in ["/metrics", "/", "/api/v1/snapshot"] {
        let (status, _, body) = daemon.get(page);
        assert_eq!(status, 200);
        assert!(!body.chars().any(|c| c.is_control() && c != '\n'), "{page}");
        let longest = body.split(['"', '<', '>']).map(str::len).max().unwrap();
        assert!(longest < 1 << 14, "{page}: {longest}");
        assert!(body.contains("]0;owned"), "{page} shows it, but harmless");
    }
    let pid = running.last().unwrap().pid().to_string();
    for (format, output) in snapshots_of(&pid) {
        assert!(output.contains("]0;owned"), "{format}: {output}");
        assert!(!output.chars().any(|c| c.is_control() && c != '\n'), "{format}");
        assert!(output.len() < 1 << 16, "{format}");
    }
}

/// A snapshot of a process in each format.
fn snapshots_of(pid: &str) -> [(&'static str, String); 3] {
    ["text", "json", "prometheus"].map(|format| {
        let output = crate::support::taskleak(&[
            "snapshot",
            "--pid",
            pid,
            "--observe",
            "700ms",
            "--blocked-after",
            "500ms",
            "--format",
            format,
            "--all-groups",
        ]);
        (format, String::from_utf8(output.stdout).unwrap())
    })
}

/// What a path leads to from here is not what the process runs: a FIFO has taken the place of its file, and in its own
/// mount namespace another file lies over a symbolic link's target. Path and name speak to terminals.
#[test]
fn paths_that_lead_elsewhere() {
    let test = "hostile::paths_that_lead_elsewhere";
    let folder = Folder::new("paths");
    let Some(exe) = program(test, &folder) else { return };
    let Some(neighbour) = Neighbour::start(test) else {
        return;
    };
    let library = folder.path("guest.so");
    compile(GUEST, &library, &["-shared"]);
    let red = folder.path("\u{1b}[31m\nred");
    fs::copy(&exe, &red).unwrap();
    let Some(replaced) = Hostile::start(test, &red, &["guest", &library]) else {
        return;
    };
    fs::remove_file(&red).unwrap();
    let fifo = std::ffi::CString::new(red.as_str()).unwrap();
    // SAFETY: a valid string.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    let (outside, link) = (folder.path("outside"), folder.path("link"));
    fs::copy("/bin/true", &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &link).unwrap();
    let script = format!(
        "mount --make-rprivate / && mount --bind '{exe}' '{link}' && exec '{link}' guest '{library}'"
    );
    let Some(covered) = Hostile::start(test, "unshare", &["--mount", "sh", "-c", &script]) else {
        return;
    };
    // Nothing of it is left to be opened by its name.
    fs::remove_file(&library).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &library).unwrap();
    let daemon = watch(&neighbour, &[&replaced, &covered]);
    neighbour.stays_seen(&daemon, Duration::from_secs(2));
    for hostile in [&replaced, &covered] {
        let seen = daemon.process(hostile.pid()).unwrap();
        let is_known = |group: &serde_json::Value| {
            group["block_site"]["function"] == "guest_sleep"
                && group["entry"]["function"] == "guest"
                && group["count"] == 2
        };
        assert!(seen.groups().iter().any(is_known), "{seen:?}");
        assert_eq!(seen.incomplete(), [""; 0]);
    }
    let pid = replaced.pid().to_string();
    for (format, output) in snapshots_of(&pid) {
        assert!(output.contains("[31m"), "{format}: {output}");
        assert!(
            !output.chars().any(|c| c.is_control() && c != '\n'),
            "{format}: {output}"
        );
        assert!(
            !output.lines().any(|line| line.starts_with("red")),
            "{format}: {output}"
        );
    }
    let (_, _, page) = daemon.get("/");
    assert!(!page.chars().any(|c| c.is_control() && c != '\n'), "{page}");
}
