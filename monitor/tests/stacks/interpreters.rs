//! Java and Python: their own frames are not shown yet, the native ones reach the bottom.

use testbed::Program;

use crate::{
    scenarios::{args, still},
    support::{by_name, stacks, start},
};

fn check(program: Program, name: &str) {
    let scenarios = still(program);
    let Some(target) = start(
        &format!("interpreters::{program:?}"),
        program,
        &args(&scenarios, 2),
    ) else {
        return;
    };
    let threads = by_name(stacks(target.pid()));
    for scenario in scenarios {
        let threads = &threads[scenario.comm()];
        assert_eq!(threads.len(), 2, "{}", scenario.name);
        for thread in threads {
            assert_eq!(thread.block_site(), name, "{thread}");
            assert_eq!(thread.entry(), name, "{thread}");
            let frames = &thread.stack().frames;
            assert_eq!(
                frames.last().unwrap().function.as_deref(),
                Some("clone3"),
                "{thread}"
            );
            assert!(frames.iter().all(|frame| !frame.guessed), "{thread}");
        }
    }
}

#[test]
fn python() {
    check(Program::PythonBlockers, "[python]");
}

#[test]
fn java() {
    check(Program::JavaBlockers, "[java]");
}
