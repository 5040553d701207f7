//! Waits that never end.

use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Barrier, Condvar, Mutex, Once, RwLock};
use std::thread::{self, JoinHandle};

use crate::bed::{arrive, came_back, hold, hold_by, scenario, sleep_forever, start};

// mutex
static MUTEX: Mutex<()> = Mutex::new(());

#[inline(never)]
fn mutex_lock_forever() {
    let _guard = MUTEX.lock();
    came_back("mutex_lock_forever")
}

scenario!("mutex": spawn_mutex, leak_mutex, mutex_lock_forever, after hold(|| MUTEX.lock()));

// condvar
static CONDVAR_MUTEX: Mutex<()> = Mutex::new(());
static CONDVAR: Condvar = Condvar::new();

#[inline(never)]
fn condvar_wait_forever() {
    let Ok(guard) = CONDVAR_MUTEX.lock() else {
        came_back("lock")
    };
    let _guard = CONDVAR.wait_while(guard, |()| true);
    came_back("condvar_wait_forever")
}

scenario!("condvar": spawn_condvar, leak_condvar, condvar_wait_forever);

// mpsc_recv: the sender lives on, in the thread that spawned, and never sends
#[inline(never)]
fn mpsc_recv_forever(receiver: &Receiver<u32>) {
    let _received = receiver.recv();
    came_back("mpsc_recv_forever")
}

#[inline(never)]
fn leak_mpsc_recv(receiver: Receiver<u32>) {
    arrive();
    mpsc_recv_forever(&receiver);
    came_back("leak_mpsc_recv")
}

#[inline(never)]
pub fn spawn_mpsc_recv(count: u32) {
    for _ in 0..count {
        let (sender, receiver) = mpsc::channel();
        std::mem::forget(sender);
        start("mpsc_recv", move || leak_mpsc_recv(receiver));
    }
}

// sync_send: into a channel without room, whose receiver never receives
#[inline(never)]
fn sync_send_forever(sender: &SyncSender<u32>) {
    let _sent = sender.send(1);
    came_back("sync_send_forever")
}

#[inline(never)]
fn leak_sync_send(sender: SyncSender<u32>) {
    arrive();
    sync_send_forever(&sender);
    came_back("leak_sync_send")
}

#[inline(never)]
pub fn spawn_sync_send(count: u32) {
    for _ in 0..count {
        let (sender, receiver) = mpsc::sync_channel(0);
        std::mem::forget(receiver);
        start("sync_send", move || leak_sync_send(sender));
    }
}

// park
#[inline(never)]
fn park_forever() {
    loop {
        thread::park();
    }
}

scenario!("park": spawn_park, leak_park, park_forever);

// join_handle: each on a helper of its own
#[inline(never)]
fn join_forever(target: JoinHandle<()>) {
    let _result = target.join();
    came_back("join_forever")
}

#[inline(never)]
fn leak_join_handle() {
    let target = start("helper", || {
        arrive();
        sleep_forever()
    });
    arrive();
    join_forever(target);
    came_back("leak_join_handle")
}

#[inline(never)]
pub fn spawn_join_handle(count: u32) {
    for _ in 0..count {
        start("join_handle", leak_join_handle);
    }
}

// rwlock: to write, while another writes
static RWLOCK: RwLock<()> = RwLock::new(());

#[inline(never)]
fn rwlock_write_forever() {
    let _guard = RWLOCK.write();
    came_back("rwlock_write_forever")
}

scenario!("rwlock": spawn_rwlock, leak_rwlock, rwlock_write_forever, after hold(|| RWLOCK.write()));

// barrier: of more threads than there ever are
#[inline(never)]
fn barrier_wait_forever(barrier: &Barrier) {
    let _result = barrier.wait();
    came_back("barrier_wait_forever")
}

#[inline(never)]
fn leak_barrier(barrier: Arc<Barrier>) {
    arrive();
    barrier_wait_forever(&barrier);
    came_back("leak_barrier")
}

#[inline(never)]
pub fn spawn_barrier(count: u32) {
    let barrier = Arc::new(Barrier::new(count as usize + 1));
    for _ in 0..count {
        let barrier = Arc::clone(&barrier);
        start("barrier", move || leak_barrier(barrier));
    }
}

// once: while a helper is for ever about to initialise
static ONCE: Once = Once::new();

#[inline(never)]
fn once_forever() {
    ONCE.call_once(|| came_back("the initialiser"));
    came_back("once_forever")
}

fn initialise_forever() {
    ONCE.call_once(|| {
        arrive();
        sleep_forever()
    });
}

scenario!("once": spawn_once, leak_once, once_forever, after hold_by(initialise_forever));
