//! Each capability, tried: taskleak as a user without rights who has them all, and all but one.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;
use testbed::{Program, Target};

use crate::support::{TASKLEAK, capabilities_needed, repository, said};

const NOBODY: &str = "65534";
/// Where the target's threads wait, when everything can be seen.
const SITES: [&str; 2] = ["mutex_acquire_forever", "pipe_read_forever"];

/// A copy that everybody may start; gone when dropped.
struct Copy(PathBuf);

impl Copy {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("taskleak-{test}-{}", std::process::id()));
        fs::copy(TASKLEAK, &path).unwrap();
        Self(path)
    }

    /// taskleak as nobody, with the capabilities that `doctor` speaks of but one.
    fn without(&self, capability: Option<&str>, arguments: &[&str]) -> Command {
        let mut set = "-all".to_owned();
        for name in capabilities_needed()
            .iter()
            .filter(|name| Some(name.as_str()) != capability)
        {
            set.push_str(&format!(",+{}", name.trim_start_matches("CAP_").to_lowercase()));
        }
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "--reuid",
            NOBODY,
            "--regid",
            NOBODY,
            "--clear-groups",
        ]);
        for kind in ["--bounding-set", "--inh-caps", "--ambient-caps"] {
            command.args([kind, &set]);
        }
        command.arg(&self.0).args(arguments);
        command
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

struct Seen {
    exe: String,
    sites: BTreeSet<String>,
    blocked: u64,
    holders: bool,
    incomplete: BTreeSet<String>,
}

fn seen(output: &Output) -> Seen {
    assert!(output.status.success(), "{}", said(output));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let process = &document["processes"][0];
    let groups = process["groups"].as_array().unwrap();
    let sites = groups
        .iter()
        .filter_map(|group| group["block_site"]["function"].as_str());
    let incomplete = process["incomplete"].as_array().unwrap().iter();
    Seen {
        exe: process["exe"].as_str().unwrap_or_default().to_owned(),
        sites: sites.map(str::to_owned).collect(),
        blocked: groups.iter().map(|group| group["count"].as_u64().unwrap()).sum(),
        holders: groups
            .iter()
            .any(|group| !group["waits_for"].as_array().unwrap().is_empty()),
        incomplete: incomplete
            .map(|cause| cause.as_str().unwrap().to_owned())
            .collect(),
    }
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Of root's, which nobody may not look into by himself.
fn target(test: &str) -> Option<Target> {
    let target = Target::start(Program::CBlockers, &["mutex=2", "read=1"]);
    let target = testbed::or_skip(test, target).unwrap_or_else(|error| panic!("{error:#}"))?;
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    Some(target)
}

/// `capability`: all but this one.
fn snapshot(copy: &Copy, capability: Option<&str>, pid: u32) -> Output {
    let pid = pid.to_string();
    let arguments = [
        "snapshot",
        "--format",
        "json",
        "--observe",
        "1200ms",
        "--pid",
        &pid,
    ];
    copy.without(capability, &arguments).output().unwrap()
}

fn doctor(copy: &Copy, capability: Option<&str>) -> (Option<i32>, String) {
    let output = copy.without(capability, &["doctor"]).output().unwrap();
    (output.status.code(), said(&output))
}

/// What `run` says until it is ready, or ends.
fn run_says(copy: &Copy, capability: &str, pid: u32) -> String {
    let pid = pid.to_string();
    let arguments = ["run", "--listen", "127.0.0.1:0", "--pid", &pid];
    let mut child = copy
        .without(Some(capability), &arguments)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok)
    {
        said.push_str(&line);
        said.push('\n');
        if line.contains("http://") {
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    said
}

#[test]
fn these_capabilities_are_enough() {
    let Some(target) = target("deploy::permissions::enough") else {
        return;
    };
    let copy = Copy::new("enough");
    let (code, text) = doctor(&copy, None);
    assert_eq!(
        (code, text.trim_end().ends_with("Everything works.")),
        (Some(0), true),
        "{text}"
    );
    let seen = seen(&snapshot(&copy, None, target.pid()));
    assert!(seen.exe.ends_with("/blockers"), "{}", seen.exe);
    assert_eq!((seen.sites, seen.blocked, seen.holders), (names(&SITES), 3, true));
    assert_eq!(seen.incomplete, names(&[]));
}

#[test]
fn without_one_of_the_first_two_nothing_can_be_seen_and_that_is_said() {
    let copy = Copy::new("nothing");
    for capability in ["CAP_BPF", "CAP_PERFMON"] {
        let (code, text) = doctor(&copy, Some(capability));
        assert_eq!(code, Some(3), "{text}");
        assert!(
            text.contains(&format!("FAILED    {capability}: missing")),
            "{text}"
        );
        assert!(
            text.contains(&format!("mend: run as root, or grant {capability}")),
            "{text}"
        );
        let run = copy
            .without(Some(capability), &["run", "--listen", "127.0.0.1:0"])
            .output()
            .unwrap();
        assert_eq!(run.status.code(), Some(3), "{}", said(&run));
        assert!(
            said(&run).contains(&format!("{capability} is missing; it is needed")),
            "{}",
            said(&run)
        );
    }
}

#[test]
fn without_another_one_something_is_lost_and_that_is_said() {
    let Some(target) = target("deploy::permissions::lost") else {
        return;
    };
    let copy = Copy::new("lost");
    for capability in capabilities_needed() {
        if matches!(capability.as_str(), "CAP_BPF" | "CAP_PERFMON") {
            continue;
        }
        let (code, text) = doctor(&copy, Some(&capability));
        assert_eq!(code, Some(0), "{text}");
        assert!(
            text.contains(&format!("degraded  {capability}: missing")),
            "{text}"
        );
        let says = run_says(&copy, &capability, target.pid());
        assert!(
            says.contains(&format!("{capability} is missing; it is needed")),
            "{says}"
        );
        assert!(says.contains("Without it: "), "{says}");

        let seen = seen(&snapshot(&copy, Some(&capability), target.pid()));
        // Whatever is lost: who is blocked is known.
        assert_eq!(seen.blocked, 3, "{capability}");
        let probes = text.matches("degraded  probe sys_").count() > 0;
        let (exe, sites, holders, probes_lost, incomplete): (bool, &[&str], bool, bool, &[&str]) =
            match capability.as_str() {
                "CAP_SYS_PTRACE" => {
                    let causes = &[
                        "timeout_unreadable",
                        "stack_unreadable",
                        "holders_unreadable",
                        "goroutines_unreadable",
                        "tokio_unreadable",
                    ];
                    (false, &[], false, false, causes)
                }
                // Modules are named still.
                "CAP_CHECKPOINT_RESTORE" => (true, &["[blockers]"], true, false, &[]),
                "CAP_DAC_READ_SEARCH" => (
                    true,
                    &[],
                    false,
                    true,
                    &[
                        "timeout_unreadable",
                        "stack_unreadable",
                        "goroutines_unreadable",
                        "tokio_unreadable",
                    ],
                ),
                "CAP_SYSLOG" => (true, &SITES, true, false, &[]),
                other => panic!("{other} has not been tried"),
            };
        assert_eq!(!seen.exe.is_empty(), exe, "{capability}");
        assert_eq!(seen.sites, names(sites), "{capability}");
        assert_eq!(seen.holders, holders, "{capability}");
        assert_eq!(probes, probes_lost, "{capability}: {text}");
        assert_eq!(seen.incomplete, names(incomplete), "{capability}");
    }
}

/// taskleak, ready; killed when dropped.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = said.next().unwrap().unwrap();
            if let Some((_, rest)) = line.split_once("http://") {
                break rest.split('/').next().unwrap().to_owned();
            }
        };
        // It may go on speaking.
        std::thread::spawn(move || said.for_each(drop));
        Self { child, address }
    }

    fn helpers(&self) -> Vec<u32> {
        let all = fs::read_dir("/proc").unwrap().flatten();
        all.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| status(&format!("/proc/{pid}/status"), "PPid") == Some(self.child.id().into()))
            .collect()
    }

    /// Blocked tasks of its one process, once it knows where they are.
    fn blocked(&self) -> (u64, BTreeSet<String>) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let mut stream = TcpStream::connect(&self.address).unwrap();
            let request = format!("GET /api/v1/snapshot HTTP/1.0\r\nHost: {}\r\n\r\n", self.address);
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let document: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
            let groups = document["processes"][0]["groups"].as_array().unwrap();
            let sites: BTreeSet<String> = groups
                .iter()
                .filter_map(|group| Some(group["block_site"]["function"].as_str()?.to_owned()))
                .collect();
            let blocked = groups.iter().map(|group| group["count"].as_u64().unwrap()).sum();
            if sites == names(&SITES) || std::time::Instant::now() > deadline {
                return (blocked, sites);
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number of a status file of /proc; sets of capabilities are hexadecimal.
fn status(path: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let radix = if name.starts_with("Cap") { 16 } else { 10 };
    u64::from_str_radix(line.trim(), radix).ok()
}

/// Bits of include/uapi/linux/capability.h.
const ATTACHING: u64 = 1 << 39 | 1 << 38 | 1 << 21;
const READING: u64 = 1 << 19 | 1 << 40 | 1 << 2 | 1 << 1;

/// Rights of all threads of a process.
fn rights(pid: u32) -> Vec<[u64; 2]> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    threads
        .map(|thread| {
            let path = thread.path().join("status").display().to_string();
            ["CapEff", "CapPrm"].map(|set| status(&path, set).unwrap())
        })
        .collect()
}

/// By root and by somebody who has the six rights: what only attaching takes is given up when nothing more will be
/// attached, and all is seen still.
#[test]
fn what_only_attaching_takes_is_given_up() {
    let Some(target) = target("deploy::permissions::given_up") else {
        return;
    };
    let copy = Copy::new("given-up");
    let pid = target.pid().to_string();
    let arguments = [
        "run",
        "--listen",
        "127.0.0.1:0",
        "--interval",
        "500ms",
        "--blocked-after",
        "1s",
        "--pid",
        &pid,
    ];
    for no_probes in [true, false] {
        let mut arguments = arguments.to_vec();
        arguments.extend(no_probes.then_some("--no-spawn-probes"));
        let mut root = Command::new(&copy.0);
        root.args(&arguments);
        for command in [root, copy.without(None, &arguments)] {
            let running = Running::start(command);
            assert_eq!(running.blocked(), (3, names(&SITES)));
            let threads = rights(running.child.id());
            assert!(threads.len() > 1, "{threads:x?}");
            for held in threads.iter().flatten() {
                assert_eq!(held & ATTACHING == 0, no_probes, "{threads:x?}");
                assert_ne!(held & READING, 0, "{threads:x?}");
            }
            let helpers = running.helpers();
            assert!(!helpers.is_empty());
            for held in helpers.iter().flat_map(|helper| rights(*helper)).flatten() {
                assert_eq!(held & !READING, 0, "{held:x}");
            }
        }
    }
}

#[test]
fn the_document_speaks_of_each() {
    let text = fs::read_to_string(repository().join("docs/PERMISSIONS.md")).unwrap();
    let rows: BTreeSet<String> = text
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| CAP_")?.split(' ').next()?.to_owned()))
        .map(|name| format!("CAP_{name}"))
        .collect();
    assert_eq!(rows, capabilities_needed());
}
