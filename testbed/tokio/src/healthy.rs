//! Tasks that do what they should, and are never to be called stuck.

use std::{collections::VecDeque, time::Duration};

use futures_util::{
    future::{self, FutureExt},
    stream::{FuturesUnordered, StreamExt},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::{mpsc, watch},
    time,
};

const HOUR: Duration = Duration::from_secs(3600);
/// Tasks that a round of the churn makes.
const ROUND: usize = 200;

pub fn start(name: &str, count: usize) -> bool {
    match name {
        "ticker" => (0..count).for_each(|_| {
            tokio::spawn(ticker());
        }),
        "sleeper" => (0..count).for_each(|_| {
            tokio::spawn(sleeper());
        }),
        "boxed_sleeper" => (0..count).for_each(|_| {
            tokio::spawn(async { Box::pin(sleeper()).await });
        }),
        "churn" => (0..count).for_each(|_| {
            tokio::spawn(churn());
        }),
        "echo" => (0..count).for_each(|_| {
            tokio::spawn(echo());
        }),
        "worker" => (0..count).for_each(|_| {
            tokio::spawn(worker());
        }),
        "pingpong" => (0..count).for_each(|_| {
            pingpong();
        }),
        "crowd" => crowd(count),
        "timeout" => (0..count).for_each(|_| {
            tokio::spawn(timeout());
        }),
        "in_list" => (0..count).for_each(|_| {
            tokio::spawn(in_list());
        }),
        "in_lists" => (0..count).for_each(|_| {
            tokio::spawn(in_lists());
        }),
        "joined" => (0..count).for_each(|number| {
            tokio::spawn(joined(if number % 2 == 0 { 3 } else { 50 }));
        }),
        "select_sleep" => (0..count).for_each(|_| {
            tokio::spawn(select_sleep());
        }),
        "interval" => (0..count).for_each(|_| {
            tokio::spawn(hourly());
        }),
        "elsewhere" => elsewhere(count),
        "shared" => (0..count).for_each(|_| {
            tokio::spawn(shared(HOUR));
        }),
        "short_shared" => (0..count).for_each(|_| {
            tokio::spawn(short_shared());
        }),
        "crowd_of_sleepers" => (0..count as u64).for_each(|number| {
            tokio::spawn(time::sleep(HOUR + Duration::from_millis(977 * number)));
        }),
        _ => return false,
    }
    true
}

async fn ticker() {
    let mut interval = time::interval(Duration::from_millis(10));
    loop {
        interval.tick().await;
    }
}

async fn sleeper() {
    time::sleep(HOUR).await;
}

async fn short(number: u64) -> u64 {
    time::sleep(Duration::from_millis(1 + number % 3)).await;
    number
}

async fn churn() {
    loop {
        let children: Vec<_> = (0..ROUND)
            .map(|number| tokio::spawn(short(number as u64)))
            .collect();
        for child in children {
            child.await.unwrap();
        }
    }
}

/// A connection that talks five times a second, from both of its ends.
async fn echo() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    tokio::spawn(async move {
        let mut byte = [0];
        while server.read_exact(&mut byte).await.is_ok() {
            server.write_all(&byte).await.unwrap();
        }
    });
    let mut byte = [7];
    loop {
        time::sleep(Duration::from_millis(200)).await;
        client.write_all(&byte).await.unwrap();
        client.read_exact(&mut byte).await.unwrap();
    }
}

/// Gets a job every 50 ms.
async fn worker() {
    let (sender, mut receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        loop {
            time::sleep(Duration::from_millis(50)).await;
            sender.send(1_u32).await.unwrap();
        }
    });
    while let Some(job) = receiver.recv().await {
        std::hint::black_box(job);
    }
}

/// Two tasks that hand a number to and fro as fast as they can.
fn pingpong() {
    let (there, mut from_here) = mpsc::channel(1);
    let (back, mut from_there) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Some(number) = from_here.recv().await {
            back.send(number).await.unwrap();
        }
    });
    tokio::spawn(async move {
        let mut number = 0_u64;
        loop {
            there.send(number).await.unwrap();
            number = from_there.recv().await.unwrap() + 1;
        }
    });
}

/// Many that are all woken every two seconds, at once.
fn crowd(count: usize) {
    let (sender, receiver) = watch::channel(0_u64);
    for _ in 0..count {
        let mut receiver = receiver.clone();
        tokio::spawn(async move { while receiver.changed().await.is_ok() {} });
    }
    tokio::spawn(async move {
        loop {
            time::sleep(Duration::from_secs(2)).await;
            sender.send_modify(|number| *number += 1);
        }
    });
}

/// Several futures that are polled with wakers of their own: nothing but these leads to the task.
async fn in_list() {
    let mut list: FuturesUnordered<_> = (0..40).map(|_| sleeper()).collect();
    while list.next().await.is_some() {}
}

/// The same in one another, with large futures.
async fn in_lists() {
    let mut lists: FuturesUnordered<_> = (0..3)
        .map(|_| async {
            let large = [1_u8; 3_000];
            in_list().await;
            std::hint::black_box(large);
        })
        .collect();
    while lists.next().await.is_some() {}
}

async fn joined(count: usize) {
    future::join_all((0..count).map(|_| sleeper())).await;
}

async fn select_sleep() {
    let (sender, mut receiver) = mpsc::channel::<u32>(1);
    tokio::select! {
        _ = receiver.recv() => {}
        () = time::sleep(HOUR) => {}
    }
    drop(sender);
}

async fn hourly() {
    let mut interval = time::interval(HOUR);
    loop {
        interval.tick().await;
    }
}

/// They sleep with the timers of a runtime that has no tasks.
fn elsewhere(count: usize) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    for _ in 0..count {
        let sleep = {
            let _inside = runtime.enter();
            Box::pin(time::sleep(HOUR))
        };
        tokio::spawn(sleep);
    }
    std::mem::forget(runtime);
}

/// A sleep that is polled with a waker of which nobody knows whose it is.
async fn shared(time: Duration) {
    time::sleep(time).shared().await;
}

/// The same, over and over, at another place each time.
async fn short_shared() {
    let mut kept = VecDeque::new();
    loop {
        let sleep = time::sleep(Duration::from_millis(150)).shared();
        kept.push_back(sleep.clone());
        if kept.len() > 100 {
            kept.pop_front();
        }
        sleep.await;
    }
}

/// Waits for what never comes, and gives up after an hour.
async fn timeout() {
    let (sender, mut receiver) = mpsc::channel::<u32>(1);
    let _ = time::timeout(HOUR, receiver.recv()).await;
    drop(sender);
}
