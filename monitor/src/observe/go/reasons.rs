//! What a goroutine's wait reason says of it (runtime/runtime2.go, `waitReasonStrings`, Go 1.18 to 1.27).
//!
//! The texts are read from each program: their numbers change between versions, and new ones come. One that is not
//! known here is told as it is.

use crate::model::WaitClass;

/// What kind of a wait it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nature {
    /// For something that may never come.
    Open(WaitClass),
    /// For a connection, a pipe, a terminal: it may have a deadline.
    Network,
    /// It ends by itself, or is the runtime's own.
    Passing,
}

/// What some reasons end in that have a form of their own in bubbles.
pub const DURABLE: &str = "(durable)";

pub fn nature(reason: &str) -> Nature {
    match reason {
        "IO wait" => Nature::Network,
        "sleep" | "timer goroutine (idle)" => Nature::Passing,
        // It runs when its caller says so, and its counter of switches stands still while it does.
        "coroutine" => Nature::Passing,
        "preempted" | "panicwait" | "debug call" | "GOMAXPROCS updater (idle)" | "dumping heap" => {
            Nature::Passing
        }
        "finalizer wait" | "cleanup wait" | "force gc (idle)" | "trace reader (blocked)" => Nature::Passing,
        "" | "system goroutine wait" => Nature::Passing,
        _ if reason.starts_with("GC ")
            || reason.starts_with("garbage collection")
            || reason.starts_with("wait for GC")
            || reason.starts_with("wait until GC")
            || reason.starts_with("stopping the world")
            || reason.starts_with("trace ")
            || reason.starts_with("wait for debug call")
            || reason.starts_with("flushing proc caches")
            || reason.starts_with("page trace") =>
        {
            Nature::Passing
        }
        _ => Nature::Open(WaitClass::Internal),
    }
}

/// Whether one that waits so, in a bubble of testing/synctest, can be woken by the bubble alone (`isIdleInSynctest`,
/// runtime/runtime2.go, Go 1.25 to 1.27).
pub fn is_durable(reason: &str) -> bool {
    let always = [
        "chan receive (nil chan)",
        "chan send (nil chan)",
        "select (no cases)",
        "sleep",
        "sync.Cond.Wait",
        "coroutine",
        "synctest.Run",
        "synctest.Wait",
    ];
    reason.ends_with(DURABLE) || always.contains(&reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_waits_for_is_open() {
        for reason in [
            "chan receive",
            "chan send",
            "chan receive (nil chan)",
            "select",
            "select (no cases)",
            "semacquire",
            "sync.Cond.Wait",
            "sync.WaitGroup.Wait",
            "something new",
        ] {
            assert_eq!(nature(reason), Nature::Open(WaitClass::Internal), "{reason}");
        }
        assert_eq!(nature("IO wait"), Nature::Network);
    }

    #[test]
    fn what_ends_by_itself_or_is_the_runtimes_is_not() {
        for reason in [
            "sleep",
            "coroutine",
            "GC worker (idle)",
            "GC assist wait",
            "finalizer wait",
            "",
        ] {
            assert_eq!(nature(reason), Nature::Passing, "{reason}");
        }
    }
}
