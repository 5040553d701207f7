use std::{collections::BTreeSet, time::UNIX_EPOCH};

use super::*;
use crate::model::{Creator, Facts, Frame, Made, Process, ProcessId, Reason, Site, Trace, Wait, WaitClass};

fn frame(number: usize) -> Frame {
    Frame {
        function: Some(format!("main.f{number}")),
        file: Some("/src/main.go".to_owned()),
        line: Some(number as u32),
        inlined: false,
        module: "api".to_owned(),
        offset: 16 * number as u64,
        guessed: false,
    }
}

fn stack(frames: usize, truncated: bool) -> Arc<Stack> {
    Arc::new(Stack {
        frames: (1..=frames).map(frame).collect(),
        truncated,
        block_site: None,
        entry: None,
    })
}

/// A goroutine that the garbage collector has noted to wait for so many minutes.
fn goroutine(id: u64, minutes: u64, stack: Arc<Stack>) -> Task {
    let reason = Reason::Static("chan receive");
    Task {
        kind: Kind::Goroutine,
        id,
        start: 0,
        wait: Some(Wait {
            reason: reason.clone(),
            class: WaitClass::Internal,
            age: Duration::from_secs(60 * minutes),
            anchor: None,
        }),
        name: None,
        stack: Some(stack),
        entry: None,
        spawn_site: None,
        is_kept: false,
        waits_for: None,
        facts: Some(Box::new(Facts {
            state: State::Waiting,
            reason: Some(reason.clone()),
            age: None,
            anchor: None,
            made: None,
            made_by: Some(1),
            references: None,
            trace: Some(Trace {
                order: id as u32,
                is_hidden: false,
                status: reason,
                minutes,
                is_locked: id == 2,
                is_leaked: false,
                bubble: None,
                labels: None,
                prints_labels: false,
                creator: Some(Arc::new(Creator {
                    site: Site {
                        function: "main.main".to_owned(),
                        file: Some("/src/main.go".to_owned()),
                        line: Some(9),
                    },
                    within: 0x1d,
                })),
                within: Arc::from([]),
            }),
        })),
    }
}

fn told(version: &str, tasks: Vec<Task>) -> ProcessTasks {
    ProcessTasks {
        process: Arc::new(Process {
            id: ProcessId {
                pid: 7,
                start_boottime: 1,
                exec_id: 1,
            },
            comm: "api\u{1b}[2J".to_owned(),
            exe: "/app/api".to_owned(),
            workload: String::new(),
            container_id: None,
            pod: None,
        }),
        taken_at: UNIX_EPOCH,
        go_version: Some(version.to_owned()),
        tasks,
        incomplete: BTreeSet::new(),
        is_gone: false,
        modules: Vec::new(),
    }
}

fn debug2(version: &str, tasks: Vec<Task>) -> String {
    let told = told(version, tasks);
    String::from_utf8(render(&told, &Choice::default(), Format::Debug2).unwrap()).unwrap()
}

#[test]
fn minutes_and_locks_are_in_the_head_as_go_puts_them() {
    let text = debug2(
        "go1.27.3",
        vec![goroutine(2, 5, stack(1, false)), goroutine(1, 0, stack(1, false))],
    );
    let expected = "goroutine 1 [chan receive]:\nmain.f1(...)\n\t/src/main.go:1\ncreated by main.main in goroutine \
                    1\n\t/src/main.go:9 +0x1d\n\ngoroutine 2 [chan receive, 5 minutes, locked to thread]:\nmain.f1(...)\n\t\
                    /src/main.go:1\ncreated by main.main in goroutine 1\n\t/src/main.go:9 +0x1d\n";
    assert_eq!(text, expected);
}

#[test]
fn of_long_stacks_the_middle_is_left_out_and_by_old_versions_the_end() {
    let calls = |text: &str| text.matches("(...)").count();
    for (frames, elided) in [(100, None), (101, Some(1)), (128, Some(28))] {
        let text = debug2("go1.22.1", vec![goroutine(1, 0, stack(frames, false))]);
        assert_eq!(calls(&text), 100, "{frames}");
        match elided {
            Some(elided) => assert!(
                text.contains(&format!(
                    "main.f50(...)\n\t/src/main.go:50\n...{elided} frames elided...\nmain.f{}(...)",
                    51 + elided
                )),
                "{text}"
            ),
            None => assert!(!text.contains("elided")),
        }
    }
    let text = debug2("go1.19.8", vec![goroutine(1, 0, stack(128, false))]);
    assert!(
        text.contains("main.f100(...)\n\t/src/main.go:100\n...additional frames elided...\ncreated by"),
        "{text}"
    );
}

#[test]
fn equal_stacks_are_one_wherever_they_lie() {
    let (one, same, other) = (stack(3, false), stack(3, false), stack(4, false));
    let mut stacks = Stacks::default();
    let numbers = [&one, &same, &other, &one].map(|stack| stacks.number(stack));
    assert_eq!(numbers, [0, 0, 1, 0]);
    assert_eq!(stacks.stacks.len(), 2);
}

#[test]
fn no_name_can_break_a_line_or_steer_a_terminal() {
    let mut task = goroutine(1, 0, stack(1, false));
    let mut bad = Stack::clone(task.stack.as_ref().unwrap());
    bad.frames[0].function = Some("a;b\n\u{1b}]0;x".to_owned());
    task.stack = Some(Arc::new(bad));
    let told = told("go1.27.3", vec![task]);
    for format in [Format::Text, Format::Debug2, Format::Folded] {
        let text = String::from_utf8(render(&told, &Choice::default(), format).unwrap()).unwrap();
        assert!(!text.contains('\u{1b}'), "{text}");
    }
    let folded = render(&told, &Choice::default(), Format::Folded).unwrap();
    assert_eq!(
        String::from_utf8(folded).unwrap(),
        "api\\u{1b}[2J;a:b\\n\\u{1b}]0:x;[chan receive] 1\n"
    );
}

/// A tokio task that was made so many seconds ago; it has ended when it is kept.
fn tokio_task(id: u64, (seconds, is_exact): (u64, bool), is_kept: bool) -> Task {
    let facts = Facts {
        state: if is_kept { State::Complete } else { State::Running },
        reason: None,
        made: Some(Made {
            ago: Duration::from_secs(seconds),
            is_exact,
        }),
        made_by: None,
        trace: None,
        ..Facts::clone(goroutine(1, 0, stack(1, false)).facts.as_ref().unwrap())
    };
    Task {
        kind: Kind::Tokio,
        wait: None,
        stack: None,
        entry: Some(Arc::new(Site {
            function: "api::fetch".to_owned(),
            file: None,
            line: None,
        })),
        is_kept,
        facts: Some(Box::new(facts)),
        ..goroutine(id, 0, stack(1, false))
    }
}

#[test]
fn when_tasks_were_made_is_told_exactly_or_at_least() {
    let text = |tasks| {
        let told = told("", tasks);
        String::from_utf8(render(&told, &Choice::default(), Format::Text).unwrap()).unwrap()
    };
    let exact = vec![tokio_task(1, (7, true), false), tokio_task(2, (90, true), false)];
    assert!(text(exact).contains("\n    made 7s to 1m 30s ago\n"));
    let mixed = vec![tokio_task(1, (7, true), false), tokio_task(2, (7, false), false)];
    let mixed = text(mixed);
    assert!(mixed.contains("\n    made at least 7s ago\n"), "{mixed}");
}

#[test]
fn what_has_ended_is_told_by_what_it_has_run() {
    let tasks = vec![
        tokio_task(1, (7, true), true),
        tokio_task(2, (7, true), true),
        tokio_task(3, (7, true), false),
    ];
    let told = told("", tasks);
    let render = |format| {
        let rendered = render(&told, &Choice::default(), format).unwrap();
        String::from_utf8(rendered).unwrap().replace("\\u{1b}", "")
    };
    let text = render(Format::Text);
    assert!(
        text.contains("1 tokio task, 2 tokio tasks that have ended\n"),
        "{text}"
    );
    assert!(text.contains("2 tokio tasks: complete; ids 1 2\n"), "{text}");
    let folded = render(Format::Folded);
    assert_eq!(folded, "api[2J;[running] 1\napi[2J;api::fetch;[complete] 2\n");
}

#[test]
fn a_frame_without_a_file_tells_its_module_if_it_has_one() {
    let shown = |module: &str| {
        let frame = Frame {
            file: None,
            module: module.to_owned(),
            ..frame(1)
        };
        let stack = Stack {
            frames: vec![frame],
            truncated: false,
            block_site: None,
            entry: None,
        };
        let mut text = String::new();
        super::super::text::frames(&mut text, &stack, 0);
        text
    };
    assert_eq!(shown("api"), "main.f1 in api\n");
    assert_eq!(shown(""), "main.f1\n");
}
