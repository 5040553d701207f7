//! Real servers of the test's own: on 127.0.0.1, on free ports, with a folder that is gone afterwards.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use testbed::Unsupported;

/// Longest time that anything is waited for.
pub const PATIENCE: Duration = Duration::from_secs(240);
const GLANCE: Duration = Duration::from_millis(250);

/// A program's path.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let files = std::env::split_paths(&path).map(|folder| folder.join(program));
    files.into_iter().find(|file| file.is_file())
}

/// Whether a program is not installed; then the test says that it cannot run here.
pub fn missing(test: &str, programs: &[&str]) -> bool {
    let Some(program) = programs.iter().find(|program| find(program).is_none()) else {
        return false;
    };
    let why = format!("no {program} in PATH (cargo xtask test brings it on Debian)");
    let nothing: anyhow::Result<()> = Err(Unsupported(why).into());
    assert!(testbed::or_skip(test, nothing).unwrap().is_none());
    true
}

/// Asks until there is an answer, or for too long; `state` says what was there instead.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>, state: impl Fn() -> String) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}. {}",
            state()
        );
        thread::sleep(GLANCE);
    }
}

/// A folder of the test's own.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("taskleak-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn write(&self, file: &str, text: &str) -> PathBuf {
        let path = self.0.join(file);
        fs::write(&path, text).unwrap();
        path
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that answers on `address`; killed when dropped, and when this process dies.
pub struct Server {
    child: Child,
    pub address: String,
    log: PathBuf,
}

impl Server {
    /// Starts it and waits until `/-/ready` answers with success. `command` makes what is started for an address;
    /// another one is tried when somebody else was quicker to take its port.
    pub fn start(name: &str, folder: &Folder, command: impl Fn(&str) -> Command) -> Self {
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = free.local_addr().unwrap().to_string();
            drop(free);
            let log = folder.path(&format!("{name}.log"));
            let mut command = command(&address);
            command.stdout(Stdio::null()).stderr(File::create(&log).unwrap());
            let mut server = Self {
                child: spawn(command),
                address,
                log,
            };
            if server.is_ready() {
                return server;
            }
            eprintln!("{name} has ended: {}", server.log());
        }
        panic!("{name} does not start");
    }

    fn is_ready(&mut self) -> bool {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            if ureq::get(self.url("/-/ready")).call().is_ok() {
                return true;
            }
            assert!(begun.elapsed() < PATIENCE, "not ready: {}", self.log());
            thread::sleep(GLANCE);
        }
        false
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A JSON document.
    pub fn get(&self, path: &str) -> Value {
        self.get_with(path, &[])
    }

    pub fn get_with(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let mut answer = ureq::get(self.url(path))
            .query_pairs(parameters.iter().copied())
            .call()
            .unwrap_or_else(|error| panic!("{path} {parameters:?}: {error}. {}", self.log()));
        serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap()
    }

    /// What Prometheus answers to an instant query: label sets and values.
    pub fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let answer = self.get_with("/api/v1/query", &[("query", query)]);
        let results = answer["data"]["result"].as_array().unwrap().iter();
        results
            .map(|result| {
                let value = result["value"][1].as_str().unwrap().parse().unwrap();
                (result["metric"].clone(), value)
            })
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `taskleak run`; killed when dropped.
pub struct Taskleak {
    child: Child,
    pub address: String,
}

impl Taskleak {
    pub fn run(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_taskleak"));
        command
            .args(["run", "--listen", "127.0.0.1:0", "--log", "info"])
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = spawn(command);
        let mut lines = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let mut taskleak = Self {
            child,
            address: String::new(),
        };
        let mut seen = Vec::new();
        taskleak.address = lines
            .by_ref()
            .find_map(|line| {
                let address = line
                    .split_once("http://")
                    .map(|(_, rest)| rest.split('/').next().unwrap().to_owned());
                seen.push(line);
                address
            })
            .unwrap_or_else(|| panic!("it has ended: {seen:#?}"));
        // A pipe that nobody reads would fill up, and one that is closed would end it.
        thread::spawn(move || lines.for_each(drop));
        taskleak
    }
}

impl Drop for Taskleak {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `taskleak` with these arguments, to its end.
pub fn taskleak(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_taskleak"))
        .args(arguments)
        .output()
        .unwrap()
}

/// Starts it so that it dies with the thread that has started it, whatever becomes of that.
fn spawn(mut command: Command) -> Child {
    let program = command.get_program().to_owned();
    // SAFETY: prctl is a plain system call; nothing is allocated between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            -1 => Err(std::io::Error::last_os_error()),
            _ => Ok(()),
        });
    }
    command
        .stdin(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", Path::new(&program).display()))
}
