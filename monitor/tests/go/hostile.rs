//! Programs that claim to be Go and lie. In every case there is an answer in bounded time, and it is no nonsense.
//!
//! Two kinds: files that were changed before they were started (they only pause: what the runtime would set up is
//! not there), and real programs whose memory the test changes while they are stopped. Only the test writes into
//! them.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use taskleak::observe::go::protocol::Unknown;
use testbed::{
    Target,
    go::{self, Flavor},
};

use crate::reader::Reader;

const VERSION: &str = "1.27";
/// More than any answer takes, on a busy machine too.
const BOUND: Duration = Duration::from_secs(20);

/// `None` where this machine has no such Go.
fn program(test: &str) -> Option<PathBuf> {
    let built = go::build(VERSION, Flavor::Plain).map(|command| PathBuf::from(command.get_program()));
    testbed::or_skip(test, built).unwrap()
}

/// What is where in the file.
struct Layout {
    bytes: Vec<u8>,
}

impl Layout {
    fn address(&self, symbol: &str) -> u64 {
        let file = object::File::parse(&*self.bytes).unwrap();
        let found = file.symbols().find(|it| it.name() == Ok(symbol));
        found.unwrap_or_else(|| panic!("no {symbol}")).address()
    }

    /// Where the bytes of an address are in the file.
    fn offset(&self, address: u64) -> usize {
        let file = object::File::parse(&*self.bytes).unwrap();
        let holds = |section: &object::Section<'_, '_>| {
            section.file_range().is_some()
                && (section.address()..section.address() + section.size()).contains(&address)
        };
        let section = file.sections().find(holds).unwrap();
        (section.file_range().unwrap().0 + address - section.address()) as usize
    }

    fn put(&mut self, address: u64, bytes: &[u8]) {
        let at = self.offset(address);
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn word(&self, address: u64) -> u64 {
        let at = self.offset(address);
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }
}

/// A changed program, running; killed and removed when dropped.
struct Liar {
    child: Child,
    path: PathBuf,
}

impl Liar {
    fn start(name: &str, mut layout: Layout) -> Self {
        let entry = object::File::parse(&*layout.bytes).unwrap().entry();
        // mov $34 (pause), %eax; syscall; jmp to the start
        layout.put(entry, &[0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7]);
        let path = std::env::temp_dir().join(format!("taskleak-liar-{name}-{}", std::process::id()));
        fs::write(&path, &layout.bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        // Another test's fork may hold it open for writing for a moment.
        let begun = Instant::now();
        let child = loop {
            match Command::new(&path).stdin(Stdio::null()).spawn() {
                Ok(child) => break child,
                Err(error) if begun.elapsed() > BOUND => panic!("{error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        Self { child, path }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes words into a process of the test's own.
fn poke(pid: u32, address: u64, words: &[u64]) {
    let memory = File::options()
        .write(true)
        .open(format!("/proc/{pid}/mem"))
        .unwrap();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    memory.write_all_at(&bytes, address).unwrap();
}

fn ask(pid: u32) -> Result<(usize, u64), Unknown> {
    let begun = Instant::now();
    let answer = Reader::new(pid).goroutines();
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    answer.map(|(records, unreadable)| (records.len(), unreadable))
}

/// Starts a changed file and reads it: it is never taken for a sound one.
fn refused(name: &str, change: impl FnOnce(&mut Layout)) -> Option<Unknown> {
    let path = program(&format!("go::hostile::{name}"))?;
    let mut layout = Layout {
        bytes: fs::read(path).unwrap(),
    };
    change(&mut layout);
    let liar = Liar::start(name, layout);
    std::thread::sleep(Duration::from_millis(100));
    Some(ask(liar.pid()).expect_err("it is refused"))
}

fn header(layout: &Layout) -> u64 {
    layout.address("runtime.pclntab")
}

#[test]
fn a_program_that_has_not_begun_has_nothing_to_tell() {
    let Some(refusal) = refused("unchanged", |_| {}) else {
        return;
    };
    assert!(
        matches!(&refusal, Unknown::Unreadable(why) if why.contains("goroutines")),
        "{refusal:?}"
    );
}

#[test]
fn versions_that_nobody_knows_are_named() {
    let change = |text: &'static [u8]| {
        move |layout: &mut Layout| {
            let address = layout.address("go:buildinfo");
            layout.put(address + 32, text);
        }
    };
    let Some(refusal) = refused("future", change(b"\x08go1.99.3")) else {
        return;
    };
    assert_eq!(refusal, Unknown::Layout("go1.99.3".to_owned()));
    // A megabyte; and a length that never ends.
    for (name, text) in [("megabyte", &b"\x80\x80\x40"[..]), ("endless", &[0xff; 12])] {
        assert_eq!(refused(name, change(text)), Some(Unknown::Other));
    }
}

#[test]
fn tables_that_lie_are_refused() {
    let counts: [(&str, u64); 3] = [("none", 0), ("many", 4 << 20), ("endless", u64::MAX)];
    for (name, count) in counts {
        let Some(refusal) = refused(&format!("count-{name}"), |layout| {
            let header = header(layout);
            layout.put(header + 8, &count.to_le_bytes());
        }) else {
            return;
        };
        assert!(matches!(refusal, Unknown::Unreadable(_)), "{name}: {refusal:?}");
    }
    // Names without an end; values that never end; functions that all point at the first one's place, or far away.
    let parts: [(&str, u64, u64, u8); 4] = [
        ("names", 32, 40, b'a'),
        ("values", 56, 64, 0x80),
        ("index", 64, 0, 0),
        ("far", 64, 0, 0xff),
    ];
    for (name, from, to, byte) in parts {
        let refusal = refused(&format!("filled-{name}"), |layout| {
            let header = header(layout);
            let start = header + layout.word(header + from);
            let length = match to {
                0 => 8 * layout.word(header + 8),
                to => header + layout.word(header + to) - start,
            };
            layout.put(start, &vec![byte; length as usize]);
        });
        let refusal = refusal.unwrap();
        assert!(
            matches!(refusal, Unknown::Unreadable(_) | Unknown::Layout(_)),
            "{name}: {refusal:?}"
        );
    }
}

/// Lists of goroutines that the runtime would never make, in a program whose runtime never ran.
#[test]
fn lists_that_lie_are_refused() {
    let Some(path) = program("go::hostile::lists") else {
        return;
    };
    let layout = Layout {
        bytes: fs::read(path).unwrap(),
    };
    let (length, list) = (
        layout.address("runtime.allglen"),
        layout.address("runtime.allgptr"),
    );
    // Half a megabyte of zeros that nobody uses.
    let space = layout.address("runtime.mheap_");
    let liar = Liar::start("lists", layout);
    std::thread::sleep(Duration::from_millis(100));
    let pid = liar.pid();
    let here: Vec<u64> = (0..1000).map(|number| space + 8 * number).collect();
    let cases: [(&str, u64, u64, &[u64]); 8] = [
        ("more than there is memory for", 1 << 60, space, &[]),
        ("more than a pointer counts", u64::MAX, space, &[]),
        ("nowhere", 1000, 16, &[]),
        ("the kernel's", 1000, 0xffff_8000_0000_0000, &[]),
        ("beyond all addresses", 1000, u64::MAX - 15, &[]),
        ("of what lies nowhere", 1000, space, &[16; 1000]),
        ("of itself", 1000, space, &here),
        ("of the one place a thousand times", 1000, space, &[space; 1000]),
    ];
    for (what, count, at, words) in cases {
        poke(pid, length, &[count]);
        poke(pid, list, &[at]);
        if !words.is_empty() {
            poke(pid, space, words);
        }
        let refusal = ask(pid).expect_err(what);
        let is_about_it = match &refusal {
            Unknown::Unreadable(why) => why.contains("goroutines"),
            Unknown::Layout(version) => version.starts_with("go1.27"),
            Unknown::Other => false,
        };
        assert!(is_about_it, "{what}: {refusal:?}");
    }
}

/// The same in a program that was sound when it was met.
#[test]
fn a_list_that_begins_to_lie_later_costs_what_it_lies_about() {
    let Some(path) = program("go::hostile::later") else {
        return;
    };
    let layout = Layout {
        bytes: fs::read(path).unwrap(),
    };
    let (length, list) = (
        layout.address("runtime.allglen"),
        layout.address("runtime.allgptr"),
    );
    let target =
        Target::start_command(go::build(VERSION, Flavor::Plain).unwrap(), &["chan_receive=500"]).unwrap();
    let pid = target.pid();
    let mut reader = Reader::new(pid);
    let (records, unreadable) = reader.goroutines().unwrap();
    assert!(records.len() > 500 && unreadable == 0);
    // It does not notice what is done to it.
    target.signal(libc::SIGSTOP).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let word = |address: u64| {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, address).unwrap();
        u64::from_le_bytes(bytes)
    };
    let array = word(list);
    poke(pid, array + 8 * 200, &[16; 100]);
    let (fewer, unreadable) = reader.goroutines().unwrap();
    // A hundred times the same place counts once.
    assert_eq!(unreadable, 1);
    assert_eq!(fewer.len(), records.len() - 100);
    assert!(fewer.iter().all(|(id, record)| records[id] == *record));
    poke(pid, length, &[1 << 60]);
    let refusal = reader.goroutines().expect_err("2^60 goroutines");
    assert!(
        matches!(&refusal, Unknown::Unreadable(why) if why.contains("claims")),
        "{refusal:?}"
    );
}

/// Stacks whose frames lead in a circle, or out of the stack.
#[test]
fn stacks_that_lie_end() {
    let Some(_) = program("go::hostile::stacks") else {
        return;
    };
    let target =
        Target::start_command(go::build(VERSION, Flavor::Plain).unwrap(), &["chan_receive=3"]).unwrap();
    let pid = target.pid();
    let mut reader = Reader::new(pid);
    let (records, _) = reader.goroutines().unwrap();
    target.signal(libc::SIGSTOP).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let blocked: Vec<_> = records
        .values()
        .filter(|record| reader.reasons[usize::from(record.reason)] == "chan receive")
        .filter(|record| record.thread == 0)
        .cloned()
        .collect();
    let mut checked = 0;
    for (number, record) in blocked.iter().enumerate() {
        let mut bounds = [0; 16];
        memory.read_exact_at(&mut bounds, record.address).unwrap();
        let top = u64::from_le_bytes(bounds[8..].try_into().unwrap());
        let mut stack = [0; 256];
        memory.read_exact_at(&mut stack, top - 256).unwrap();
        let words: Vec<u64> = (0..32)
            .map(|at| u64::from_le_bytes(stack[8 * at..8 * at + 8].try_into().unwrap()))
            .collect();
        // Saved frame pointers, and return addresses.
        let lie = |word: &u64| match number % 3 {
            0 if (top - 256..top).contains(word) => top - 256,
            1 if *word < 1 << 32 => *word ^ 0xffff,
            _ if (top - 256..top).contains(word) => u64::MAX - 7,
            _ => *word,
        };
        poke(pid, top - 256, &words.iter().map(lie).collect::<Vec<_>>());
        let begun = Instant::now();
        if let Some(named) = reader.stack(record) {
            assert!(named.frames.len() <= 128);
            checked += 1;
        }
        assert!(begun.elapsed() < BOUND);
    }
    assert!(checked >= 3, "{checked} of {}", blocked.len());
}
