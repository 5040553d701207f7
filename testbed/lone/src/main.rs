//! A program of tokio's with a single future, so that what puts a task into its list and takes it out is put into others. On the
//! Unix socket that `TASKS_SOCKET` names it is told `make N`, to make so many tasks, and `end N`, so that the first N that were
//! made end. Says `ready`, and stays.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::watch,
};

async fn job(number: u64, mut ended: watch::Receiver<u64>) {
    while *ended.borrow_and_update() <= number {
        ended.changed().await.unwrap();
    }
}

fn make(numbers: std::ops::Range<u64>, ended: &watch::Sender<u64>, handle: &Handle) {
    for number in numbers {
        handle.spawn(job(number, ended.subscribe()));
    }
}

fn main() {
    let listener = UnixListener::bind(env::var_os("TASKS_SOCKET").unwrap()).unwrap();
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let ended = watch::Sender::new(0);
    let mut made = 0;
    println!("ready");
    for stream in listener.incoming() {
        let mut stream = BufReader::new(stream.unwrap());
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        let (order, count) = line.trim().split_once(' ').unwrap();
        let count: u64 = count.parse().unwrap();
        match order {
            "make" => {
                make(made..made + count, &ended, runtime.handle());
                made += count;
            }
            _ => {
                ended.send_replace(count);
            }
        }
        writeln!(stream.get_mut(), "0").unwrap();
    }
}
