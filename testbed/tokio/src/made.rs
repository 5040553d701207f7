//! Tasks that are made while the program runs: when somebody asks for it, at three places, and they end when somebody asks for
//! that; or late.

use std::{
    sync::{mpsc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{
        mpsc::{unbounded_channel, UnboundedReceiver, UnboundedSender},
        oneshot,
    },
    task::{JoinHandle, JoinSet},
    time,
};

const HOUR: Duration = Duration::from_secs(3600);

/// `late=7` makes so many that never end, when the program has run for a while, and lets it end after another one.
pub fn start(name: &str, count: usize) -> bool {
    if name == "late" {
        tokio::spawn(late(count));
    }
    name == "late"
}

async fn late(count: usize) {
    time::sleep(Duration::from_secs(4)).await;
    for _ in 0..count {
        let (sender, receiver) = oneshot::channel();
        std::mem::forget(sender);
        tokio::spawn(job(receiver));
    }
    time::sleep(Duration::from_secs(4)).await;
    std::process::exit(0);
}

/// What ends those that were made at each place: by a thread that is none of the runtime's, by a task, and by tokio's own
/// code, which that task calls.
static HERE: Mutex<Vec<oneshot::Sender<()>>> = Mutex::new(Vec::new());
static THERE: Mutex<Vec<oneshot::Sender<()>>> = Mutex::new(Vec::new());
static AMONG: Mutex<Vec<oneshot::Sender<()>>> = Mutex::new(Vec::new());

/// Makes tasks for those who ask.
pub struct Maker {
    handle: Handle,
    orders: UnboundedSender<Order>,
}

struct Order {
    /// Among others of a set.
    among: bool,
    count: usize,
    done: mpsc::Sender<()>,
}

impl Maker {
    pub fn start() -> Self {
        let (orders, ordered) = unbounded_channel();
        tokio::spawn(make(ordered));
        Self {
            handle: Handle::current(),
            orders,
        }
    }

    /// `here 7`, `there 7`, `among 7`, `pointer 7` make so many, `end here 7` ends so many of the first ones, and `burst 7` makes so many
    /// that end at once: ns of each. `None` of everything else.
    pub fn answer(&self, question: &str) -> Option<u64> {
        let words: Vec<&str> = question.split_whitespace().collect();
        if crate::ended::answer(&self.handle, &words) {
            return Some(0);
        }
        let count = words.last()?.parse().ok()?;
        match words[..] {
            ["here", _] => self.here(count),
            ["there", _] => self.there(count, false),
            ["among", _] => self.there(count, true),
            ["pointer", _] => self.pointer(count),
            ["end", place, _] => end(place, count),
            ["burst", _] => return Some(self.burst(count)),
            _ => return None,
        }
        Some(0)
    }

    /// A function of its own in every build: it is what is told of those without debug information.
    #[inline(never)]
    fn here(&self, count: usize) {
        let _inside = self.handle.enter();
        for _ in 0..count {
            let (sender, receiver) = oneshot::channel();
            tokio::spawn(job(receiver)); // here
            HERE.lock().unwrap().push(sender);
        }
    }

    /// By a call that no disassembler can follow; a function of its own as well.
    #[inline(never)]
    fn pointer(&self, count: usize) {
        // A stripped program's code is known by where it would panic.
        assert!(count > 0);
        let _inside = self.handle.enter();
        let spawn = std::hint::black_box(tokio::spawn as fn(_) -> _);
        for _ in 0..count {
            let (sender, receiver) = oneshot::channel();
            std::mem::forget(sender);
            let _: JoinHandle<()> = spawn(job(receiver));
        }
    }

    fn there(&self, count: usize, among: bool) {
        let (done, is_done) = mpsc::channel();
        let order = Order { among, count, done };
        assert!(self.orders.send(order).is_ok());
        is_done.recv().unwrap();
    }

    fn burst(&self, count: usize) -> u64 {
        let (done, is_done) = mpsc::channel();
        self.handle.spawn(async move {
            let begun = Instant::now();
            let mut jobs = Vec::with_capacity(count);
            for number in 0..count as u64 {
                jobs.push(tokio::spawn(sum([number, 0, 0])));
            }
            let mut sum = 0;
            for job in jobs {
                sum += job.await.unwrap();
            }
            let count = count as u64;
            assert_eq!(sum, count * (count - 1) / 2);
            done.send(begun.elapsed().as_nanos() as u64 / count).unwrap();
        });
        is_done.recv().unwrap()
    }
}

async fn make(mut ordered: UnboundedReceiver<Order>) {
    let mut set = JoinSet::new();
    // Nobody is to call it stuck.
    while let Ok(Some(order)) = time::timeout(HOUR, ordered.recv()).await {
        for _ in 0..order.count {
            let (sender, receiver) = oneshot::channel();
            if order.among {
                set.spawn(job(receiver)); // among
                AMONG.lock().unwrap().push(sender);
            } else {
                tokio::spawn(job(receiver)); // there
                THERE.lock().unwrap().push(sender);
            }
        }
        order.done.send(()).unwrap();
    }
}

async fn job(end: oneshot::Receiver<()>) {
    end.await.unwrap();
}

/// No other task is as large: it is not freed as others are.
async fn sum(numbers: [u64; 3]) -> u64 {
    std::hint::black_box(numbers).iter().sum()
}

fn end(place: &str, count: usize) {
    let waiting = match place {
        "here" => &HERE,
        "there" => &THERE,
        _ => &AMONG,
    };
    for sender in waiting.lock().unwrap().drain(..count) {
        sender.send(()).unwrap();
    }
}
