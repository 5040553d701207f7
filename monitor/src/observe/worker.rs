//! The thread that looks at the tasks of one runtime, with a helper process of its own: no target can delay a sweep, and
//! none but itself for long.

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

use super::{
    helper::{Helper, HelperError, HelperOptions, Who},
    programs::Unknown,
};
use crate::{
    model::{Cause, ProcessId},
    scheduling,
};

/// How long a process is left alone that did not answer in time.
const LEFT_ALONE: Duration = Duration::from_secs(600);
/// How long a look at one process may take.
const BUDGET: Duration = Duration::from_secs(30);

/// What is said of a process whose tasks cannot be told.
#[derive(Clone, Copy, Debug)]
pub struct Causes {
    pub layout: Cause,
    pub unreadable: Cause,
    pub unresponsive: Cause,
    pub pending: Cause,
}

/// How the tasks of one runtime are looked at.
pub trait Runtime: Send + 'static {
    /// What its tasks are called in messages.
    const TASKS: &'static str;
    const CAUSES: Causes;
    /// What a look is told besides the process.
    type Order: Send + 'static;
    /// What is remembered of a process between looks.
    type Process: Default + Send + 'static;
    /// What a look says.
    type View: Send + 'static;

    /// Looks at a process. What is incomplete then.
    ///
    /// # Errors
    /// When nothing can be told of it.
    fn look(
        &self,
        order: &Self::Order,
        process: &mut Self::Process,
        asker: &mut Asker<'_>,
    ) -> Result<BTreeSet<Cause>, Failure>;

    /// What is told after a look.
    fn view(
        &self,
        order: &Self::Order,
        process: &mut Self::Process,
        incomplete: BTreeSet<Cause>,
    ) -> Self::View;

    /// A process of which there is nothing to tell but why.
    fn nothing(&self, process: &Self::Process, cause: Cause) -> Self::View;
}

/// Why a look did not come to its end.
#[derive(Debug)]
pub enum Failure {
    /// It does not have this runtime.
    Other,
    Incomplete(Cause, String),
}

/// Asks the helper about one process, for as long as a look may take.
pub struct Asker<'a> {
    helper: &'a mut Helper,
    helper_pid: &'a AtomicU32,
    causes: Causes,
    until: Instant,
    pub who: Who,
}

impl Asker<'_> {
    /// # Errors
    /// When there is no answer, or time is up.
    pub fn ask<T>(
        &mut self,
        ask: impl FnOnce(&mut Helper, ProcessId) -> Result<Result<T, Unknown>, HelperError>,
    ) -> Result<T, Failure> {
        if Instant::now() > self.until {
            let why = format!("not read within {BUDGET:?}: left alone for {LEFT_ALONE:?}");
            return Err(Failure::Incomplete(self.causes.unresponsive, why));
        }
        let answer = ask(self.helper, self.who.process());
        self.helper_pid
            .store(self.helper.pid().unwrap_or(0), Ordering::Relaxed);
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(unknown)) => Err(match unknown {
                Unknown::Other => Failure::Other,
                Unknown::Layout(_) => Failure::Incomplete(self.causes.layout, unknown.to_string()),
                Unknown::Unreadable(why) => Failure::Incomplete(self.causes.unreadable, why),
            }),
            // The helper leaves it alone for a while.
            Err(error @ (HelperError::Unresponsive | HelperError::LeftAlone | HelperError::Failed(_))) => {
                Err(Failure::Incomplete(self.causes.unresponsive, error.to_string()))
            }
            Err(error) => Err(Failure::Incomplete(self.causes.unreadable, error.to_string())),
        }
    }

    /// What an answer to another question is taken for.
    pub fn another_answer(&self) -> Failure {
        Failure::Incomplete(
            self.causes.unreadable,
            "another answer than to the question".to_owned(),
        )
    }
}

/// A process to be looked at.
struct Look<O> {
    process: ProcessId,
    /// Any live thread of it.
    tid: u32,
    order: O,
}

/// What is asked of the worker.
enum Order<O> {
    Look(Look<O>),
    /// All others are gone.
    Retain(HashSet<ProcessId>),
}

/// `None`: it does not have this runtime.
type Looked<V> = (ProcessId, Option<V>);

/// A thread with a helper process of its own.
pub struct Worker<R: Runtime> {
    orders: Sender<Order<R::Order>>,
    looked: Receiver<Looked<R::View>>,
    helper_pid: Arc<AtomicU32>,
}

impl<R: Runtime> Worker<R> {
    /// # Errors
    /// When no thread can be started.
    pub fn start(runtime: R, options: HelperOptions) -> io::Result<Self> {
        let (orders, ordered) = channel();
        let (tell, looked) = channel();
        let helper_pid = Arc::new(AtomicU32::new(0));
        let mut clerk = Clerk {
            runtime,
            helper: Helper::new(options),
            helper_pid: Arc::clone(&helper_pid),
            processes: HashMap::new(),
        };
        thread::Builder::new().name(R::TASKS.to_owned()).spawn(move || {
            let _ = scheduling::give_way();
            clerk.work(&ordered, &tell);
        })?;
        Ok(Self {
            orders,
            looked,
            helper_pid,
        })
    }

    /// Orders a look; `tid`: any live thread of the process. Whether there will be an answer.
    pub fn look(&self, process: ProcessId, tid: u32, order: R::Order) -> bool {
        let look = Look { process, tid, order };
        self.orders.send(Order::Look(look)).is_ok()
    }

    pub fn retain(&self, alive: HashSet<ProcessId>) {
        // A worker that has ended remembers nothing.
        let _ = self.orders.send(Order::Retain(alive));
    }

    /// The next look that is done, if there is one by then.
    pub fn looked(&self, until: Instant) -> Option<Looked<R::View>> {
        self.looked
            .recv_timeout(until.saturating_duration_since(Instant::now()))
            .ok()
    }

    /// Pid of the helper process while one runs.
    pub fn helper_pid(&self) -> Option<u32> {
        Some(self.helper_pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0)
    }
}

struct Process<P> {
    memory: P,
    left_alone_until: Option<Instant>,
    /// What was said of it in the log.
    said: Option<String>,
}

impl<P: Default> Default for Process<P> {
    fn default() -> Self {
        Self {
            memory: P::default(),
            left_alone_until: None,
            said: None,
        }
    }
}

struct Clerk<R: Runtime> {
    runtime: R,
    helper: Helper,
    helper_pid: Arc<AtomicU32>,
    processes: HashMap<ProcessId, Process<R::Process>>,
}

impl<R: Runtime> Clerk<R> {
    fn work(&mut self, orders: &Receiver<Order<R::Order>>, tell: &Sender<Looked<R::View>>) {
        loop {
            let order = match orders.try_recv() {
                Err(TryRecvError::Empty) => {
                    if self.processes.is_empty() {
                        // Nothing that has the runtime: nobody needs a helper.
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
                    let view = self.look(&look);
                    if tell.send((process, view)).is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn look(&mut self, look: &Look<R::Order>) -> Option<R::View> {
        let mut process = self.processes.remove(&look.process).unwrap_or_default();
        let now = Instant::now();
        if process.left_alone_until.is_some_and(|until| now < until) {
            let view = self.runtime.nothing(&process.memory, R::CAUSES.unresponsive);
            self.processes.insert(look.process, process);
            return Some(view);
        }
        let who = Who::of(look.process, look.tid);
        let mut asker = Asker {
            helper: &mut self.helper,
            helper_pid: &self.helper_pid,
            causes: R::CAUSES,
            until: now + BUDGET,
            who,
        };
        let runtime = &self.runtime;
        let view = match runtime.look(&look.order, &mut process.memory, &mut asker) {
            Ok(incomplete) => runtime.view(&look.order, &mut process.memory, incomplete),
            Err(Failure::Other) => return None,
            Err(Failure::Incomplete(..)) if is_gone(who) => {
                runtime.nothing(&process.memory, R::CAUSES.pending)
            }
            Err(Failure::Incomplete(cause, why)) => {
                if Instant::now() > now + BUDGET {
                    process.left_alone_until = Some(now + LEFT_ALONE);
                }
                if process.said.as_ref() != Some(&why) {
                    tracing::warn!("{} of process {}: {why}", R::TASKS, who.pid);
                    process.said = Some(why);
                }
                runtime.nothing(&process.memory, cause)
            }
        };
        self.processes.insert(look.process, process);
        Some(view)
    }
}

/// Whether the thread that was to lead to the process has ended: that is no failure, and perhaps the process has too.
fn is_gone(who: Who) -> bool {
    let link = fs::read_link(format!("/proc/{}/task/{}/exe", who.pid, who.tid));
    link.is_err_and(|error| {
        error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
    })
}
