//! Tests, one of which leaves a thread behind: `leaks leaves_one`, `leaks joins`.

use std::{
    sync::mpsc::{Receiver, channel},
    thread,
};

#[inline(never)]
fn wait_for_nobody(receiver: &Receiver<u32>) {
    let _ = receiver.recv();
}

#[test]
fn leaves_one() {
    let (sender, receiver) = channel();
    thread::spawn(move || wait_for_nobody(&receiver));
    // Whoever keeps it never sends.
    std::mem::forget(sender);
}

#[test]
fn joins() {
    let (sender, receiver) = channel();
    let worker = thread::spawn(move || wait_for_nobody(&receiver));
    sender.send(1).unwrap();
    worker.join().unwrap();
}
