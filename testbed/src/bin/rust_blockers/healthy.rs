//! Healthy waits: each has a timeout far below a day, and waits again after it.

use std::sync::{Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use crate::bed::{came_back, scenario, sleep_forever};

const TIMEOUT: Duration = Duration::from_secs(1000);

static CONDVAR_MUTEX: Mutex<()> = Mutex::new(());
static CONDVAR: Condvar = Condvar::new();

#[inline(never)]
fn timed_condvar_wait() {
    loop {
        let Ok(guard) = CONDVAR_MUTEX.lock() else {
            came_back("lock")
        };
        let _timed_out = CONDVAR.wait_timeout(guard, TIMEOUT);
    }
}

scenario!("timed_condvar": spawn_timed_condvar, idle_timed_condvar, timed_condvar_wait);

#[inline(never)]
fn timed_recv_wait() {
    let (_sender, receiver) = mpsc::channel::<u32>();
    loop {
        let _timed_out = receiver.recv_timeout(TIMEOUT);
    }
}

scenario!("timed_recv": spawn_timed_recv, idle_timed_recv, timed_recv_wait);

#[inline(never)]
fn timed_park_wait() {
    loop {
        thread::park_timeout(TIMEOUT);
    }
}

scenario!("timed_park": spawn_timed_park, idle_timed_park, timed_park_wait);

scenario!("sleep": spawn_sleep, idle_sleep, sleep_forever);
