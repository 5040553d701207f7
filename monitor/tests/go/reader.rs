//! Reads the goroutines of a process with the helper's own code, in this process.

use std::collections::BTreeMap;

use taskleak::observe::go::{
    Answer, Inspector, Question,
    protocol::{Named, Outcome, Record, Unknown, Wanted, Who},
};

pub struct Reader {
    inspector: Inspector,
    who: Who,
    pub reasons: Vec<String>,
}

impl Reader {
    pub fn new(pid: u32) -> Self {
        Self {
            inspector: Inspector::default(),
            who: Who {
                pid,
                tid: pid,
                start_boottime: 0,
                exec_id: 0,
            },
            reasons: Vec::new(),
        }
    }

    /// All goroutines by number, and how many could not be read.
    pub fn goroutines(&mut self) -> Result<(BTreeMap<u64, Record>, u64), Unknown> {
        match self.inspector.answer(&Question::Begin {
            who: self.who,
            whole: false,
        }) {
            Answer::Begun(begun) => self.reasons = begun.reasons,
            Answer::Refused(refusal) => return Err(refusal),
            other => panic!("{other:?}"),
        }
        let (mut records, mut unreadable) = (BTreeMap::new(), 0);
        loop {
            // As the helper does while the monitor takes in what came before.
            self.inspector.read_ahead();
            // Other questions may come in between.
            self.inspector.answer(&Question::Points(self.who));
            match self.inspector.answer(&Question::Next) {
                Answer::Some(batch) => {
                    unreadable += batch.unreadable;
                    records.extend(batch.records.into_iter().map(|record| (record.id, record)));
                    if batch.is_last {
                        return Ok((records, unreadable));
                    }
                }
                Answer::Refused(refusal) => return Err(refusal),
                other => panic!("{other:?}"),
            }
        }
    }

    /// The frames of a goroutine; `None` when it has run meanwhile.
    pub fn stack(&mut self, record: &Record) -> Option<Named> {
        let wanted = Wanted {
            address: record.address,
            id: record.id,
            seq: record.seq,
            place: record.place,
        };
        let Answer::Stacks(stacks) = self.inspector.answer(&Question::Stacks(self.who, vec![wanted])) else {
            panic!("no stacks");
        };
        let [Outcome::Stack { number, .. }] = stacks.outcomes[..] else {
            return None;
        };
        let pcs = stacks.stacks[number as usize].pcs.clone();
        match self.inspector.answer(&Question::Name(self.who, vec![pcs])) {
            Answer::Named(mut named) => named.pop(),
            other => panic!("{other:?}"),
        }
    }

    /// File and line of the place that a goroutine was made at, and its function.
    pub fn made_at(&mut self, record: &Record) -> Option<taskleak::model::Site> {
        let question = Question::Sites {
            who: self.who,
            made_at: vec![record.gopc],
            runs: Vec::new(),
        };
        match self.inspector.answer(&question) {
            Answer::Sites { mut made_at, .. } => made_at.pop().flatten(),
            other => panic!("{other:?}"),
        }
    }
}
