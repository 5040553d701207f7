//! The JSON of `stacks --format json` and `/api/v1/stacks`: schema 1 (docs/stacks.schema.json), to which fields are only
//! added. Each different stack is told once, and tasks refer to it by its index.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Stacks, labels, maker};
use crate::model::{Frame, Kind, ProcessTasks, Site, Stack, State, Task, WaitClass};

#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    taken_at: String,
    pid: u32,
    comm: &'a str,
    exe: &'a str,
    go_version: Option<&'a str>,
    complete: bool,
    incomplete: Vec<&'static str>,
    /// The process has ended while it was looked at.
    partial: bool,
    tasks_total: BTreeMap<Kind, usize>,
    tasks: Vec<TaskJson<'a>>,
    stacks: Vec<StackJson<'a>>,
}

#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Serialize)]
struct TaskJson<'a> {
    kind: Kind,
    id: u64,
    name: Option<&'a str>,
    state: State,
    reason: Option<&'a str>,
    /// `null` of what is not blocked: it runs, or its wait ends by itself.
    wait_class: Option<WaitClass>,
    /// For how long it has waited, or has been complete, at least.
    age_seconds: Option<f64>,
    /// When it was made; `null` where nothing is known of that.
    made_seconds_ago: Option<f64>,
    /// Its birth was not seen: it was there already when it was first looked at, and may be older.
    made_at_least: bool,
    entry: Option<&'a Site>,
    spawn_site: Option<&'a Site>,
    made_by: Option<u64>,
    /// Of a tokio task: how many handles, wakers and lists refer to it; 255 where there are more.
    references: Option<u8>,
    locked_to_thread: bool,
    /// The program's own search for leaks (`goroutineleak` of Go's net/http/pprof) has found it.
    leaked: bool,
    /// What the program calls it for its profiles (`runtime/pprof.Do`).
    labels: BTreeMap<&'a str, &'a str>,
    /// There are more labels, or longer ones, or some could not be read.
    labels_truncated: bool,
    /// Index in `stacks`; `null` of what runs, or could not be read.
    stack: Option<usize>,
    waits_for: &'a [u64],
}

#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Serialize)]
struct StackJson<'a> {
    frames: &'a [Frame],
    truncated: bool,
    block_site: Option<&'a Site>,
}

pub fn render(told: &ProcessTasks, tasks: &[&Task]) -> serde_json::Result<String> {
    let mut stacks = Stacks::default();
    let mut tasks_total = BTreeMap::new();
    for task in &told.tasks {
        *tasks_total.entry(task.kind).or_default() += 1;
    }
    let tasks = tasks.iter().map(|one| task(one, &mut stacks)).collect();
    let document = Document {
        schema: 1,
        taken_at: humantime::format_rfc3339_millis(told.taken_at).to_string(),
        pid: told.process.id.pid,
        comm: &told.process.comm,
        exe: &told.process.exe,
        go_version: told.go_version.as_deref(),
        complete: told.incomplete.is_empty() && !told.is_gone,
        incomplete: told.incomplete.iter().map(|cause| cause.label()).collect(),
        partial: told.is_gone,
        tasks_total,
        tasks,
        stacks: stacks.stacks.iter().map(|told| stack(told)).collect(),
    };
    serde_json::to_string(&document).map(|text| text + "\n")
}

fn task<'a>(task: &'a Task, stacks: &mut Stacks<'a>) -> TaskJson<'a> {
    let labels = labels::of(task);
    let pairs = labels.iter().flat_map(|labels| &labels.pairs);
    let made = task.facts.as_ref().and_then(|facts| facts.made);
    let trace = task.facts.as_ref().and_then(|facts| facts.trace.as_ref());
    TaskJson {
        kind: task.kind,
        id: task.id,
        name: task.name.as_deref(),
        state: task.state(),
        reason: task.reason().map(|reason| &**reason),
        wait_class: task.wait.as_ref().map(|wait| wait.class),
        age_seconds: task.age().map(|age| age.as_secs_f64()),
        made_seconds_ago: made.map(|made| made.ago.as_secs_f64()),
        made_at_least: made.is_some_and(|made| !made.is_exact),
        entry: task.entry.as_deref(),
        spawn_site: task.spawn_site.as_deref(),
        made_by: maker(task),
        references: task.facts.as_ref().and_then(|facts| facts.references),
        leaked: trace.is_some_and(|trace| trace.is_leaked),
        locked_to_thread: trace.is_some_and(|trace| trace.is_locked),
        labels: pairs.map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        labels_truncated: labels.is_some_and(|labels| labels.truncated),
        stack: task.stack.as_ref().map(|stack| stacks.number(stack)),
        waits_for: task.waits_for.as_deref().map_or(&[], Vec::as_slice),
    }
}

fn stack(stack: &Stack) -> StackJson<'_> {
    StackJson {
        frames: &stack.frames,
        truncated: stack.truncated,
        block_site: stack.block_site.as_deref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_documented() {
        crate::export::schema::check::<Document<'static>>("stacks");
    }
}
