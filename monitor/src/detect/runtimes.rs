//! Threads that a language's runtime keeps for itself: they are there for as long as the program is, and nobody's fault. Pure.

use crate::model::{Group, Kind, ProcessReport};

/// Frames of what the JVM has compiled or interprets.
const JAVA_CODE: &str = "[java]";
const JVM: [&str; 2] = ["libjvm.so", "libjli.so"];
/// Where threads stand that run Java code and are the JVM's all the same: the one that enqueues references
/// (`java.lang.ref.Reference`), the one that ends the program, and whoever is held while it ends (HotSpot 17 to 25).
const JVM_WAITS: [&str; 3] = [
    "JVM_WaitForReferencePendingList",
    "JVM_Halt",
    "SafepointSynchronize::block",
];
/// It waits as any `Object.wait` does: it is known by its name alone.
const FINALIZER: &str = "Finalizer";

/// Whether the group is of threads of the runtime's own.
pub fn is_runtimes_own(report: &ProcessReport, group: &Group) -> bool {
    report.is_idle_scheduler(group) || is_jvms_own(group)
}

fn is_jvms_own(group: &Group) -> bool {
    let Some(stack) = group.stack.as_ref().filter(|_| group.key.kind == Kind::Thread) else {
        return false;
    };
    let frames = || stack.frames.iter();
    if !frames().any(|frame| JVM.contains(&frame.module.as_str())) {
        return false;
    }
    let is_named = group
        .key
        .entry
        .as_ref()
        .is_some_and(|entry| entry.function == FINALIZER);
    let waits = frames().any(|frame| {
        let function = frame.function.as_deref().unwrap_or_default();
        JVM_WAITS.iter().any(|known| function.starts_with(known))
    });
    let runs_java = frames().any(|frame| frame.module == JAVA_CODE);
    is_named || waits || !(runs_java || stack.truncated)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::model::{Basis, Frame, GroupKey, Reason, Site, Stack, Verdict, WaitClass};

    /// A group with these frames: function@module.
    fn group(entry: &str, frames: &[&str]) -> Group {
        let frame = |text: &&str| {
            let (function, module) = text.split_once('@').unwrap();
            Frame {
                function: Some(function.to_owned()).filter(|name| name != "?"),
                file: None,
                line: None,
                inlined: false,
                module: module.to_owned(),
                offset: 0,
                guessed: false,
            }
        };
        Group {
            key: GroupKey {
                kind: Kind::Thread,
                reason: Reason::Static("futex"),
                class: WaitClass::Internal,
                block_site: None,
                entry: Some(Arc::new(Site {
                    function: entry.to_owned(),
                    file: None,
                    line: None,
                })),
                spawn_site: None,
            },
            count: 1,
            youngest: Duration::ZERO,
            oldest: Duration::ZERO,
            ids: vec![1],
            ids_truncated: false,
            verdict: Verdict::Unknown,
            basis: Basis::Blocked,
            recent: Vec::new(),
            growth: None,
            returned: 0,
            usual: None,
            named: true,
            stack: Some(Arc::new(Stack {
                frames: frames.iter().map(frame).collect(),
                truncated: false,
                block_site: None,
                entry: None,
            })),
            spawn_sites: Vec::new(),
            waits_for: Vec::new(),
        }
    }

    #[test]
    fn the_jvms_own_threads_are_told_from_the_programs() {
        for (entry, frames, expected) in [
            (
                "GC Thread#",
                &["PosixSemaphore::wait()@libjvm.so", "GangWorker::loop()@libjvm.so"][..],
                true,
            ),
            ("java", &["?@libc.so.6", "JLI_Launch@libjli.so", "?@java"], true),
            (
                "Reference Handl",
                &[
                    "JVM_WaitForReferencePendingList@libjvm.so",
                    "?@[java]",
                    "thread_native_entry(Thread*)@libjvm.so",
                ],
                true,
            ),
            ("Finalizer", &["JVM_MonitorWait@libjvm.so", "?@[java]"], true),
            (
                "worker",
                &["SafepointSynchronize::block(JavaThread*)@libjvm.so", "?@[java]"],
                true,
            ),
            (
                "taker",
                &[
                    "Unsafe_Park@libjvm.so",
                    "?@[java]",
                    "thread_native_entry(Thread*)@libjvm.so",
                ],
                false,
            ),
            ("Finalizer", &["wait@api"], false),
            ("worker", &["wait@api", "?@libc.so.6"], false),
        ] {
            assert_eq!(is_jvms_own(&group(entry, frames)), expected, "{entry}");
        }
    }
}
