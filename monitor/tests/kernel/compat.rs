//! 32-bit programs: another system call table, and no futex tracepoint fires for them.

use testbed::Program;

use crate::support::{expected, snapshot, start};

#[test]
fn a_32_bit_program() {
    let scenarios = [
        "mutex=3",
        "cond=2",
        "poll=2",
        "select=1",
        "read=2",
        "cond_2days=1",
        "timed_cond=2",
        "timed_poll=1",
        "sleep=1",
        "cond_2h=1",
        "semop=2",
    ];
    let Some(target) = start("compat::a_32_bit_program", Program::CBlockers32, &scenarios) else {
        return;
    };
    let seen = snapshot(target.pid(), &["--observe", "1500ms"]);
    assert_eq!(seen.counts(), expected(Program::CBlockers32, &scenarios));
    assert_eq!(
        seen.value["futex_waits"], 0,
        "the tracepoints see native calls only"
    );
    assert!(seen.incomplete().is_empty(), "{seen:?}");
}
