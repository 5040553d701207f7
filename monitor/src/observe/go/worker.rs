//! The thread that looks at goroutines: no target can delay a sweep, and none but itself for long.

mod whole;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs, io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use whole::Whole;

use super::{
    protocol::{Answer, Batch, MAX_NAMED, MAX_SITES, MAX_STACKS, Outcome, Points, Question, Refusal, Who},
    spawning::Place,
    tracker::Stacked,
    view::{Memory, View},
};
use crate::{
    model::{Cause, ProcessId},
    observe::{
        helper::{Helper, HelperError, HelperOptions},
        thread::spawns::Origin,
    },
};

/// How long a process is left alone that did not answer in time.
const LEFT_ALONE: Duration = Duration::from_secs(600);
/// Goroutines that room is made for before they are read.
const MAX_RESERVED: usize = 1 << 20;
/// How long a look at one process may take.
const BUDGET: Duration = Duration::from_secs(30);

/// A process to be looked at.
#[derive(Clone, Debug)]
pub struct Look {
    pub process: ProcessId,
    /// Any live thread of it.
    pub tid: u32,
    /// What is to be named besides.
    pub unnamed: Vec<Place>,
    /// Whether all is to be told of all its goroutines, with the stacks of those that do not run.
    pub whole: bool,
}

/// What is asked of the worker.
enum Order {
    Look(Look),
    /// All others are gone.
    Retain(HashSet<ProcessId>),
}

/// `None`: it runs no Go.
pub type Looked = (ProcessId, Option<View>);

/// A thread with a helper process of its own.
pub struct Worker {
    orders: Sender<Order>,
    looked: Receiver<Looked>,
    helper_pid: Arc<AtomicU32>,
}

impl Worker {
    /// `options`: how stacks are read; `None`: they are not. `wants_points`: whether it is to be told where the probes
    /// go.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        options: Option<HelperOptions>,
        threshold: Duration,
        wants_points: bool,
    ) -> io::Result<Self> {
        let (orders, ordered) = channel();
        let (tell, looked) = channel();
        let helper_pid = Arc::new(AtomicU32::new(0));
        let mut clerk = Clerk {
            reads_stacks: options.is_some(),
            helper: Helper::new(options.unwrap_or_default()),
            helper_pid: Arc::clone(&helper_pid),
            wants_points,
            threshold,
            processes: HashMap::new(),
        };
        thread::Builder::new()
            .name("goroutines".to_owned())
            .spawn(move || clerk.work(&ordered, &tell))?;
        Ok(Self {
            orders,
            looked,
            helper_pid,
        })
    }

    /// Whether there will be an answer.
    pub fn look(&self, look: Look) -> bool {
        self.orders.send(Order::Look(look)).is_ok()
    }

    pub fn retain(&self, alive: HashSet<ProcessId>) {
        // A worker that has ended remembers nothing.
        let _ = self.orders.send(Order::Retain(alive));
    }

    /// The next look that is done, if there is one by then.
    pub fn looked(&self, until: Instant) -> Option<Looked> {
        self.looked
            .recv_timeout(until.saturating_duration_since(Instant::now()))
            .ok()
    }

    /// Pid of the helper process while one runs.
    pub fn helper_pid(&self) -> Option<u32> {
        Some(self.helper_pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }
}

/// What is remembered of a process.
#[derive(Default)]
struct Process {
    memory: Memory,
    left_alone_until: Option<Instant>,
    version: String,
    /// `None`: not asked for.
    points: Option<Option<Arc<Points>>>,
    /// What was said of it in the log.
    said: Option<String>,
}

impl Process {
    /// Sees to it that these get names.
    fn number(&mut self, places: &[Place]) {
        if let Some(Some(points)) = &self.points {
            for (gopc, startpc) in places.iter().filter(|(gopc, _)| *gopc != 0) {
                self.memory.made_at.number(gopc.wrapping_sub(points.bias));
                if *startpc != 0 {
                    self.memory.runs.number(startpc.wrapping_sub(points.bias));
                }
            }
        }
    }

    fn view(&self, threshold: Option<Duration>, incomplete: BTreeSet<Cause>, unnamed: &[Place]) -> View {
        let mut view = self.memory.view(&self.version, threshold, incomplete);
        view.points = self.points.clone().flatten();
        if let Some(points) = &view.points {
            let name = |place: &Place| {
                let (gopc, startpc) = *place;
                let linked = |address: u64| {
                    Some(address)
                        .filter(|it| *it != 0)
                        .map(|it| it.wrapping_sub(points.bias))
                };
                let origin = Origin {
                    entry: linked(startpc).and_then(|pc| self.memory.runs.named(pc)),
                    spawn_site: linked(gopc).and_then(|pc| self.memory.made_at.named(pc)),
                };
                (*place, origin)
            };
            view.named = unnamed.iter().map(name).collect();
        }
        view
    }
}

struct Clerk {
    helper: Helper,
    helper_pid: Arc<AtomicU32>,
    reads_stacks: bool,
    /// Whether it is to be told where the probes go.
    wants_points: bool,
    threshold: Duration,
    processes: HashMap<ProcessId, Process>,
}

/// Why a look did not come to its end.
enum Failure {
    NotGo,
    Incomplete(Cause, String),
}

impl Clerk {
    fn work(&mut self, orders: &Receiver<Order>, tell: &Sender<Looked>) {
        loop {
            let order = match orders.try_recv() {
                Err(TryRecvError::Empty) => {
                    if self.processes.is_empty() {
                        // Nothing that is Go: nobody needs a helper.
                        self.helper.stop();
                        self.helper_pid.store(0, Ordering::Relaxed);
                    }
                    orders.recv().ok()
                }
                order => order.ok(),
            };
            match order {
                None => return,
                Some(Order::Retain(alive)) => self.processes.retain(|id, _| alive.contains(id)),
                Some(Order::Look(look)) => {
                    let process = look.process;
                    let view = self.look(look);
                    if tell.send((process, view)).is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn look(&mut self, look: Look) -> Option<View> {
        let mut process = self.processes.remove(&look.process).unwrap_or_default();
        let now = Instant::now();
        if process.left_alone_until.is_some_and(|until| now < until) {
            let view = nothing(&process.version, Cause::GoroutinesUnresponsive);
            self.processes.insert(look.process, process);
            return Some(view);
        }
        let who = Who {
            pid: look.process.pid,
            tid: look.tid,
            start_boottime: look.process.start_boottime,
            exec_id: look.process.exec_id,
        };
        let looked = self.try_look(who, &mut process, &look, now + BUDGET);
        let view = match looked {
            Ok((incomplete, None)) => process.view(
                self.reads_stacks.then_some(self.threshold),
                incomplete,
                &look.unnamed,
            ),
            Ok((incomplete, Some(whole))) => {
                whole.complete(process.view(None, incomplete, &look.unnamed), &process.memory)
            }
            Err(Failure::NotGo) => return None,
            Err(Failure::Incomplete(..)) if is_gone(who) => {
                nothing(&process.version, Cause::GoroutinesPending)
            }
            Err(Failure::Incomplete(cause, why)) => {
                if Instant::now() > now + BUDGET {
                    process.left_alone_until = Some(now + LEFT_ALONE);
                }
                if process.said.as_ref() != Some(&why) {
                    tracing::warn!("goroutines of process {}: {why}", who.pid);
                    process.said = Some(why);
                }
                nothing(&process.version, cause)
            }
        };
        self.processes.insert(look.process, process);
        Some(view)
    }

    fn try_look(
        &mut self,
        who: Who,
        process: &mut Process,
        look: &Look,
        until: Instant,
    ) -> Result<(BTreeSet<Cause>, Option<Whole>), Failure> {
        let Answer::Begun(begun) = self.ask(who, &Question::Begin(who), until)? else {
            return Err(another_answer());
        };
        let begun_at = Instant::now();
        process.version = begun.version;
        if self.wants_points && process.points.is_none() {
            let Answer::Points(points) = self.ask(who, &Question::Points(who), until)? else {
                return Err(another_answer());
            };
            process.points = Some(points.map(Arc::new));
        }
        process.number(&look.unnamed);
        let memory = &mut process.memory;
        memory.set_reasons(begun.reasons);
        let mut incomplete = BTreeSet::new();
        // Of those that there ever were; how many live is seen only then.
        let mut entries = Vec::with_capacity(usize::try_from(begun.count).unwrap_or(0).min(MAX_RESERVED));
        let mut began = None;
        let mut whole = look.whole.then(Whole::default);
        loop {
            let Answer::Some(batch) = self.ask(who, &Question::Next, until)? else {
                return Err(another_answer());
            };
            let Batch {
                records,
                unreadable,
                is_last,
                ..
            } = &batch;
            let began = *began.get_or_insert(batch.began);
            if let Some(whole) = &mut whole {
                whole.note(records, batch.began);
            }
            entries.extend(
                records
                    .iter()
                    .map(|record| memory.entry(record, began, batch.ended)),
            );
            if *unreadable > 0 {
                incomplete.insert(Cause::GoroutinesUnreadable);
            }
            if *is_last {
                break;
            }
        }
        let read = begun_at.elapsed();
        memory.tracker.look(began.unwrap_or_default(), entries);
        self.name_places(who, memory, until)?;
        if let Some(mut whole) = whole {
            self.read_whole(who, memory, &mut whole, until)?;
            return Ok((incomplete, Some(whole)));
        }
        if !self.reads_stacks {
            return Ok((incomplete, None));
        }
        let unasked = memory.unasked(self.threshold);
        if !unasked.is_empty() {
            thread::sleep(memory.tracker.confirm_after().saturating_sub(begun_at.elapsed()));
            self.read_stacks(who, memory, &unasked, until)?;
            self.name_stacks(who, memory, until)?;
        }
        tracing::debug!(
            "process {}: {} goroutines read in {read:?}, {} stacks until {:?}",
            who.pid,
            memory.tracker.entries().len(),
            unasked.len(),
            begun_at.elapsed()
        );
        Ok((incomplete, None))
    }

    fn name_places(&mut self, who: Who, memory: &mut Memory, until: Instant) -> Result<(), Failure> {
        loop {
            let (made_at, runs) = (memory.made_at.unnamed(MAX_SITES), memory.runs.unnamed(MAX_SITES));
            if made_at.is_empty() && runs.is_empty() {
                return Ok(());
            }
            let asked = (made_at.len(), runs.len());
            let Answer::Sites { made_at, runs } =
                self.ask(who, &Question::Sites { who, made_at, runs }, until)?
            else {
                return Err(another_answer());
            };
            if (made_at.len(), runs.len()) != asked {
                return Err(another_answer());
            }
            memory.made_at.name(made_at);
            memory.runs.name(runs);
        }
    }

    fn read_stacks(
        &mut self,
        who: Who,
        memory: &mut Memory,
        unasked: &[usize],
        until: Instant,
    ) -> Result<(), Failure> {
        for indices in unasked.chunks(MAX_STACKS) {
            let entries = memory.tracker.entries();
            let wanted = indices
                .iter()
                .filter_map(|index| entries.get(*index))
                .map(|entry| entry.wanted());
            let question = Question::Stacks(who, wanted.collect());
            let Answer::Stacks(answer) = self.ask(who, &question, until)? else {
                return Err(another_answer());
            };
            let now = super::inspector::now();
            let numbers: Vec<Option<u32>> = answer.stacks.into_iter().map(|pcs| memory.stack(pcs)).collect();
            for (index, outcome) in indices.iter().zip(answer.outcomes) {
                let Some(entry) = memory.tracker.entries_mut().get_mut(*index) else {
                    continue;
                };
                match outcome {
                    Outcome::Stack {
                        has_deadline: true, ..
                    } => entry.set_stack(Stacked::Passing),
                    Outcome::Stack { number, .. } => {
                        let number = numbers.get(number as usize).copied().flatten();
                        entry.set_stack(number.map_or(Stacked::Unreadable, Stacked::Number));
                    }
                    Outcome::Unreadable => entry.set_stack(Stacked::Unreadable),
                    Outcome::Moved => entry.has_run(now),
                }
            }
        }
        Ok(())
    }

    fn name_stacks(&mut self, who: Who, memory: &mut Memory, until: Instant) -> Result<(), Failure> {
        for stacks in memory.unnamed_stacks().chunks(MAX_NAMED) {
            let question = Question::Name(who, stacks.iter().map(|(pcs, _)| pcs.pcs.clone()).collect());
            let Answer::Named(named) = self.ask(who, &question, until)? else {
                return Err(another_answer());
            };
            for ((pcs, number), named) in stacks.iter().zip(named) {
                memory.name_stack(*number, named, pcs.truncated);
            }
        }
        Ok(())
    }

    fn ask(&mut self, who: Who, question: &Question, until: Instant) -> Result<Answer, Failure> {
        if Instant::now() > until {
            let why = format!("not read within {BUDGET:?}: left alone for {LEFT_ALONE:?}");
            return Err(Failure::Incomplete(Cause::GoroutinesUnresponsive, why));
        }
        let answer = self.helper.go(who.process(), question);
        self.helper_pid
            .store(self.helper.pid().unwrap_or(0), Ordering::Relaxed);
        match answer {
            Ok(Answer::Refused(refusal)) => Err(match refusal {
                Refusal::NotGo => Failure::NotGo,
                Refusal::Layout(version) => {
                    Failure::Incomplete(Cause::GoLayout, format!("{version}: layout not known"))
                }
                Refusal::Unreadable(why) => Failure::Incomplete(Cause::GoroutinesUnreadable, why),
            }),
            Ok(answer) => Ok(answer),
            // The helper leaves it alone for a while.
            Err(error @ (HelperError::Unresponsive | HelperError::LeftAlone | HelperError::Failed(_))) => {
                Err(Failure::Incomplete(
                    Cause::GoroutinesUnresponsive,
                    error.to_string(),
                ))
            }
            Err(error) => Err(Failure::Incomplete(
                Cause::GoroutinesUnreadable,
                error.to_string(),
            )),
        }
    }
}

/// Whether the thread that was to lead to the process has ended: that is no failure, and perhaps the process has too.
fn is_gone(who: Who) -> bool {
    let link = fs::read_link(format!("/proc/{}/task/{}/exe", who.pid, who.tid));
    link.is_err_and(|error| {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
    })
}

fn another_answer() -> Failure {
    Failure::Incomplete(
        Cause::GoroutinesUnreadable,
        "another answer than to the question".to_owned(),
    )
}

/// A process of which there is nothing to tell but why.
fn nothing(version: &str, cause: Cause) -> View {
    View {
        version: version.to_owned(),
        incomplete: BTreeSet::from([cause]),
        ..View::default()
    }
}
