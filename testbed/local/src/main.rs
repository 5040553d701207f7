//! A program of tokio's with a `LocalSet`. On the Unix socket that `TASKS_SOCKET` names it is told `make N` or `local N`, to make so
//! many tasks, of two futures by turns, of the runtime or of the set, and `end N` and `end_local N`, so that the first N of these
//! end. Says `ready`, and stays.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    ops::Range,
    os::unix::net::UnixListener,
    thread,
};

use tokio::{
    runtime::Builder,
    sync::{mpsc, watch},
    task::{self, LocalSet},
};

async fn job(number: u64, mut ended: watch::Receiver<u64>) {
    while *ended.borrow_and_update() <= number {
        ended.changed().await.unwrap();
    }
}

async fn other(number: u64, ended: watch::Receiver<u64>) {
    task::yield_now().await;
    job(number, ended).await;
}

#[inline(never)]
fn make(numbers: Range<u64>, ended: &watch::Sender<u64>) {
    for number in numbers {
        if number % 2 == 0 {
            tokio::spawn(job(number, ended.subscribe()));
        } else {
            tokio::spawn(other(number, ended.subscribe()));
        }
    }
}

#[inline(never)]
fn local(numbers: Range<u64>, ended: &watch::Sender<u64>) {
    for number in numbers {
        if number % 2 == 0 {
            task::spawn_local(job(number, ended.subscribe()));
        } else {
            task::spawn_local(other(number, ended.subscribe()));
        }
    }
}

fn listen(orders: mpsc::UnboundedSender<(String, u64)>) {
    let listener = UnixListener::bind(env::var_os("TASKS_SOCKET").unwrap()).unwrap();
    println!("ready");
    for stream in listener.incoming() {
        let mut stream = BufReader::new(stream.unwrap());
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let (order, count) = line.trim().split_once(' ').unwrap();
        let order = (order.to_owned(), count.parse().unwrap());
        orders.send(order).unwrap();
        writeln!(stream.get_mut(), "0").unwrap();
    }
}

fn main() {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (orders, mut ordered) = mpsc::unbounded_channel();
    thread::spawn(|| listen(orders));
    let (ended, local_ended) = (watch::Sender::new(0), watch::Sender::new(0));
    let (mut made, mut local_made) = (0, 0);
    LocalSet::new().block_on(&runtime, async {
        while let Some((order, count)) = ordered.recv().await {
            match order.as_str() {
                "make" => {
                    make(made..made + count, &ended);
                    made += count;
                }
                "local" => {
                    local(local_made..local_made + count, &local_ended);
                    local_made += count;
                }
                "end" => drop(ended.send_replace(count)),
                _ => drop(local_ended.send_replace(count)),
            }
        }
    });
}
