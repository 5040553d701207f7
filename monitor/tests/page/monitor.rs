//! `taskleak run` for a page.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    thread,
};

use testbed::{Program, Target};

pub struct Monitor {
    child: Child,
    pub url: String,
}

impl Monitor {
    pub fn start(pids: &[u32], arguments: &[&str]) -> Self {
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let mut child = Command::new(env!("CARGO_BIN_EXE_taskleak"))
            .args([
                "run",
                "--listen",
                "127.0.0.1:0",
                "--log",
                "info",
                "--interval",
                "500ms",
            ])
            .args(["--blocked-after", "500ms", "--pid", &pids.join(",")])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let url = lines.by_ref().find_map(|line| {
            let (_, rest) = line.split_once("http://")?;
            Some(format!("http://{}/", rest.split('/').next()?))
        });
        // A pipe that nobody reads would fill up.
        thread::spawn(move || lines.for_each(drop));
        let url = url.expect("it has not ended");
        Self { child, url }
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of the testbed; `None`, and the test is skipped, where it cannot run.
pub fn target(test: &str, program: Program, scenarios: &[&str]) -> Option<Target> {
    testbed::or_skip(test, Target::start(program, scenarios)).unwrap_or_else(|error| panic!("{error:#}"))
}
