//! A gzipped `profile.proto` (github.com/google/pprof/proto/profile.proto): a sample for each task, so that any tool for
//! Go's profiles shows the tasks of any program.
//!
//! No address of the process is in it: each file stands at an address of its own making, and a place in it is that plus
//! its offset in the file, from which tools that look for symbols come back to the offset.

use std::{
    collections::HashMap,
    io::Write as _,
    iter,
    time::{Duration, UNIX_EPOCH},
};

use flate2::{Compression, write::GzEncoder};
use prost::Message;

use super::{Stacks, labels, ran};
use crate::{
    export::text::function,
    model::{Frame, ProcessTasks, Site, Task},
};

/// Labels that every sample has.
const KIND: &str = "kind";
const STATE: &str = "state";
const REASON: &str = "reason";
const PID: &str = "pid";
const ID: &str = "id";
/// Between the made-up addresses of two files: no file is larger.
const STRIDE: u64 = 1 << 40;

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "3")]
    mapping: Vec<Mapping>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, repeated, tag = "13")]
    comment: Vec<i64>,
    #[prost(int64, tag = "14")]
    default_sample_type: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
    #[prost(message, repeated, tag = "3")]
    label: Vec<Label>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(int64, tag = "1")]
    key: i64,
    #[prost(int64, tag = "2")]
    str: i64,
    #[prost(int64, tag = "3")]
    num: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Mapping {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    memory_start: u64,
    #[prost(uint64, tag = "3")]
    memory_limit: u64,
    #[prost(uint64, tag = "4")]
    file_offset: u64,
    #[prost(int64, tag = "5")]
    filename: i64,
    #[prost(int64, tag = "6")]
    build_id: i64,
    #[prost(bool, tag = "7")]
    has_functions: bool,
    #[prost(bool, tag = "8")]
    has_filenames: bool,
    #[prost(bool, tag = "9")]
    has_line_numbers: bool,
    #[prost(bool, tag = "10")]
    has_inline_frames: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    mapping_id: u64,
    #[prost(uint64, tag = "3")]
    address: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
}

/// A profile in the making.
struct Maker<'a> {
    profile: Profile,
    strings: HashMap<String, i64>,
    build_ids: HashMap<&'a str, &'a str>,
    mappings: HashMap<&'a str, u64>,
    functions: HashMap<(i64, i64), u64>,
    locations: HashMap<(u64, u64, Vec<Line>), u64>,
}

pub fn render(told: &ProcessTasks, tasks: &[&Task]) -> std::io::Result<Vec<u8>> {
    let mut maker = Maker {
        profile: Profile::default(),
        strings: HashMap::new(),
        build_ids: told
            .modules
            .iter()
            .map(|file| (file.name.as_str(), file.build_id.as_str()))
            .collect(),
        mappings: HashMap::new(),
        functions: HashMap::new(),
        locations: HashMap::new(),
    };
    maker.string("");
    maker.head(told);
    let pid = i64::from(told.process.id.pid);
    let mut stacks = Stacks::default();
    let mut located: Vec<Vec<u64>> = Vec::new();
    for task in tasks {
        let location_id = match &task.stack {
            Some(stack) => {
                let number = stacks.number(stack);
                if number == located.len() {
                    located.push(maker.locations(&stack.frames));
                }
                located[number].clone()
            }
            None => Vec::new(),
        };
        let location_id = match location_id.is_empty() {
            true => maker.instead(task),
            false => location_id,
        };
        let blocked = task.wait.as_ref().map_or(Duration::ZERO, |wait| wait.age);
        let mut label = vec![
            maker.text_label(KIND, task.kind.label()),
            maker.text_label(STATE, task.state().label()),
        ];
        label.extend(task.reason().map(|reason| maker.text_label(REASON, reason)));
        label.push(maker.number_label(PID, pid));
        label.push(maker.number_label(ID, i64::try_from(task.id).unwrap_or(i64::MAX)));
        for (key, value) in labels::of(task).iter().flat_map(|labels| &labels.pairs) {
            label.push(match [KIND, STATE, REASON, PID, ID].contains(&key.as_str()) {
                // Ours are what those who read the profile ask for.
                true => maker.text_label(&format!("program.{key}"), value),
                false => maker.text_label(key, value),
            });
        }
        maker.profile.sample.push(Sample {
            location_id,
            value: vec![1, nanoseconds(blocked)],
            label,
        });
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&maker.profile.encode_to_vec())?;
    gzip.finish()
}

fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl<'a> Maker<'a> {
    fn head(&mut self, told: &ProcessTasks) {
        self.profile.sample_type = [("tasks", "count"), ("blocked", "nanoseconds")]
            .map(|(kind, unit)| ValueType {
                kind: self.string(kind),
                unit: self.string(unit),
            })
            .to_vec();
        self.profile.default_sample_type = self.string("tasks");
        let taken_at = told.taken_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.profile.time_nanos = nanoseconds(taken_at);
        let mut comments = Vec::new();
        if told.is_gone {
            comments.push("partial: the process ended while it was looked at".to_owned());
        }
        comments.extend(
            told.incomplete
                .iter()
                .map(|cause| format!("incomplete: {}", cause.label())),
        );
        self.profile.comment = comments.iter().map(|text| self.string(text)).collect();
    }

    fn string(&mut self, text: &str) -> i64 {
        if let Some(known) = self.strings.get(text) {
            return *known;
        }
        let next = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.strings.insert(text.to_owned(), next);
        next
    }

    fn text_label(&mut self, key: &str, text: &str) -> Label {
        Label {
            key: self.string(key),
            str: self.string(text),
            num: 0,
        }
    }

    fn number_label(&mut self, key: &str, num: i64) -> Label {
        Label {
            key: self.string(key),
            str: 0,
            num,
        }
    }

    /// A place for each frame that is one; what was put into it by the compiler is told with it.
    fn locations(&mut self, frames: &'a [Frame]) -> Vec<u64> {
        let mut ids = Vec::with_capacity(frames.len());
        for calls in frames.split_inclusive(|frame| !frame.inlined) {
            let Some(outer) = calls.last() else { continue };
            let lines: Vec<Line> = calls.iter().map(|frame| self.line(frame)).collect();
            let mapping = self.mapping(&outer.module);
            let address = match mapping {
                0 => 0,
                id => id * STRIDE + outer.offset.min(STRIDE - 1),
            };
            ids.push(self.location(mapping, address, lines));
        }
        ids
    }

    /// Stands for the stack of a task that has none to show: what it does, in what it has run.
    fn instead(&mut self, task: &Task) -> Vec<u64> {
        let doing = task.reason().map_or(task.state().label(), |reason| &**reason);
        let doing = Site {
            function: format!("[{doing}]"),
            file: None,
            line: None,
        };
        let sites = iter::once(&doing).chain(ran(task));
        sites.map(|site| self.somewhere(site)).collect()
    }

    fn somewhere(&mut self, site: &Site) -> u64 {
        let frame = Frame {
            function: Some(site.function.clone()),
            file: site.file.clone(),
            line: site.line,
            inlined: false,
            module: String::new(),
            offset: 0,
            guessed: false,
        };
        let lines = vec![self.line(&frame)];
        self.location(0, 0, lines)
    }

    fn location(&mut self, mapping: u64, address: u64, lines: Vec<Line>) -> u64 {
        let next = self.locations.len() as u64 + 1;
        let id = *self
            .locations
            .entry((mapping, address, lines.clone()))
            .or_insert(next);
        if id == next {
            self.profile.location.push(Location {
                id,
                mapping_id: mapping,
                address,
                line: lines,
            });
        }
        id
    }

    /// Number of a file; 0 of what is none.
    fn mapping(&mut self, module: &'a str) -> u64 {
        if module.is_empty() || module.starts_with('[') {
            return 0;
        }
        let next = self.mappings.len() as u64 + 1;
        let id = *self.mappings.entry(module).or_insert(next);
        if id == next {
            let build_id = self.build_ids.get(module).copied().unwrap_or_default();
            let mapping = Mapping {
                id,
                memory_start: id * STRIDE,
                memory_limit: (id + 1) * STRIDE,
                file_offset: 0,
                filename: self.string(module),
                build_id: self.string(build_id),
                has_functions: true,
                has_filenames: true,
                has_line_numbers: true,
                has_inline_frames: true,
            };
            self.profile.mapping.push(mapping);
        }
        id
    }

    fn line(&mut self, frame: &Frame) -> Line {
        let name = self.string(&function(frame));
        let file = self.string(frame.file.as_deref().unwrap_or_default());
        let next = self.functions.len() as u64 + 1;
        let id = *self.functions.entry((name, file)).or_insert(next);
        if id == next {
            self.profile.function.push(Function {
                id,
                name,
                system_name: name,
                filename: file,
            });
        }
        Line {
            function_id: id,
            line: frame.line.unwrap_or(0).into(),
        }
    }
}
