//! Threads that a language's runtime keeps for itself: they are there for as long as the program is, and nobody's fault. Pure.

use super::groups::entry_of;
use crate::model::{Kind, ProcessTasks, Task, is_idle_scheduler};

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

/// Whether a task of the process is its runtime's own.
pub fn is_runtimes_own(told: &ProcessTasks, task: &Task) -> bool {
    let block_site = task.stack.as_ref().and_then(|stack| stack.block_site.as_ref());
    let block_site = block_site.map(|site| site.function.as_str());
    let is_go = told.go_version.is_some();
    (is_go && is_idle_scheduler(&told.process.exe, task.kind, block_site)) || is_jvms_own(task)
}

fn is_jvms_own(task: &Task) -> bool {
    let Some(stack) = task.stack.as_ref().filter(|_| task.kind == Kind::Thread) else {
        return false;
    };
    let frames = || stack.frames.iter();
    if !frames().any(|frame| JVM.contains(&frame.module.as_str())) {
        return false;
    }
    let is_named = entry_of(task).is_some_and(|entry| entry.function == FINALIZER);
    let waits = frames().any(|frame| {
        let function = frame.function.as_deref().unwrap_or_default();
        JVM_WAITS.iter().any(|known| function.starts_with(known))
    });
    let runs_java = frames().any(|frame| frame.module == JAVA_CODE);
    is_named || waits || !(runs_java || stack.truncated)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Frame, Stack};

    /// A thread of this name with these frames: function@module.
    fn thread(name: &str, frames: &[&str]) -> Task {
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
        Task {
            kind: Kind::Thread,
            id: 1,
            start: 1,
            wait: None,
            name: Some(name.into()),
            stack: Some(Arc::new(Stack {
                frames: frames.iter().map(frame).collect(),
                truncated: false,
                block_site: None,
                entry: None,
            })),
            entry: None,
            spawn_site: None,
            is_kept: false,
            waits_for: None,
            facts: None,
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
            assert_eq!(is_jvms_own(&thread(entry, frames)), expected, "{entry}");
        }
    }
}
