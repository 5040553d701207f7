//! Tasks that were there before: the JSON of `snapshot` (what was blocked) or of `stacks` (all of a process).

use std::{collections::HashSet, path::Path};

use serde::Deserialize;

use crate::model::Kind;

/// Either of the two.
#[derive(Deserialize)]
struct Document {
    schema: u32,
    #[serde(default)]
    processes: Vec<Process>,
    /// Of `stacks`.
    pid: Option<u32>,
    #[serde(default)]
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct Process {
    pid: u32,
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    kind: Kind,
    ids: Vec<u64>,
    ids_truncated: bool,
}

#[derive(Deserialize)]
struct Task {
    kind: Kind,
    id: u64,
}

/// The tasks in a file: pid, kind and id.
///
/// # Errors
/// When it cannot be read, or is not of a schema that is known.
pub fn read(path: &Path) -> Result<HashSet<(u32, Kind, u64)>, String> {
    let wrong = |cause: String| format!("the baseline {}: {cause}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    parse(&text).map_err(wrong)
}

fn parse(text: &str) -> Result<HashSet<(u32, Kind, u64)>, String> {
    let document: Document = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if document.schema != 1 {
        return Err(format!("it is of schema {}, not 1", document.schema));
    }
    let mut before = HashSet::new();
    if let Some(pid) = document.pid {
        before.extend(document.tasks.iter().map(|task| (pid, task.kind, task.id)));
    }
    for process in document.processes {
        for group in process.groups {
            if group.ids_truncated {
                return Err(
                    "not all ids are in it: take it with `taskleak snapshot --max-ids 1000000`".to_owned(),
                );
            }
            before.extend(group.ids.into_iter().map(|id| (process.pid, group.kind, id)));
        }
    }
    Ok(before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_documents_are_baselines_and_no_other() {
        let blocked = r#"{"schema": 1, "processes": [{"pid": 7, "groups":
            [{"kind": "thread", "ids": [8, 9], "ids_truncated": false}]}]}"#;
        let all =
            r#"{"schema": 1, "pid": 7, "tasks": [{"kind": "thread", "id": 8}, {"kind": "thread", "id": 9}]}"#;
        let expected = HashSet::from([(7, Kind::Thread, 8), (7, Kind::Thread, 9)]);
        assert_eq!((parse(blocked), parse(all)), (Ok(expected.clone()), Ok(expected)));
        for wrong in ["", "[]", "{}", r#"{"schema": 2}"#, r#"{"schema": 1, "pid": "x"}"#] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let cut = blocked.replace("false", "true");
        assert!(parse(&cut).unwrap_err().contains("--max-ids"));
    }
}
