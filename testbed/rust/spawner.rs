//! rust_spawner: says `ready`, waits for SIGUSR1, and then makes threads from functions of its own: 2 by a function,
//! 3 by a closure with a name, 4 by another closure, all of which stay, and 6 by a closure that end at once.

use std::thread;

unsafe extern "C" {
    fn sigwait(set: *const [u64; 16], signal: *mut i32) -> i32;
    fn sigprocmask(how: i32, set: *const [u64; 16], old: *mut [u64; 16]) -> i32;
}

const SIGUSR1: u32 = 10;

#[inline(never)]
fn wait_for_ever() {
    loop {
        thread::park();
    }
}

#[inline(never)]
fn run_job() {
    wait_for_ever();
}

#[inline(never)]
fn spawn_by_function() {
    for _ in 0..2 {
        thread::spawn(run_job);
    }
}

#[inline(never)]
fn spawn_by_name() {
    for number in 0..3 {
        let thread = thread::Builder::new().name(format!("worker-{number}"));
        thread.spawn(move || wait_until(number)).unwrap();
    }
}

#[inline(never)]
fn wait_until(number: u32) {
    if number < 100 {
        wait_for_ever();
    }
}

#[inline(never)]
fn spawn_by_closure() {
    let texts: Vec<String> = (0..4).map(|number| format!("text {number}")).collect();
    for text in texts {
        thread::spawn(move || {
            while !text.is_empty() {
                thread::park();
            }
        });
    }
}

#[inline(never)]
fn spawn_short() {
    for number in 0..6 {
        thread::spawn(move || assert!(number < 6)).join().unwrap();
    }
}

fn main() {
    let mut wanted = [0; 16];
    wanted[0] = 1_u64 << (SIGUSR1 - 1);
    // SAFETY: a set of signals is 1,024 bits (glibc), which lives through the calls.
    unsafe { sigprocmask(0, &wanted, std::ptr::null_mut()) };
    println!("ready");
    let mut signal = 0;
    // SAFETY: as above, and a place for the answer.
    unsafe { sigwait(&wanted, &mut signal) };
    spawn_by_function();
    spawn_by_name();
    spawn_by_closure();
    spawn_short();
    wait_for_ever();
}
