//! Tasks that were there before: the JSON of `snapshot`.

use std::{collections::HashSet, path::Path};

use serde::Deserialize;

use crate::model::Kind;

#[derive(Deserialize)]
struct Document {
    schema: u32,
    processes: Vec<BaselineProcess>,
}

#[derive(Deserialize)]
struct BaselineProcess {
    pid: u32,
    groups: Vec<BaselineGroup>,
}

#[derive(Deserialize)]
struct BaselineGroup {
    kind: Kind,
    ids: Vec<u64>,
    ids_truncated: bool,
}

/// Tasks of a snapshot's JSON.
pub fn read(path: &Path) -> Result<HashSet<(u32, Kind, u64)>, String> {
    let wrong = |cause: String| format!("the baseline {}: {cause}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let document: Document = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    if document.schema != 1 {
        return Err(wrong(format!("it is of schema {}, not 1", document.schema)));
    }
    let mut before = HashSet::new();
    for process in document.processes {
        for group in process.groups {
            if group.ids_truncated {
                return Err(wrong(
                    "not all ids are in it: take it with `taskleak snapshot --max-ids 1000000`".to_owned(),
                ));
            }
            before.extend(group.ids.into_iter().map(|id| (process.pid, group.kind, id)));
        }
    }
    Ok(before)
}
