//! What a program says of its own goroutines: `pprof/goroutine?debug=2`, over a Unix socket.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
};

use testbed::go::without_arguments;

/// function, file, line
pub type Frame = (String, String, u32);

#[derive(Debug, PartialEq, Eq)]
pub struct Goroutine {
    /// `chan receive`, of `goroutine 7 [chan receive, 2 minutes]`.
    pub state: String,
    pub frames: Vec<Frame>,
    /// File and line of `created by`.
    pub made_at: Option<(String, u32)>,
}

pub fn ask(socket: &str) -> BTreeMap<u64, Goroutine> {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream
        .write_all(b"GET /debug/pprof/goroutine?debug=2 HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    body.trim().split("\n\n").map(parse).collect()
}

fn parse(block: &str) -> (u64, Goroutine) {
    let mut lines = block.lines();
    let head = lines.next().unwrap();
    let (id, state) = head.strip_prefix("goroutine ").unwrap().split_once(" [").unwrap();
    let state = state.trim_end_matches("]:").split(", ").next().unwrap();
    let mut goroutine = Goroutine {
        state: state.to_owned(),
        frames: Vec::new(),
        made_at: None,
    };
    while let Some(line) = lines.next() {
        let place = lines.next().unwrap_or_else(|| panic!("{block}"));
        let place = place.trim_start().split(" +0x").next().unwrap();
        let (file, number) = place.rsplit_once(':').unwrap();
        let (file, number) = (file.to_owned(), number.parse().unwrap());
        if line.starts_with("created by ") {
            goroutine.made_at = Some((file, number));
        } else {
            goroutine
                .frames
                .push((without_arguments(line).unwrap().to_owned(), file, number));
        }
    }
    (id.parse().unwrap(), goroutine)
}
