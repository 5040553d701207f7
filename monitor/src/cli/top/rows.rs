//! What is shown: the groups of a snapshot's JSON, as a daemon tells it and as we tell it ourselves.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    export::text::{base_name, plain},
    model::{Frame, Kind, WaitClass, is_idle_scheduler},
};

#[derive(Debug, Default, Deserialize)]
pub struct Document {
    pub schema: u32,
    pub taken_at: String,
    pub processes: Vec<Process>,
}

#[derive(Debug, Deserialize)]
pub struct Process {
    pub pid: u32,
    pub comm: String,
    #[serde(default)]
    pub go_version: Option<String>,
    pub incomplete: Vec<String>,
    pub tasks: BTreeMap<Kind, usize>,
    pub groups: Vec<Group>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Group {
    pub kind: Kind,
    pub reason: String,
    pub wait_class: WaitClass,
    pub count: usize,
    pub verdict: String,
    pub growth: Option<Growth>,
    pub evidence: String,
    pub oldest_blocked_seconds: f64,
    pub block_site: Option<Place>,
    pub entry: Option<Place>,
    pub spawn_site: Option<Place>,
    /// Absent where stacks are not shown.
    pub stack: Option<Vec<Frame>>,
    pub ids: Vec<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Growth {
    pub per_hour: f64,
}

/// A site; without file and line where those are not shown.
#[derive(Clone, Debug, Deserialize)]
pub struct Place {
    pub function: String,
    pub file: Option<String>,
    pub line: Option<u32>,
}

impl Place {
    /// `main.worker (worker.go:41)`.
    pub fn text(&self) -> String {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => {
                format!("{} ({}:{line})", plain(&self.function), plain(base_name(file)))
            }
            _ => plain(&self.function),
        }
    }
}

/// A group of a process.
#[derive(Clone, Debug)]
pub struct Row {
    pub pid: u32,
    pub comm: String,
    /// Its process runs Go.
    is_go: bool,
    pub group: Group,
}

/// What tells a row from every other one, also in the next snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowId(u32, Kind, String, [Option<String>; 3]);

impl Row {
    pub fn id(&self) -> RowId {
        let group = &self.group;
        let sites = [&group.block_site, &group.entry, &group.spawn_site];
        let sites = sites.map(|site| site.as_ref().map(|site| site.function.clone()));
        RowId(self.pid, group.kind, group.reason.clone(), sites)
    }

    pub fn place(&self) -> String {
        self.group.block_site.as_ref().map_or("?".to_owned(), Place::text)
    }

    pub fn per_hour(&self) -> f64 {
        self.group.growth.as_ref().map_or(0.0, |growth| growth.per_hour)
    }

    pub fn is_alarm(&self) -> bool {
        matches!(self.group.verdict.as_str(), "growing" | "leaking" | "proven")
    }

    /// It waits for the world, or is an idle pool.
    pub fn is_quiet(&self) -> bool {
        let group = &self.group;
        let site = group.block_site.as_ref().map(|site| site.function.as_str());
        let is_idle = group.wait_class == WaitClass::External
            || group.verdict == "stable"
            || (self.is_go && is_idle_scheduler(group.kind, site));
        is_idle && !self.is_alarm()
    }

    /// Whether a text is in what is shown of it.
    pub fn has(&self, text: &str) -> bool {
        let group = &self.group;
        let names = [&group.block_site, &group.entry, &group.spawn_site];
        let names = names.into_iter().flatten().map(|site| site.function.as_str());
        let shown = [
            self.comm.as_str(),
            &group.reason,
            &group.verdict,
            group.kind.label(),
        ];
        let text = text.to_lowercase();
        names.chain(shown).any(|name| name.to_lowercase().contains(&text)) || self.pid.to_string() == text
    }
}

/// A snapshot's groups.
///
/// # Errors
/// When it is not of the schema that is known here.
pub fn parse(json: &[u8]) -> Result<Document, String> {
    let document: Document =
        serde_json::from_slice(json).map_err(|error| format!("it is no snapshot: {error}"))?;
    match document.schema {
        1 => Ok(document),
        schema => Err(format!("it is a snapshot of schema {schema}, not 1")),
    }
}

impl Document {
    pub fn rows(&self) -> Vec<Row> {
        let of = |process: &Process| {
            let (pid, comm, is_go) = (process.pid, process.comm.clone(), process.go_version.is_some());
            let row = move |group: &Group| Row {
                pid,
                comm: comm.clone(),
                is_go,
                group: group.clone(),
            };
            process.groups.iter().map(row).collect::<Vec<_>>()
        };
        self.processes.iter().flat_map(of).collect()
    }
}
