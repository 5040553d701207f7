//! The real world: servers of two of Debian's releases, stripped, made by an old Go and by a newer one, under load.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::support::{Daemon, PATIENCE, Process, skip, snapshot};

/// A server with a folder of its own; both gone when dropped.
struct Server {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Server {
    /// `arguments`: of the folder and the port.
    fn start(suite: &str, name: &str, arguments: impl Fn(&Path, u16) -> Vec<String>) -> Option<Self> {
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/go-servers");
        let program = tools.join(suite).join("usr/bin").join(name);
        if !program.is_file() {
            skip(
                &format!("go::servers::{name} ({suite})"),
                "no such server: `cargo xtask setup --tests` brings it",
            );
            return None;
        }
        let folder = std::env::temp_dir().join(format!("taskleak-{suite}-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        // Free now; nobody else asks for one in between.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let log = fs::File::create(folder.join("log")).unwrap();
        let child = Command::new(program)
            .args(arguments(&folder, port))
            .env("HOME", &folder)
            .env("XDG_DATA_HOME", &folder)
            .env("XDG_CONFIG_HOME", &folder)
            // Syncthing would start itself once more and watch over that one.
            .env("STMONITORED", "yes")
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = Self { child, folder, port };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let log = || fs::read_to_string(server.folder.join("log")).unwrap_or_default();
            assert!(
                begun.elapsed() < PATIENCE,
                "{name} of {suite} does not listen: {}",
                log()
            );
            thread::sleep(Duration::from_millis(50));
        }
        Some(server)
    }

    /// What it answers; empty when it does not.
    fn get(port: u16, path: &str) -> String {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
            let mut answer = Vec::new();
            BufReader::new(stream).read_to_end(&mut answer)?;
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        ask().unwrap_or_default()
    }

    /// What it says itself of how many goroutines it has, the runtime's own not counted.
    fn goroutines(&self) -> Option<f64> {
        let metrics = Self::get(self.port, "/metrics");
        let mut lines = metrics.as_bytes().lines().map_while(Result::ok);
        let line = lines.find(|line| line.starts_with("go_goroutines "))?;
        line.split(' ').nth(1)?.parse().ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Asks for pages until it is dropped.
struct Visitors(Arc<AtomicBool>);

impl Visitors {
    fn of(port: u16) -> Self {
        let gone = Arc::new(AtomicBool::new(false));
        for _ in 0..4 {
            let gone = Arc::clone(&gone);
            thread::spawn(move || {
                while !gone.load(Ordering::Relaxed) {
                    for path in ["/", "/metrics", "/nowhere"] {
                        Server::get(port, path);
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
        Self(gone)
    }
}

impl Drop for Visitors {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn is_read_whole(server: &Server, what: &str) {
    let _visitors = Visitors::of(server.port);
    // Begun and settled.
    thread::sleep(Duration::from_secs(2));
    let pid = server.child.id();
    let process = snapshot(pid, &["--observe", "1500ms", "--no-spawn-probes"]);
    assert!(process.incomplete().is_empty(), "{what}: {process:?}");
    assert_eq!(process.value["runtimes"][0], "go", "{what}");
    let goroutines = process.value["tasks"]["goroutine"].as_u64().unwrap() as f64;
    if let Some(said) = server.goroutines() {
        // Visitors come and go; the runtime has some of its own.
        assert!(
            (goroutines - said).abs() < 20.0,
            "{what}: {goroutines}, it says {said}"
        );
    }
    all_is_named(&process, what);
    // None is called leaking in many passes either.
    let daemon = Daemon::watch(pid, "250ms", "1s");
    for _ in 0..16 {
        thread::sleep(Duration::from_millis(500));
        let process = daemon.process(pid).unwrap();
        for group in process.groups() {
            let verdict = group["verdict"].as_str().unwrap();
            assert!(["unknown", "stable"].contains(&verdict), "{what}: {group}");
        }
    }
}

fn all_is_named(process: &Process, what: &str) {
    let mut groups = 0;
    for group in process
        .groups()
        .iter()
        .filter(|group| group["kind"] == "goroutine")
    {
        for site in ["block_site", "entry"] {
            let function = group[site]["function"].as_str().unwrap_or_default();
            assert!(function.contains('.'), "{what}: no {site}: {group}");
        }
        assert!(
            !["", "syscall", "waiting"].contains(&group["reason"].as_str().unwrap()),
            "{what}: {group}"
        );
        assert!(
            group["stack"].as_array().is_some_and(|frames| !frames.is_empty()),
            "{what}: {group}"
        );
        groups += 1;
    }
    assert!(groups >= 3, "{what}: {process:?}");
}

fn in_both(name: &str, arguments: impl Fn(&Path, u16) -> Vec<String>) {
    for suite in ["bookworm", "trixie"] {
        if let Some(server) = Server::start(suite, name, &arguments) {
            is_read_whole(&server, &format!("{name} of {suite}"));
        }
    }
}

#[test]
fn prometheus_is_read_whole() {
    in_both("prometheus", |folder, port| {
        let file = folder.join("prometheus.yml");
        let targets = format!("static_configs: [{{targets: ['127.0.0.1:{port}']}}]");
        fs::write(
            &file,
            format!("global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: self, {targets}}}]\n"),
        )
        .unwrap();
        vec![
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ]
    });
}

#[test]
fn etcd_is_read_whole() {
    in_both("etcd", |folder, port| {
        let own = format!("http://127.0.0.1:{port}");
        let peer = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let peers = format!("http://127.0.0.1:{peer}");
        let flags = [
            ("--data-dir", folder.join("data").display().to_string()),
            ("--listen-client-urls", own.clone()),
            ("--advertise-client-urls", own),
            ("--listen-peer-urls", peers.clone()),
            ("--initial-advertise-peer-urls", peers.clone()),
            ("--initial-cluster", format!("default={peers}")),
        ];
        flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect()
    });
}

#[test]
fn caddy_is_read_whole() {
    in_both("caddy", |folder, port| {
        let file = folder.join("caddy.json");
        let route = r#"{"handle": [{"handler": "static_response", "body": "hello"}]}"#;
        let servers = format!(r#"{{"one": {{"listen": ["127.0.0.1:{port}"], "routes": [{route}]}}}}"#);
        let config =
            format!(r#"{{"admin": {{"disabled": true}}, "apps": {{"http": {{"servers": {servers}}}}}}}"#);
        fs::write(&file, config).unwrap();
        vec![
            "run".to_owned(),
            "--config".to_owned(),
            file.display().to_string(),
        ]
    });
}

#[test]
fn syncthing_is_read_whole() {
    in_both("syncthing", |folder, port| {
        let home = folder.join("home").display().to_string();
        // It is to talk to nobody but us.
        let file = folder.join("home/config.xml");
        fs::create_dir_all(folder.join("home")).unwrap();
        let options = "<options><listenAddress>tcp://127.0.0.1:0</listenAddress><globalAnnounceEnabled>false\
                       </globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled><relaysEnabled>false\
                       </relaysEnabled><natEnabled>false</natEnabled><crashReportingEnabled>false\
                       </crashReportingEnabled><urAccepted>-1</urAccepted><startBrowser>false</startBrowser></options>";
        fs::write(
            file,
            format!("<configuration version=\"36\">{options}</configuration>\n"),
        )
        .unwrap();
        [
            "serve",
            "--no-browser",
            "--no-restart",
            "--no-default-folder",
            "--home",
            &home,
        ]
        .map(str::to_owned)
        .into_iter()
        .chain([format!("--gui-address=127.0.0.1:{port}")])
        .collect()
    });
}
