use super::*;

const SECOND: u64 = 1_000_000_000;
const THRESHOLD: Duration = Duration::from_secs(1);

const REASONS: [&str; 6] = [
    "",
    "chan receive",
    "sleep",
    "IO wait",
    "finalizer wait",
    "GC worker (idle)",
];

fn record(id: u64, runs: u64, reason: u8, status: Status) -> Record {
    Record {
        address: id * 512,
        id,
        status,
        reason,
        seq: 1,
        wait_since: 0,
        gopc: 900,
        startpc: runs,
        place: 1,
        thread: 40 + id,
        order: 0,
        parent: 0,
        is_locked: false,
        is_leaked: false,
        bubble: 0,
    }
}

fn site(function: &str) -> Option<Site> {
    Some(Site {
        function: function.to_owned(),
        file: None,
        line: None,
    })
}

/// Looks twice, ten seconds apart, at goroutines that run these functions.
fn memory(functions: &[&str], records: &[Record]) -> Memory {
    let mut memory = Memory::default();
    memory.set_reasons(REASONS.map(str::to_owned).to_vec());
    for at in [10 * SECOND, 20 * SECOND] {
        let entries = records
            .iter()
            .map(|record| memory.entry(record, at, at))
            .collect();
        memory.tracker.look(at, entries);
    }
    memory
        .runs
        .name(functions.iter().map(|function| site(function)).collect());
    memory.made_at.name(vec![site("main.spawn")]);
    memory
}

fn view(memory: &Memory) -> View {
    memory.view("go1.27.3", Some(THRESHOLD), BTreeSet::new())
}

#[test]
fn what_ends_by_itself_or_is_the_runtimes_own_is_a_task_and_not_blocked() {
    let functions = ["main.worker", "runtime.bgsweep", "runtime.runFinalizers"];
    let records = [
        record(1, 100, 1, Status::Waiting),
        record(2, 100, 2, Status::Waiting),
        record(3, 101, 5, Status::Waiting),
        // The runtime's own in a reason of the program's; finalizers, waiting and stuck.
        record(4, 101, 1, Status::Waiting),
        record(5, 102, 4, Status::Waiting),
        record(6, 102, 1, Status::Waiting),
        record(7, 100, 1, Status::Running),
        // A reason that is not in the table.
        record(8, 100, 60, Status::Waiting),
    ];
    let memory = memory(&functions, &records);
    let view = view(&memory);
    let blocked: Vec<_> = view
        .tasks
        .iter()
        .filter_map(|task| Some((task.id, task.wait.as_ref()?)))
        .map(|(id, wait)| (id, wait.reason.to_string(), wait.age.as_secs()))
        .collect();
    let expected = [
        (1, "chan receive", 10),
        (6, "chan receive", 10),
        (8, "waiting", 10),
    ];
    assert_eq!(
        blocked,
        expected.map(|(id, reason, age)| (id, reason.to_owned(), age))
    );
    assert_eq!(view.tasks.len(), 8);
    assert_eq!(view.tasks[0].entry.as_ref().unwrap().function, "main.worker");
    assert_eq!(view.tasks[0].spawn_site.as_ref().unwrap().function, "main.spawn");
    // Their stacks were not read.
    assert_eq!(view.incomplete, BTreeSet::from([Cause::StackPending]));
    // Where none are to be read none are missing.
    assert!(
        memory
            .view("go1.27.3", None, BTreeSet::new())
            .incomplete
            .is_empty()
    );
}

#[test]
fn stacks_are_asked_for_once_and_only_for_what_is_blocked() {
    let records = [
        record(1, 100, 1, Status::Waiting),
        record(2, 100, 2, Status::Waiting),
        record(3, 100, 3, Status::Waiting),
        record(4, 100, 0, Status::Syscall),
    ];
    let mut memory = memory(&["main.worker"], &records);
    assert_eq!(memory.unasked(THRESHOLD), [0, 2, 3]);
    assert!(memory.unasked(Duration::from_secs(11)).is_empty());
    let pcs = |pc| Pcs {
        pcs: vec![pc],
        truncated: false,
    };
    let number = memory.stack(pcs(7)).unwrap();
    assert_eq!(memory.stack(pcs(7)), Some(number));
    assert_ne!(memory.stack(pcs(8)), Some(number));
    let entries = memory.tracker.entries_mut();
    entries[0].set_stack(Stacked::Number(number));
    // It has a deadline.
    entries[2].set_stack(Stacked::Passing);
    entries[3].set_stack(Stacked::Unreadable);
    assert!(memory.unasked(THRESHOLD).is_empty());
    let named = Named {
        frames: Vec::new(),
        within: Vec::new(),
        truncated: false,
        block_site: site("main.wait"),
    };
    memory.name_stack(number, named, true);
    let view = view(&memory);
    let stack = view.tasks[0].stack.as_ref().unwrap();
    assert!(stack.truncated);
    assert_eq!(stack.block_site.as_ref().unwrap().function, "main.wait");
    assert!(view.tasks[2].wait.is_none());
    assert_eq!(view.in_calls, [(3, 44)]);
    assert_eq!(view.incomplete, BTreeSet::from([Cause::StackUnreadable]));
}

#[test]
fn stacks_that_nobody_has_make_room() {
    let mut memory = memory(&["main.worker"], &[record(1, 100, 1, Status::Waiting)]);
    let pcs = |pc: usize| Pcs {
        pcs: vec![pc as u64],
        truncated: false,
    };
    let kept = memory.stack(pcs(0)).unwrap();
    memory.tracker.entries_mut()[0].set_stack(Stacked::Number(kept));
    for number in 1..MAX_STACKS {
        memory.stack(pcs(number)).unwrap();
    }
    let new = memory.stack(pcs(MAX_STACKS)).unwrap();
    let Stacked::Number(still) = memory.tracker.entries()[0].stack() else {
        panic!("its stack is forgotten");
    };
    assert_eq!(memory.stack(pcs(0)), Some(still));
    assert_ne!(new, still);
    assert!(memory.unnamed_stacks().len() < 3);
}
