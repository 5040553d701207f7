//! Tasks that end, and what becomes of their handles: kept, joined, given back, or in a set. No two of the functions are the
//! same code, so that no build has one for both.

use std::{
    hint::black_box,
    sync::Mutex,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::oneshot,
    task::{JoinHandle, JoinSet},
    time,
};

/// Of those that are kept.
static HANDLES: Mutex<Vec<JoinHandle<u64>>> = Mutex::new(Vec::new());
static SETS: Mutex<Vec<JoinSet<u64>>> = Mutex::new(Vec::new());
/// What ends those that wait.
static ENDS: Mutex<Vec<oneshot::Sender<u64>>> = Mutex::new(Vec::new());

/// `keeper=2` and `joiner=2` make five tasks a second each that end soon, for ever. The keeper keeps their handles, the joiner
/// awaits them a little later.
pub fn start(name: &str, count: usize) -> bool {
    match name {
        "keeper" => (0..count).for_each(|_| {
            tokio::spawn(keeper());
        }),
        "joiner" => (0..count).for_each(|_| {
            tokio::spawn(joiner());
        }),
        _ => return false,
    }
    true
}

async fn keeper() {
    let mut handles = Vec::new();
    loop {
        time::sleep(Duration::from_millis(200)).await;
        handles.push(tokio::spawn(kept(handles.len() as u64)));
    }
}

async fn joiner() {
    loop {
        let handles: Vec<_> = (0..5).map(|number| tokio::spawn(joined_late(number))).collect();
        time::sleep(Duration::from_secs(1)).await;
        for handle in handles {
            handle.await.unwrap();
        }
    }
}

async fn kept(number: u64) -> u64 {
    time::sleep(Duration::from_millis(1)).await;
    black_box(number) + 1
}

async fn joined_late(number: u64) -> u64 {
    time::sleep(Duration::from_millis(2)).await;
    black_box(number) * 3
}

/// `short 7`, `long 7`, `set 7` and `endless 7` make so many whose handles are kept; `end 7` ends so many long ones, `abort 7` so
/// many of those whose handles were kept last; `joined 7`, `detached 7` and `drained 7` make so many of which nothing is kept;
/// `give back 7` gives back all handles. Whether that was asked.
pub fn answer(handle: &Handle, words: &[&str]) -> bool {
    let Some(count) = words.last().and_then(|count| count.parse().ok()) else {
        return false;
    };
    let numbers = 0..count as u64;
    let mut handles = HANDLES.lock().unwrap();
    match words {
        ["short", _] => handles.extend(numbers.map(|number| {
            handle.spawn(short([number; 2])) // short
        })),
        ["long", _] => handles.extend(numbers.map(|_| {
            let (sender, receiver) = oneshot::channel();
            ENDS.lock().unwrap().push(sender);
            handle.spawn(long(receiver)) // long
        })),
        ["endless", _] => handles.extend(numbers.map(|number| handle.spawn(endless(number)))),
        ["end", _] => ENDS
            .lock()
            .unwrap()
            .drain(..count)
            .for_each(|sender| sender.send(5).unwrap()),
        ["abort", _] => handles.iter().rev().take(count).for_each(JoinHandle::abort),
        ["set", _] => SETS.lock().unwrap().push(set(handle, numbers)),
        ["drained", _] => handle.block_on(drain(numbers)),
        ["joined", _] => {
            let made: Vec<_> = numbers.map(|number| handle.spawn(joined([number; 4]))).collect();
            handle.block_on(async {
                for made in made {
                    made.await.unwrap();
                }
            });
        }
        ["detached", _] => numbers.for_each(|number| drop(handle.spawn(detached([number; 5])))),
        ["give", "back", _] => {
            handles.clear();
            SETS.lock().unwrap().clear();
        }
        _ => return false,
    }
    true
}

fn set(handle: &Handle, numbers: std::ops::Range<u64>) -> JoinSet<u64> {
    let mut set = JoinSet::new();
    for number in numbers {
        set.spawn_on(in_set([number; 3]), handle);
    }
    set
}

async fn drain(numbers: std::ops::Range<u64>) {
    let mut set = JoinSet::new();
    for number in numbers {
        set.spawn(drained([number; 6]));
    }
    while let Some(number) = set.join_next().await {
        black_box(number.unwrap());
    }
}

async fn short(numbers: [u64; 2]) -> u64 {
    black_box(numbers).iter().sum()
}

async fn long(end: oneshot::Receiver<u64>) -> u64 {
    end.await.unwrap() + 2
}

async fn endless(number: u64) -> u64 {
    std::future::pending::<()>().await;
    black_box(number) + 4
}

async fn in_set(numbers: [u64; 3]) -> u64 {
    black_box(numbers).iter().max().unwrap() + 1
}

async fn joined(numbers: [u64; 4]) -> u64 {
    black_box(numbers).iter().min().unwrap() + 1
}

async fn detached(numbers: [u64; 5]) -> u64 {
    black_box(numbers).iter().product()
}

async fn drained(numbers: [u64; 6]) -> u64 {
    black_box(numbers).iter().rev().sum()
}
