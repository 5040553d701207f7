//! What is kept between two looks: bounded, and never another program's.

use std::{
    fs::{self, File},
    process::Command,
};

use taskleak::identify::CodeAddress;

use crate::{
    odd::{Mapping, inspector, own},
    support::{Folder, Running, misses, run, text},
};

/// The same pid, and code at the same addresses, at once: only who says so makes it another program.
#[test]
fn another_program_at_the_same_addresses() {
    let test = "odd::another_program_at_the_same_addresses";
    if misses(test, &["gcc", "setarch"]) {
        return;
    }
    let folder = Folder::new("same");
    let source = folder.path("same.c");
    fs::write(
        &source,
        r#"
        #include <signal.h>
        #include <stdio.h>
        #include <unistd.h>
        static volatile int called;
        static void call(int signal) { called = signal; }
        __attribute__((noipa)) void NAME(void) { while (!called) pause(); }
        int main(int argc, char **argv) {
            signal(SIGUSR1, call);
            puts("ready");
            fflush(stdout);
            NAME();
            execv(argv[argc - 1], argv);
        }
        "#,
    )
    .unwrap();
    let programs = ["first_wait", "second_wait"].map(|name| {
        let exe = folder.path(name);
        run(
            "gcc",
            &[
                "-O2",
                "-static",
                "-no-pie",
                &format!("-DNAME={name}"),
                text(&source),
                "-o",
                text(&exe),
            ],
        );
        exe
    });
    let mut command = Command::new("setarch");
    command.arg("-R").args(&programs);
    let Some(running) = Running::start(test, command) else {
        return;
    };
    let pid = running.pid();
    let image = fs::read(&programs[0]).unwrap();
    let address = {
        use object::{Object as _, ObjectSymbol as _};
        let image = object::File::parse(&*image).unwrap();
        image.symbol_by_name("first_wait").unwrap().address()
    };
    let mut inspector = inspector();
    let mut name = |identity| {
        inspector.now_stands_for(pid, identity);
        let frames = inspector.name(pid, pid, CodeAddress::Exact(address)).unwrap();
        frames[0].function.clone().unwrap()
    };
    assert_eq!(name((1, 1)), "first_wait");
    // SAFETY: plain numbers; a child that was not reaped.
    unsafe { libc::kill(pid as i32, libc::SIGUSR1) };
    while fs::read_link(format!("/proc/{pid}/exe")).unwrap() != programs[1] {
        std::thread::yield_now();
    }
    assert_eq!(name((1, 2)), "second_wait", "an exec");
    assert_eq!(name((1, 2)), "second_wait");
    assert_eq!(name((7, 2)), "second_wait", "another process");
}

/// More functions than names are kept: the oldest make room, and whatever is asked for is right.
#[test]
fn more_names_than_are_kept() {
    const FUNCTIONS: u64 = 70_000;
    const KEPT: usize = 64 << 10;
    let test = "odd::more_names_than_are_kept";
    if misses(test, &["gcc"]) {
        return;
    }
    let folder = Folder::new("more");
    let (source, library) = (folder.path("more.s"), folder.path("more.so"));
    let functions: String = (0..FUNCTIONS)
        .map(|index| format!(".type f{index}, @function\nf{index}: ret\n.balign 16\n.size f{index}, 16\n"))
        .collect();
    fs::write(&source, format!(".text\n.balign 4096\n{functions}\n")).unwrap();
    run(
        "gcc",
        &["-shared", "-nostdlib", text(&source), "-o", text(&library)],
    );
    let file = fs::read(&library).unwrap();
    let (offset, size) = {
        use object::{Object as _, ObjectSection as _};
        let image = object::File::parse(&*file).unwrap();
        image.section_by_name(".text").unwrap().file_range().unwrap()
    };
    assert_eq!((offset % 4096, size), (0, FUNCTIONS * 16));
    let file = File::open(&library).unwrap();
    let code = Mapping::of(
        Some(&file),
        offset,
        size as usize,
        libc::PROT_READ | libc::PROT_EXEC,
    );
    let (pid, tid) = own();
    let mut inspector = inspector();
    let mut check = |index: u64| {
        let address = CodeAddress::Exact(code.address() + index * 16);
        let frames = inspector.name(pid, tid, address).unwrap();
        assert_eq!(frames[0].function, Some(format!("f{index}")));
        inspector.counters()
    };
    let filled = (0..FUNCTIONS).map(&mut check).last().unwrap();
    assert!(filled.names <= KEPT && filled.names > KEPT / 2, "{filled:?}");
    assert!(filled.evicted >= FUNCTIONS - KEPT as u64, "{filled:?}");
    // The first ones again, which have been let go.
    let again = (0..1_000).map(&mut check).last().unwrap();
    assert!(again.names <= KEPT && again.name_bytes <= 32 << 20, "{again:?}");
    assert_eq!(again.panics, 0);
}
