//! What all scenarios share: how threads are started, named, counted in and kept waiting.

use std::process::exit;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How many threads have yet to arrive before `ready` is said.
static AWAITED: AtomicU32 = AtomicU32::new(0);

/// The calling thread is about to block.
pub fn arrive() {
    AWAITED.fetch_sub(1, Ordering::SeqCst);
}

#[inline(never)]
pub fn sleep_forever() {
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

pub fn came_back(function: &str) -> ! {
    eprintln!("rust_blockers: {function} came back, though nothing should have woken it");
    exit(3)
}

/// A scenario whose threads need nothing of their own: they arrive and block. `after` prepares, first of all.
macro_rules! scenario {
    ($name:literal: $spawn:ident, $entry:ident, $block:ident $(, after $prepare:expr)?) => {
        #[inline(never)]
        fn $entry() {
            $crate::bed::arrive();
            $block();
            $crate::bed::came_back(stringify!($entry))
        }

        #[inline(never)]
        pub fn $spawn(count: u32) {
            $($prepare;)?
            for _ in 0..count {
                $crate::bed::start($name, $entry);
            }
        }
    };
}

/// Inlined, so that the caller is the innermost frame of this file at the creation of the thread.
#[inline(always)]
pub fn start(name: &str, run: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    AWAITED.fetch_add(1, Ordering::SeqCst);
    match thread::Builder::new().name(name.to_owned()).spawn(run) {
        Ok(handle) => handle,
        Err(error) => {
            eprintln!("rust_blockers: cannot start a thread for {name}: {error}");
            exit(1)
        }
    }
}

/// Runs `hold` in a helper thread and returns once it has arrived. It takes something and keeps it for ever.
pub fn hold_by(hold: impl FnOnce() + Send + 'static) {
    start("helper", hold);
    wait_for_arrivals();
}

/// Keeps the guard that `take` returns for ever, in a helper thread.
pub fn hold<Guard>(take: impl FnOnce() -> Guard + Send + 'static) {
    hold_by(move || {
        let _guard = take();
        arrive();
        sleep_forever()
    });
}

/// Not a wait on a lock: the main thread must not look blocked itself.
pub fn wait_for_arrivals() {
    while AWAITED.load(Ordering::SeqCst) > 0 {
        thread::sleep(Duration::from_millis(1));
    }
}

pub(crate) use scenario;
