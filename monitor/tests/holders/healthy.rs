//! Programs that are busy with locks and pools, and not deadlocked.

use testbed::Program;

use crate::support::{Observer, start};

const LOOKS: usize = 50;

fn never_a_cycle(program: Program, scenarios: &[&str]) {
    let Some(target) = start(&format!("healthy {program:?}"), program, scenarios) else {
        return;
    };
    let mut observer = Observer::new(target.pid());
    for _ in 0..LOOKS {
        let look = observer.look();
        assert!(look.cycles().is_empty(), "{look:#?}");
    }
}

#[test]
fn threads_that_pass_a_token() {
    never_a_cycle(Program::CBlockers, &["ping_pong=10"]);
}

#[test]
fn two_threads_at_one_futex() {
    never_a_cycle(Program::PingPong, &["10"]);
}

/// One sweep finds holders among them, as it should: they hold, for a moment. Two sweeps find that it does not last
/// (unless the machine lets nobody run in between).
#[test]
fn threads_that_take_turns_at_locks() {
    let Some(target) = start("lock_traffic", Program::CBlockers, &["lock_traffic=4"]) else {
        return;
    };
    let mut observer = Observer::new(target.pid());
    let (mut met, mut lasted) = (0, 0);
    for _ in 0..LOOKS {
        let (at_once, lasting) = observer.looks();
        met += at_once.edges.len();
        lasted += lasting.edges.len();
        assert!(lasting.cycles().is_empty(), "{lasting:#?}");
    }
    assert!(lasted < met / 2, "{lasted} of {met}");
}

#[test]
fn idle_pools() {
    never_a_cycle(Program::Demo, &[]);
    never_a_cycle(Program::PythonBlockers, &["executor_idle=5"]);
    never_a_cycle(Program::JavaBlockers, &["park=3", "queue_take=3"]);
}
