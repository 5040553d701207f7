use super::*;
use crate::observe::bpf::task_state;

const PROCESS: ProcessId = ProcessId {
    pid: 7,
    start_boottime: 1,
    exec_id: 1,
};
const KEY: ThreadKey = (PROCESS, 8, 10);

fn site(function: &str, file: Option<&str>) -> Site {
    Site {
        function: function.to_owned(),
        file: file.map(str::to_owned),
        line: None,
    }
}

fn seen(function: &str) -> Told {
    Told {
        start: ThreadStart::default(),
        seen: Some(Some(site(function, None))),
        failure: None,
    }
}

/// A book that has asked about the thread when it had so many switches.
fn asked(entries: &mut Entries, switches: u64) {
    entries.asked += 1;
    entries.threads.entry(KEY).or_default().asked = Some(switches);
}

fn records(switches: u64) -> Records {
    let record = TaskRecord {
        tid: KEY.1,
        tgid: PROCESS.pid,
        start_boottime: KEY.2,
        state: task_state::INTERRUPTIBLE,
        switches,
        ..TaskRecord::default()
    };
    [(PROCESS, vec![record])].into()
}

fn entry(entries: &mut Entries, born: Entry) -> Option<String> {
    let found = entries.entry(KEY, None, |_| born.clone());
    found.map(|site| entries.with_file(PROCESS, site).function.clone())
}

#[test]
fn what_is_certain_needs_no_second_look() {
    let mut entries = Entries::default();
    asked(&mut entries, 5);
    let told = Told {
        start: ThreadStart {
            entry: Some(site("worker", None)),
            is_certain: true,
        },
        seen: None,
        failure: None,
    };
    assert!(!entries.take(KEY, told));
    assert_eq!(entry(&mut entries, None).as_deref(), Some("worker"));
    assert_eq!(entries.waiting(), 0);
}

#[test]
fn a_stack_counts_when_its_thread_has_not_run_since() {
    for (switches_after, expected) in [(5, Some("worker")), (6, None)] {
        let mut entries = Entries::default();
        asked(&mut entries, 5);
        assert!(entries.take(KEY, seen("worker")));
        assert_eq!(entry(&mut entries, None), None);
        entries.confirm(&records(switches_after));
        assert_eq!(entry(&mut entries, None).as_deref(), expected, "{switches_after}");
    }
}

#[test]
fn two_looks_that_say_the_same_are_believed() {
    let mut entries = Entries::default();
    for (look, function) in ["torn", "worker", "worker"].into_iter().enumerate() {
        asked(&mut entries, look as u64);
        entries.take(KEY, seen(function));
        entries.confirm(&records(99));
        let known = (look == 2).then_some("worker");
        assert_eq!(entry(&mut entries, None).as_deref(), known, "{look}");
    }
}

#[test]
fn who_never_holds_still_is_not_asked_for_ever() {
    let mut entries = Entries::default();
    for look in 0..MAX_LOOKS {
        assert_eq!(entry(&mut entries, None), None);
        asked(&mut entries, u64::from(look));
        entries.take(KEY, seen(&format!("torn{look}")));
        entries.confirm(&records(99));
    }
    assert!(entries.threads[&KEY].answer.is_some());
}

#[test]
fn a_birth_is_told_until_more_is_known_and_a_file_is_taken_from_who_knows_it() {
    let mut entries = Entries::default();
    asked(&mut entries, 1);
    let born = Arc::new(site("worker", None));
    assert_eq!(entry(&mut entries, Some(born.clone())).as_deref(), Some("worker"));
    entries.keep_file(PROCESS, site("worker", Some("pool.cc")));
    let known = entries.with_file(PROCESS, born.clone());
    assert_eq!(known.file.as_deref(), Some("pool.cc"));
    let other = ProcessId { pid: 9, ..PROCESS };
    assert_eq!(entries.with_file(other, born).file, None);
}
