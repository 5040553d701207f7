//! What a test or a bench asks of the program itself, on the Unix socket that `TASKS_SOCKET` names: `late`, how late a ticker of 1 ms
//! was at most since the last question, `dump`, how long the runtime takes to dump its tasks (0 where it cannot), and `busy`,
//! from when on those twins run that are to be busy (0); and what tasks are to be made and to end (`made`, `ended`). Answers are
//! nanoseconds.

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixListener,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use tokio::{runtime::Handle, time};

use crate::made::Maker;

static LATEST: AtomicU64 = AtomicU64::new(0);

pub fn start() {
    let Some(path) = env::var_os("TASKS_SOCKET") else {
        return;
    };
    let listener = UnixListener::bind(path).unwrap();
    let handle = Handle::current();
    tokio::spawn(tick());
    let maker = Maker::start();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            let answer = match line.trim() {
                "late" => LATEST.swap(0, Ordering::Relaxed),
                "busy" => {
                    crate::stuck::BUSY.store(true, Ordering::Relaxed);
                    0
                }
                other => maker.answer(other).unwrap_or_else(|| dump(&handle)),
            };
            writeln!(stream.into_inner(), "{answer}").unwrap();
        }
    });
}

async fn tick() {
    let period = Duration::from_millis(1);
    loop {
        let begun = time::Instant::now();
        time::sleep(period).await;
        // The timers themselves are as fine as a millisecond.
        let late = begun.elapsed().saturating_sub(2 * period);
        LATEST.fetch_max(late.as_nanos() as u64, Ordering::Relaxed);
    }
}

#[cfg(all(tokio_unstable, not(console)))]
fn dump(handle: &Handle) -> u64 {
    let begun = std::time::Instant::now();
    let dump = handle.block_on(handle.dump());
    let traces: usize = dump
        .tasks()
        .iter()
        .map(|task| task.trace().to_string().len())
        .sum();
    std::hint::black_box(traces);
    begun.elapsed().as_nanos() as u64
}

#[cfg(any(not(tokio_unstable), console))]
fn dump(_: &Handle) -> u64 {
    0
}
