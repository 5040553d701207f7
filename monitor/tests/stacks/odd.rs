//! Targets that are gone, change, or lie.

use std::{
    fs::{self, File},
    io::Write as _,
    os::fd::AsRawFd as _,
    path::Path,
    process::Command,
    time::Duration,
};

use taskleak::{
    identify::{CodeAddress, Inspector, MAX_NAME, Options, Registers, StackError},
    observe::memory::present::Pages,
};
use testbed::{Program, Target};

use crate::{
    builds::compile,
    support::{Folder, Running, misses, registers, run, skip, stacks, stacks_by, start, sweep, text},
};

/// Longest time that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn inspector() -> Inspector {
    Inspector::new(Options::default())
}

pub fn own() -> (u32, u32) {
    // SAFETY: takes nothing, returns a number.
    (std::process::id(), unsafe { libc::gettid() as u32 })
}

/// A mapping of our own, as a target might have it.
pub struct Mapping {
    at: *mut libc::c_void,
    length: usize,
}

impl Mapping {
    pub fn of(file: Option<&File>, offset: u64, length: usize, protection: i32) -> Self {
        let flags = libc::MAP_PRIVATE | if file.is_none() { libc::MAP_ANONYMOUS } else { 0 };
        let descriptor = file.map_or(-1, |file| file.as_raw_fd());
        // SAFETY: a new mapping, which nobody looks into.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                flags,
                descriptor,
                offset as libc::off_t,
            )
        };
        assert_ne!(at, libc::MAP_FAILED, "{}", std::io::Error::last_os_error());
        Self { at, length }
    }

    /// Code of a file.
    fn code(path: &Path, offset: u64) -> Self {
        let file = File::open(path).unwrap();
        Self::of(Some(&file), offset, 4096, libc::PROT_READ | libc::PROT_EXEC)
    }

    pub fn address(&self) -> u64 {
        self.at as u64
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nobody holds a reference into it.
        unsafe { libc::munmap(self.at, self.length) };
    }
}

#[test]
fn a_process_or_thread_that_is_gone() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    let nowhere = Registers { ip: 0, sp: 0, bp: 0 };
    let mut inspector = inspector();
    assert!(matches!(
        inspector.stack(pid, pid, nowhere),
        Err(StackError::Gone)
    ));
    // Of another process.
    assert!(matches!(
        inspector.stack(own().0, 1, nowhere),
        Err(StackError::Gone)
    ));
    assert!(matches!(
        inspector.name(pid, pid, CodeAddress::Exact(0)),
        Err(StackError::Gone)
    ));
}

#[test]
fn code_of_32_bits() {
    let args = ["mutex=2".to_owned(), "poll=2".to_owned()];
    let Some(target) = start("odd::code_of_32_bits", Program::CBlockers32, &args) else {
        return;
    };
    for thread in stacks(target.pid()) {
        assert!(matches!(thread.stack, Err(StackError::ThirtyTwoBit)), "{thread}");
    }
}

/// A page that is not in memory stays where it is.
#[test]
fn a_stack_that_is_not_in_memory() {
    let (pid, tid) = own();
    let stack = Mapping::of(None, 0, 64 << 10, libc::PROT_READ | libc::PROT_WRITE);
    let registers = Registers {
        ip: a_stack_that_is_not_in_memory as fn() as usize as u64,
        sp: stack.address() + 4096,
        bp: 0,
    };
    let told = inspector().stack(pid, tid, registers);
    assert!(matches!(told, Err(StackError::Absent)), "{told:?}");
    let range = stack.address()..stack.address() + stack.length as u64;
    assert!(Pages::of(tid).unwrap().present(range).unwrap().is_empty());
}

/// Registers that lead nowhere: what is known is told, and no more.
#[test]
fn registers_that_lead_nowhere() {
    let (pid, tid) = own();
    let words = [0_u64; 64];
    let sp = words.as_ptr() as u64;
    for ip in [0, 1, 1 << 63, u64::MAX, sp] {
        let registers = Registers { ip, sp, bp: u64::MAX };
        let stack = inspector().stack(pid, tid, registers).unwrap();
        assert_eq!(stack.frames.len(), 1);
        assert_eq!((stack.frames[0].module.as_str(), stack.frames[0].offset), ("", 0));
        assert!(stack.truncated);
        assert_eq!(stack.block_site().unwrap().function, "[unknown]");
        assert_eq!(stack.entry(), None);
    }
}

#[test]
fn addresses_are_named() {
    let (pid, tid) = own();
    let here = addresses_are_named as fn() as usize as u64;
    let mut inspector = inspector();
    let mut name = |address| inspector.name(pid, tid, address).unwrap().pop().unwrap();
    let exact = name(CodeAddress::Exact(here));
    assert_eq!(
        exact.function.as_deref(),
        Some("stacks::odd::addresses_are_named")
    );
    assert!(exact.file.unwrap().ends_with("tests/stacks/odd.rs"));
    assert_eq!(
        exact.module,
        std::env::current_exe()
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
    );
    // A call that returns to the beginning of a function is the last thing that the one before it does.
    let before = name(CodeAddress::Return(here));
    assert_ne!(
        before.function.as_deref(),
        Some("stacks::odd::addresses_are_named")
    );
    assert_eq!(before.offset + 1, exact.offset);
    let made = Mapping::of(None, 0, 4096, libc::PROT_READ | libc::PROT_EXEC);
    let made = name(CodeAddress::Exact(made.address() + 5));
    assert_eq!(
        (made.function, made.module.as_str(), made.offset),
        (None, "[jit]", 5)
    );
}

/// The kernel's own code in every process: in no file.
#[test]
fn the_vdso_is_named() {
    let (pid, tid) = own();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let Some(line) = maps.lines().find(|line| line.ends_with("[vdso]")) else {
        return skip("odd::the_vdso_is_named", "no vDSO");
    };
    let (start, _) = line.split_once('-').unwrap();
    let start = u64::from_str_radix(start, 16).unwrap();
    let mut inspector = inspector();
    let mut name = |offset| {
        let address = CodeAddress::Exact(start + offset);
        inspector.name(pid, tid, address).unwrap().pop().unwrap()
    };
    let frames: Vec<_> = (0..4096).step_by(64).map(&mut name).collect();
    assert!(frames.iter().all(|frame| frame.module == "[vdso]"));
    let is_known = |name: &str| name.contains("clock_gettime") || name.contains("vdso_time");
    assert!(
        frames
            .iter()
            .any(|frame| frame.function.as_deref().is_some_and(is_known))
    );
}

/// The frame is there, under the file's name.
#[test]
fn files_that_are_no_programs() {
    let folder = Folder::new("no-programs");
    let write = |name: &str, content: &[u8]| {
        fs::write(folder.path(name), content).unwrap();
        folder.path(name)
    };
    let program = fs::read("/bin/true").unwrap();
    let sparse = folder.path("sparse");
    let mut file = File::create(&sparse).unwrap();
    file.write_all(&program).unwrap();
    file.set_len(1 << 40).unwrap();
    let files = [
        write("empty-page", &[0; 4096]),
        write("text", &b"text ".repeat(1000)),
        write("header-only", &program[..64]),
        sparse,
        "/dev/zero".into(),
    ];
    let (pid, tid) = own();
    let mut inspector = inspector();
    for path in files {
        let code = Mapping::code(&path, 0);
        // It may lie where the one before it lay.
        inspector.forget(pid);
        let frames = inspector
            .name(pid, tid, CodeAddress::Exact(code.address() + 8))
            .unwrap();
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].function, None);
        let expected = path.file_name().unwrap().to_str().unwrap();
        assert_eq!((frames[0].module.as_str(), frames[0].offset), (expected, 8));
    }
}

/// A real program of which some bytes are others: whatever they say, there is an answer.
#[test]
fn programs_that_lie() {
    if misses("odd::programs_that_lie", &["gcc"]) {
        return;
    }
    let folder = Folder::new("liars");
    let exe = folder.path("exe");
    compile(&exe, &["-g"]);
    let original = fs::read(&exe).unwrap();
    let code_offset = 0x3000;
    let (pid, tid) = own();
    let mut random = fastrand::Rng::with_seed(42);
    let mut inspector = inspector();
    let words: Vec<u64> = (0..512).collect();
    for round in 0..100 {
        let mut bytes = original.clone();
        for _ in 0..random.usize(1..40) {
            // Most of them where the tables are.
            let at = match random.u8(0..4) {
                0 => random.usize(0..0x400),
                1 => bytes.len() - 1 - random.usize(0..0x1000),
                _ => random.usize(0..bytes.len()),
            };
            bytes[at] = *random.choice(&[0, 1, 0x7f, 0x80, 0xff]).unwrap_or(&0);
        }
        let path = folder.path(&format!("liar-{round}"));
        fs::write(&path, &bytes).unwrap();
        let code = Mapping::code(&path, code_offset);
        inspector.forget(pid);
        for _ in 0..8 {
            let ip = code.address() + random.u64(0..4096);
            let stack = words.as_ptr() as u64;
            let registers = Registers {
                ip,
                sp: stack,
                bp: stack + 8 * random.u64(0..64),
            };
            for told in [
                inspector.stack(pid, tid, registers).map(|stack| stack.frames),
                inspector.name(pid, tid, CodeAddress::Exact(ip)),
            ] {
                match told {
                    Ok(frames) => assert!(!frames.is_empty()),
                    Err(StackError::Decoder | StackError::ThirtyTwoBit) => {}
                    Err(error) => panic!("{round}: {error}"),
                }
            }
        }
        fs::remove_file(&path).unwrap();
    }
    let counters = inspector.counters();
    assert!(counters.modules > 0 && counters.modules <= 256, "{counters:?}");
}

/// Names that are too long, or speak to terminals.
#[test]
fn names_that_act() {
    if misses("odd::names_that_act", &["gcc"]) {
        return;
    }
    let folder = Folder::new("names");
    let (source, exe) = (folder.path("names.c"), folder.path("names"));
    let long = "x".repeat(100_000);
    let code = format!(
        r#"
        #include <unistd.h>
        #include <stdio.h>
        void acting(void) __asm__("\"\33[31mred\"");
        __attribute__((noipa)) void acting(void) {{ for (;;) pause(); }}
        __attribute__((noipa)) int {long}(void) {{ acting(); return 1; }}
        int main(void) {{ puts("ready"); fflush(stdout); return {long}(); }}
        "#
    );
    fs::write(&source, code).unwrap();
    run(
        "gcc",
        &[
            "-O1",
            "-fno-optimize-sibling-calls",
            text(&source),
            "-o",
            text(&exe),
        ],
    );
    let Some(running) = Running::start("odd::names_that_act", Command::new(&exe)) else {
        return;
    };
    let threads = stacks(running.pid());
    let stack = threads[0].stack();
    let names: Vec<_> = stack
        .frames
        .iter()
        .filter_map(|frame| frame.function.as_deref())
        .collect();
    assert!(names.contains(&"\u{fffd}[31mred"), "{names:?}");
    let long = names.iter().find(|name| name.starts_with("xxx")).unwrap();
    assert_eq!(long.chars().count(), MAX_NAME);
    assert!(long.ends_with('…'));
}

#[test]
fn a_stack_that_is_too_deep_is_cut() {
    if misses("odd::a_stack_that_is_too_deep_is_cut", &["gcc"]) {
        return;
    }
    let folder = Folder::new("deep");
    let exe = folder.path("odd");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stacks/programs/odd.c");
    run("gcc", &["-O2", "-g", "-pthread", source, "-o", text(&exe)]);
    let Some(running) = Running::start("odd::a_stack_that_is_too_deep_is_cut", Command::new(&exe)) else {
        return;
    };
    let mut inspector = Inspector::new(Options {
        max_frames: 20,
        ..Options::default()
    });
    let threads = stacks_by(&mut inspector, running.pid());
    let deep = threads.iter().find(|thread| thread.comm == "deep").unwrap();
    assert_eq!(deep.stack().frames.len(), 20);
    assert!(deep.stack().truncated);
    assert_eq!(
        (deep.block_site(), deep.entry()),
        ("descend".to_owned(), "none".to_owned())
    );
    let other = threads.iter().find(|thread| thread.comm == "handler").unwrap();
    assert!(!other.stack().truncated);
}

/// One file is read once, however many processes have it mapped, and however often.
#[test]
fn modules_are_shared() {
    let start = || Target::start(Program::CBlockers, &["mutex=5", "poll=5"]).unwrap();
    let targets = [start(), start(), start()];
    std::thread::sleep(Duration::from_secs(1));
    let mut inspector = inspector();
    let mut seen = Vec::new();
    for target in &targets {
        stacks_by(&mut inspector, target.pid());
        seen.push(inspector.counters());
    }
    let [first, second, third] = [seen[0], seen[1], seen[2]];
    assert_eq!((first.modules, first.processes), (2, 1));
    assert_eq!(
        (third.modules, third.module_bytes, third.processes),
        (2, first.module_bytes, 3)
    );
    assert_eq!(second.names, third.names);
    assert_eq!((third.evicted, third.panics), (0, 0));
}

/// The same pid, another program: what was known of it does not hold any more.
#[test]
fn a_process_that_calls_exec() {
    let exe = Program::CBlockers.build().unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", "echo ready; sleep 4; exec \"$0\" mutex=1"])
        .arg(exe.get_program());
    let Some(running) = Running::start("odd::a_process_that_calls_exec", command) else {
        return;
    };
    let mut inspector = inspector();
    let before = stacks_by(&mut inspector, running.pid());
    assert!(
        before[0]
            .stack()
            .frames
            .iter()
            .any(|frame| frame.module == "dash"),
        "{}",
        before[0]
    );
    let after = loop {
        let now = stacks_by(&mut inspector, running.pid());
        if now.len() > 2 {
            break now;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let thread = after.iter().find(|thread| thread.comm == "mutex").unwrap();
    assert_eq!(thread.block_site(), "mutex_acquire_forever", "{thread}");
}

/// Killed while it is read, over and over.
#[test]
fn a_process_that_dies_meanwhile() {
    let mut inspector = inspector();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..30 {
        let target = Target::start(Program::CBlockers, &["mutex=30", "poll=30"]).unwrap();
        let pid = target.pid();
        let records = sweep(pid);
        let delay = Duration::from_micros(random.u64(0..4000));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(delay);
            drop(target);
        });
        let deadline = std::time::Instant::now() + PATIENCE;
        for record in records.iter().cycle() {
            match inspector.stack(pid, record.tid, registers(record)) {
                Ok(_) | Err(StackError::Absent) => {}
                // Its last threads end one by one.
                Err(StackError::Gone | StackError::Denied(_)) => break,
                Err(error) => panic!("{error}"),
            }
            assert!(std::time::Instant::now() < deadline, "it is never gone");
        }
        killer.join().unwrap();
    }
    assert_eq!(inspector.counters().panics, 0);
}
