//! Every way in which a goroutine blocks, in every way that a program is built.

use testbed::go::{self, Flavor};

use super::bed::{Expected, assert_same, groups, look, seen, start};

const SCENARIOS: [&str; 21] = [
    "chan_receive=2",
    "chan_send=3",
    "nil_receive=1",
    "nil_send=2",
    "select=3",
    "empty_select=1",
    "context=2",
    "weighted=2",
    "by_closure=2",
    "with_arguments=4",
    "mutex=2",
    "rwmutex_read=1",
    "rwmutex_write=3",
    "waitgroup=2",
    "cond=2",
    "once=1",
    "pipe_read=2",
    "tcp_read=3",
    "accept=1",
    "syscall_read=2",
    "locked_syscall=1",
];

/// What is to be seen of [`SCENARIOS`]. The reasons of the locks became more exact from version to version.
fn expected(version: &str) -> Vec<Expected<'static>> {
    let by = |from: u32, then: &'static str| {
        if go::minor(version) >= from {
            then
        } else {
            "semacquire"
        }
    };
    let (mutex, read, write) = (
        by(20, "sync.Mutex.Lock"),
        by(20, "sync.RWMutex.RLock"),
        by(20, "sync.RWMutex.Lock"),
    );
    let waitgroup = by(24, "sync.WaitGroup.Wait");
    vec![
        (
            "chan receive",
            "internal",
            "main.chanReceiveForever",
            "main.leakChanReceive",
            "main.spawnChanReceive",
            2,
        ),
        (
            "chan send",
            "internal",
            "main.chanSendForever",
            "main.leakChanSend",
            "main.spawnChanSend",
            3,
        ),
        (
            "chan receive (nil chan)",
            "internal",
            "main.nilReceiveForever",
            "main.leakNilReceive",
            "main.spawnNilReceive",
            1,
        ),
        (
            "chan send (nil chan)",
            "internal",
            "main.nilSendForever",
            "main.leakNilSend",
            "main.spawnNilSend",
            2,
        ),
        (
            "select",
            "internal",
            "main.selectForever",
            "main.leakSelect",
            "main.spawnSelect",
            3,
        ),
        (
            "select (no cases)",
            "internal",
            "main.emptySelectForever",
            "main.leakEmptySelect",
            "main.spawnEmptySelect",
            1,
        ),
        (
            "chan receive",
            "internal",
            "main.contextForever",
            "main.leakContext",
            "main.spawnContext",
            2,
        ),
        (
            "select",
            "internal",
            "main.(*weighted).acquire",
            "main.leakWeighted",
            "main.spawnWeighted",
            2,
        ),
        (
            "chan receive",
            "internal",
            "main.chanReceiveForever",
            "main.spawnByClosure.func1",
            "main.spawnByClosure",
            2,
        ),
        (
            "chan receive",
            "internal",
            "main.chanReceiveForever",
            "main.leakWithArguments",
            "main.spawnWithArguments",
            4,
        ),
        (
            mutex,
            "internal",
            "main.mutexForever",
            "main.leakMutex",
            "main.spawnMutex",
            2,
        ),
        (
            read,
            "internal",
            "main.rwMutexReadForever",
            "main.leakRWMutexRead",
            "main.spawnRWMutexRead",
            1,
        ),
        (
            write,
            "internal",
            "main.rwMutexWriteForever",
            "main.leakRWMutexWrite",
            "main.spawnRWMutexWrite",
            3,
        ),
        (
            waitgroup,
            "internal",
            "main.waitGroupForever",
            "main.leakWaitGroup",
            "main.spawnWaitGroup",
            2,
        ),
        (
            "sync.Cond.Wait",
            "internal",
            "main.condForever",
            "main.leakCond",
            "main.spawnCond",
            2,
        ),
        (
            "chan receive",
            "internal",
            "main.chanReceiveForever",
            "main.leakOnce",
            "main.spawnOnce",
            1,
        ),
        (
            "IO wait",
            "external",
            "main.pipeReadForever",
            "main.leakPipeRead",
            "main.spawnPipeRead",
            2,
        ),
        (
            "IO wait",
            "external",
            "main.tcpReadForever",
            "main.leakTCPRead",
            "main.spawnTCPRead",
            3,
        ),
        (
            "IO wait",
            "external",
            "main.acceptForever",
            "main.leakAccept",
            "main.spawnAccept",
            1,
        ),
        (
            "read",
            "external",
            "main.syscallReadForever",
            "main.leakSyscallRead",
            "main.spawnSyscallRead",
            2,
        ),
        (
            "read",
            "external",
            "main.syscallReadForever",
            "main.leakLockedSyscall",
            "main.spawnLockedSyscall",
            1,
        ),
    ]
}

fn check(version: &str, flavor: Flavor) {
    let Some(target) = start("go::blocking", version, flavor, &SCENARIOS) else {
        return;
    };
    let process = look(&target);
    assert!(
        process.incomplete().is_empty(),
        "{version} {flavor:?}: {process:?}"
    );
    assert_same(
        &seen(&process),
        &groups(&expected(version)),
        &format!("{version} {flavor:?}"),
    );
    assert_eq!(process.value["runtimes"][0], "go");
    let said = process.value["go_version"].as_str().unwrap();
    assert!(said.strip_prefix("go").unwrap().starts_with(version), "{said}");
}

#[test]
fn every_version_is_read() {
    for version in go::versions() {
        check(version, Flavor::Plain);
    }
}

#[test]
fn stripped_programs_are_read_without_symbols_and_without_section_headers() {
    for version in go::versions() {
        check(version, Flavor::Stripped);
        check(version, Flavor::NoSections);
    }
}

#[test]
fn relocatable_programs_are_read() {
    for version in go::versions() {
        check(version, Flavor::Pie);
    }
}

#[test]
fn programs_with_c_in_them_are_read() {
    for version in go::versions() {
        check(version, Flavor::Cgo);
        check(version, Flavor::External);
    }
}

#[test]
fn goroutines_in_c_and_called_back_from_there_are_told() {
    for version in go::versions() {
        for flavor in [Flavor::Cgo, Flavor::External] {
            let scenarios = ["cgo_pause=2", "cgo_callback=3"];
            let Some(target) = start("go::blocking::c", version, flavor, &scenarios) else {
                continue;
            };
            let expected = [
                (
                    "pause",
                    "external",
                    "main.cgoPauseForever",
                    "main.leakCgoPause",
                    "main.spawnCgoPause",
                    2,
                ),
                (
                    "chan receive",
                    "internal",
                    "main.chanReceiveForever",
                    "main.leakCgoCallback",
                    "main.spawnCgoCallback",
                    3,
                ),
            ];
            assert_same(
                &seen(&look(&target)),
                &groups(&expected),
                &format!("{version} {flavor:?}"),
            );
        }
    }
}

#[test]
fn a_goroutine_tied_to_a_thread_is_told_as_any_other() {
    for version in go::versions() {
        let Some(target) = start(
            "go::blocking::locked",
            version,
            Flavor::Plain,
            &["locked_receive=3"],
        ) else {
            continue;
        };
        let expected = [(
            "chan receive",
            "internal",
            "main.chanReceiveForever",
            "main.leakLockedReceive",
            "main.spawnLockedReceive",
            3,
        )];
        assert_same(&seen(&look(&target)), &groups(&expected), version);
    }
}

#[test]
fn who_hands_on_signals_waits_for_the_world() {
    for version in go::versions() {
        let Some(target) = start("go::blocking::signals", version, Flavor::Plain, &["signals=2"]) else {
            continue;
        };
        let expected = [
            (
                "chan receive",
                "internal",
                "main.signalsForever",
                "main.leakSignals",
                "main.spawnSignals",
                2,
            ),
            // One for the whole program.
            (
                "futex",
                "external",
                "os/signal.signal_recv",
                "os/signal.loop",
                "os/signal.Notify",
                1,
            ),
        ];
        // Which of its closures it is differs: `Notify.func1.1`, `Notify.func2.1`.
        let seen = seen(&look(&target)).into_iter().map(|(mut key, count)| {
            if key[4].starts_with("os/signal.Notify.") {
                key[4] = "os/signal.Notify".to_owned();
            }
            (key, count)
        });
        assert_same(&seen.collect(), &groups(&expected), version);
    }
}
