//! Where the snapshots come from: a daemon, or sweeps of our own on a thread of their own.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use super::rows::{self, Document};
use crate::{
    cli::{Failure, connect::Api},
    export::json::{self, Detail},
    pipeline::Monitor,
};

/// A snapshot, or why there is none.
pub type Told = Result<Document, String>;

/// Sweeps again and again.
pub fn sweep(mut monitor: Monitor, interval: Duration) -> std::io::Result<Receiver<Told>> {
    start("sweeper", move |tell| {
        loop {
            let told = monitor
                .pass()
                .map_err(|error| format!("a sweep failed: {error}"))
                .and_then(|snapshot| {
                    let json = json::render(&snapshot, Detail::Stacks).map_err(|error| error.to_string())?;
                    rows::parse(json.as_bytes())
                });
            if tell.send(told).is_err() || monitor.wait(interval, None).is_err() {
                return;
            }
        }
    })
}

/// Asks a daemon again and again. `first`: what it has answered once already.
pub fn ask(api: Api, first: Document, interval: Duration) -> std::io::Result<Receiver<Told>> {
    start("asker", move |tell| {
        let mut told = Ok(first);
        while tell.send(told).is_ok() {
            thread::sleep(interval);
            told = snapshot(&api).map_err(|failure| failure.to_string());
        }
    })
}

/// What a daemon says now.
///
/// # Errors
/// When it does not answer, or something else.
pub fn snapshot(api: &Api) -> Result<Document, Failure> {
    let answer = api.get("/api/v1/snapshot")?;
    rows::parse(&answer.body).map_err(Failure::TargetGone)
}

fn start(name: &str, work: impl FnOnce(Sender<Told>) + Send + 'static) -> std::io::Result<Receiver<Told>> {
    let (tell, told) = channel();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || work(tell))?;
    Ok(told)
}
