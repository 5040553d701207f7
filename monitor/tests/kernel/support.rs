//! Running taskleak and reading what it says.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use testbed::{Class, Expect, Program, Target, Unsupported};

pub const TASKLEAK: &str = env!("CARGO_BIN_EXE_taskleak");

/// Longest time that anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Judged in forty seconds: of a process that has just been started sixteen seconds of growth are enough.
pub const QUICK_VERDICTS: [&str; 8] = [
    "--interval",
    "200ms",
    "--blocked-after",
    "500ms",
    "--window",
    "40s",
    "--long-window",
    "80s",
];
/// Longest time that a verdict is waited for.
pub const VERDICT_PATIENCE: Duration = Duration::from_secs(90);

/// (reason, class) → blocked tasks.
pub type Counts = BTreeMap<(String, String), u64>;

pub fn counts(expected: &[(&str, &str, u64)]) -> Counts {
    let mut counts = Counts::new();
    for (reason, class, count) in expected.iter().filter(|(.., count)| *count > 0) {
        *counts
            .entry(((*reason).to_owned(), (*class).to_owned()))
            .or_default() += count;
    }
    counts
}

/// What is to be counted of a program that was started with `NAME=COUNT` arguments.
pub fn expected(program: Program, scenarios: &[&str]) -> Counts {
    let mut counts = Counts::new();
    for text in scenarios {
        let (name, count) = text.split_once('=').unwrap();
        let scenario = program
            .scenarios()
            .into_iter()
            .find(|scenario| scenario.name == name)
            .unwrap();
        let blocked = scenario.blocked(count.parse().unwrap()) as u64;
        if let (Expect::Blocked { reason, class }, 1..) = (scenario.expect, blocked) {
            let class = if class == Class::External {
                "external"
            } else {
                "internal"
            };
            *counts.entry((reason.to_owned(), class.to_owned())).or_default() += blocked;
        }
    }
    counts
}

/// Says that a test cannot run here, and why; `cargo xtask test` counts these.
pub fn skip(test: &str, why: &str) {
    let nothing: anyhow::Result<()> = Err(Unsupported(why.to_owned()).into());
    assert!(testbed::or_skip(test, nothing).unwrap().is_none());
}

/// Path of a program's executable, as /proc shows it.
pub fn exe(program: Program) -> String {
    let path = program.build().unwrap().get_program().to_owned();
    std::fs::canonicalize(path).unwrap().to_str().unwrap().to_owned()
}

/// Starts a program of the testbed. `None` (and the test is skipped) where this machine cannot run it.
pub fn start(test: &str, program: Program, scenarios: &[&str]) -> Option<Target> {
    testbed::or_skip(test, Target::start(program, scenarios)).unwrap_or_else(|error| panic!("{error:#}"))
}

/// A command that is no program of the testbed; killed when dropped. It prints a line when it is ready.
pub struct Script(Child);

impl Script {
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `taskleak` with these arguments, to its end.
pub fn taskleak(args: &[&str]) -> Output {
    Command::new(TASKLEAK)
        .args(args)
        .env_remove("TASKLEAK_LOG")
        .output()
        .unwrap()
}

/// A shell's script in a PID namespace of its own, to its end; whatever it has started is killed then.
pub fn in_pid_namespace(script: &str) -> Output {
    Command::new("unshare")
        .args([
            "--pid",
            "--fork",
            "--mount-proc",
            "--kill-child",
            "sh",
            "-c",
            script,
        ])
        .output()
        .unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Checks a document against its schema (docs/NAME.schema.json).
pub fn assert_valid(name: &str, document: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/{name}.schema.json"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{name}: {errors:#?}");
}

/// `taskleak snapshot --pid PID` as JSON: what it says of that process.
pub fn snapshot(pid: u32, args: &[&str]) -> Process {
    let pid = pid.to_string();
    let all = [&["snapshot", "--format", "json", "--pid", &pid], args].concat();
    let output = taskleak(&all);
    assert!(output.status.success(), "{all:?}: {}", stderr(&output));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_valid("snapshot", &document);
    Process::of(&document, pid.parse().unwrap()).expect("the process is in the snapshot")
}

/// One process of a snapshot.
#[derive(Debug)]
pub struct Process {
    pub value: Value,
    /// Unix time of the snapshot, s.
    pub taken_at: f64,
}

impl Process {
    pub fn of(document: &Value, pid: u32) -> Option<Self> {
        assert_eq!(document["schema"], 1);
        let taken_at = humantime::parse_rfc3339(document["taken_at"].as_str()?).ok()?;
        let taken_at = taken_at.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs_f64();
        let processes = document["processes"].as_array()?;
        let value = processes.iter().find(|process| process["pid"] == pid)?.clone();
        Some(Self { value, taken_at })
    }

    pub fn groups(&self) -> &[Value] {
        self.value["groups"].as_array().unwrap()
    }

    pub fn counts(&self) -> Counts {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut counts = Counts::new();
        for group in self.groups() {
            assert_eq!(group["kind"], "thread");
            let site = text(&group["block_site"]["function"]);
            let site = site.split('(').next().unwrap_or_default();
            let is_deadlock = site == "ring_acquire_forever" || site == "scoped_lock_forever";
            assert_eq!(
                group["verdict"],
                if is_deadlock { "proven" } else { "unknown" },
                "{group}"
            );
            let key = (text(&group["reason"]), text(&group["wait_class"]));
            *counts.entry(key).or_default() += group["count"].as_u64().unwrap();
        }
        counts
    }

    pub fn threads(&self) -> u64 {
        self.value["tasks"]["thread"].as_u64().unwrap()
    }

    pub fn incomplete(&self) -> Vec<&str> {
        self.value["incomplete"]
            .as_array()
            .unwrap()
            .iter()
            .map(|cause| cause.as_str().unwrap())
            .collect()
    }

    /// (reason, class) → Unix times at which the oldest and the youngest wait of the group began, s.
    pub fn beginnings(&self) -> BTreeMap<String, (f64, f64)> {
        let began = |age: &Value| self.taken_at - age.as_f64().unwrap();
        let mut beginnings = BTreeMap::new();
        for group in self.groups() {
            let (oldest, youngest) = (
                began(&group["oldest_blocked_seconds"]),
                began(&group["blocked_seconds_min"]),
            );
            let known = beginnings
                .entry(group["reason"].as_str().unwrap().to_owned())
                .or_insert((oldest, youngest));
            *known = (known.0.min(oldest), known.1.max(youngest));
        }
        beginnings
    }

    /// Age of the oldest wait of all, s; 0 without one.
    pub fn oldest_of_all(&self) -> f64 {
        self.groups()
            .iter()
            .filter_map(|group| group["oldest_blocked_seconds"].as_f64())
            .fold(0.0, f64::max)
    }

    /// Age of the oldest wait of a reason, s.
    pub fn oldest(&self, reason: &str) -> f64 {
        let groups = self.groups().iter().filter(|group| group["reason"] == reason);
        let ages = groups.map(|group| group["oldest_blocked_seconds"].as_f64().unwrap());
        ages.reduce(f64::max)
            .unwrap_or_else(|| panic!("no {reason} in {:?}", self.value))
    }
}

/// A running `taskleak run`.
pub struct Daemon {
    child: Child,
    pub address: SocketAddr,
    log: mpsc::Receiver<String>,
}

impl Daemon {
    /// Starts it on a free port and waits until it is ready.
    pub fn start(args: &[&str]) -> Self {
        let mut command = Command::new(TASKLEAK);
        command
            .args(["run", "--listen", "127.0.0.1:0", "--log", "info"])
            .args(args);
        Self::start_with(command)
    }

    /// Watches one process.
    pub fn watch(pid: u32, interval: &str, blocked_after: &str) -> Self {
        Self::start(&[
            "--pid",
            &pid.to_string(),
            "--interval",
            interval,
            "--blocked-after",
            blocked_after,
        ])
    }

    /// The same with a command of one's own; it must log at `info`.
    pub fn start_with(mut command: Command) -> Self {
        let mut child = command
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (send, log) = mpsc::channel();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
        let mut seen = Vec::new();
        let address = loop {
            let line = log
                .recv_timeout(PATIENCE)
                .unwrap_or_else(|_| panic!("not ready: {seen:#?}"));
            if let Some((_, rest)) = line.split_once("http://") {
                break rest.split('/').next().unwrap().parse().unwrap();
            }
            seen.push(line);
        };
        Self { child, address, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: a process that this test has started and not reaped.
        unsafe { libc::kill(self.child.id() as i32, signal) };
    }

    /// Waits for its end.
    pub fn wait(mut self) -> (std::process::ExitStatus, Duration) {
        let begun = Instant::now();
        (self.child.wait().unwrap(), begun.elapsed())
    }

    /// What it has logged since the last call.
    pub fn log(&self) -> Vec<String> {
        self.log.try_iter().collect()
    }

    /// (status, head, body)
    pub fn get(&self, path: &str) -> (u16, String, String) {
        self.request(&format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        ))
    }

    pub fn request(&self, request: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            head.to_owned(),
            body.to_owned(),
        )
    }

    /// What it says of a process now; `None` when that is not watched.
    pub fn process(&self, pid: u32) -> Option<Process> {
        let (status, _, body) = self.get("/api/v1/snapshot");
        assert_eq!(status, 200, "{body}");
        Process::of(&serde_json::from_str(&body).unwrap(), pid)
    }

    /// Waits until what it says of the process satisfies the condition.
    pub fn until(
        &self,
        pid: u32,
        what: &str,
        condition: impl Fn(Option<&Process>) -> bool,
    ) -> Option<Process> {
        let begun = Instant::now();
        loop {
            let process = self.process(pid);
            if condition(process.as_ref()) {
                return process;
            }
            assert!(begun.elapsed() < PATIENCE, "not {what}: {process:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it counts exactly this of the process.
    pub fn until_counts(&self, pid: u32, expected: &Counts) -> Process {
        let what = format!("{expected:?}");
        self.until(pid, &what, |process| {
            process.is_some_and(|process| process.counts() == *expected)
        })
        .unwrap()
    }

    /// The value of one sample whose line starts so, of `/metrics`.
    pub fn sample(&self, start: &str) -> Option<f64> {
        let (_, _, text) = self.get("/metrics");
        text.lines()
            .find(|line| line.starts_with(start))?
            .rsplit(' ')
            .next()?
            .parse()
            .ok()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cgroup of the test's own, gone when dropped.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Below the root of a hierarchy.
    pub fn create(root: &str, name: &str) -> std::io::Result<Self> {
        let path = Path::new(root).join(name);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.0.join(file), text).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A folder of a test's own, removed when it is dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let name = format!("kernel-{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
