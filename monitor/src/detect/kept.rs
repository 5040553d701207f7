//! What was last seen of tasks that cannot be seen now: a look that is late, or a process that lets nobody look, has not
//! made its tasks go.

use std::collections::{HashMap, HashSet};

use crate::model::{Group, Kind, LiveTasks, ProcessId, ProcessReport};

/// Of one process and kind. Bounded as a report is.
#[derive(Default)]
struct Seen {
    count: usize,
    live: Vec<LiveTasks>,
    groups: Vec<Group>,
}

/// The last looks at what can be hidden.
#[derive(Default)]
pub struct Kept {
    seen: HashMap<(ProcessId, Kind), Seen>,
}

impl Kept {
    /// Remembers what a report says of kinds that are seen, and puts into it what is remembered of a kind that is
    /// hidden, none of whose tasks it has.
    pub fn fill(&mut self, report: &mut ProcessReport) {
        // Threads are all told by the kernel, or the process is not there.
        for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Thread) {
            let of = (report.process.id, kind);
            let is_hidden = report.incomplete.iter().any(|cause| cause.hides(kind));
            let count = report.tasks.iter().find(|(known, _)| *known == kind);
            let count = count.map_or(0, |(_, count)| *count);
            // Those that have ended and are kept do not count, and are seen all the same.
            let is_any = report.live.iter().any(|tasks| tasks.kind == kind);
            if is_hidden {
                if let Some(seen) = self.seen.get(&of).filter(|_| !is_any) {
                    seen.tell(kind, report);
                }
            } else if is_any {
                self.seen.insert(of, Seen::of(kind, count, report));
            } else {
                self.seen.remove(&of);
            }
        }
    }

    /// Forgets processes that are gone.
    pub fn retain(&mut self, alive: &HashSet<ProcessId>) {
        self.seen.retain(|(process, _), _| alive.contains(process));
    }
}

impl Seen {
    fn of(kind: Kind, count: usize, report: &ProcessReport) -> Self {
        let groups = report.groups.iter().filter(|group| group.key.kind == kind);
        let live = report.live.iter().filter(|tasks| tasks.kind == kind);
        Self {
            count,
            live: live.cloned().collect(),
            groups: groups.cloned().collect(),
        }
    }

    fn tell(&self, kind: Kind, report: &mut ProcessReport) {
        if self.count > 0 {
            report.tasks.push((kind, self.count));
            report.tasks.sort_unstable();
        }
        report.live.retain(|tasks| tasks.kind != kind);
        report.live.extend(self.live.iter().cloned());
        // Those that have drained, as it would seem.
        report.groups.retain(|group| group.key.kind != kind);
        report.groups.extend(self.groups.iter().cloned());
        report
            .groups
            .sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.key.cmp(&b.key)));
    }
}
