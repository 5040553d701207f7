//! The image that `cargo xtask image` makes, and the health check that is in it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use testbed::{Program, Target};

use crate::support::{TASKLEAK, capabilities_needed, repository, said, skip};

fn health(listen: &str) -> Output {
    Command::new(TASKLEAK)
        .arg("health")
        .env("TASKLEAK_LISTEN", listen)
        .output()
        .unwrap()
}

/// One answer to whoever comes first.
fn answering(status: &'static str, text: &'static str) -> String {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = server.accept().unwrap();
        let mut request = [0; 1024];
        let length = stream.read(&mut request).unwrap();
        assert!(request[..length].starts_with(b"GET /readyz HTTP/1.1\r\n"));
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        );
        stream.write_all(answer.as_bytes()).unwrap();
    });
    format!("0.0.0.0:{}", address.port())
}

#[test]
fn health_says_what_the_daemon_says() {
    let well = health(&answering("200 OK", "ready\n"));
    assert_eq!((well.status.code(), said(&well).as_str()), (Some(0), "ready\n"));
    let ill = health(&answering(
        "503 Service Unavailable",
        "the last sweep ended 99 s ago\n",
    ));
    assert_eq!(ill.status.code(), Some(4), "{}", said(&ill));
    assert!(
        said(&ill).contains("the last sweep ended 99 s ago"),
        "{}",
        said(&ill)
    );
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = health(&free.to_string());
    assert_eq!(nobody.status.code(), Some(4), "{}", said(&nobody));
    assert!(
        said(&nobody).contains(&format!("http://{free}/readyz")),
        "{}",
        said(&nobody)
    );
}

/// What is in the archive; gone when dropped.
struct Unpacked(PathBuf);

impl Unpacked {
    fn new(test: &str) -> Option<Self> {
        let archive = repository().join("target/image/taskleak.tar");
        if !archive.exists() {
            skip(test, "no target/image/taskleak.tar (cargo xtask image makes it)");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("{}-{}", test.replace("::", "-"), std::process::id()));
        fs::create_dir_all(folder.join("root")).unwrap();
        let unpacked = Self(folder);
        unpacked.tar(&archive, &unpacked.0);
        let manifest = unpacked.json("manifest.json");
        for layer in manifest[0]["Layers"].as_array().unwrap() {
            unpacked.tar(&unpacked.0.join(layer.as_str().unwrap()), &unpacked.root());
        }
        Some(unpacked)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    fn tar(&self, archive: &Path, into: &Path) {
        let status = Command::new("tar")
            .arg("-xf")
            .arg(archive)
            .arg("-C")
            .arg(into)
            .status();
        assert!(status.unwrap().success());
    }

    fn json(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.0.join(file)).unwrap()).unwrap()
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn it_is_one_static_file_with_its_labels() {
    let Some(image) = Unpacked::new("deploy::image::contents") else {
        return;
    };
    let files: Vec<_> = fs::read_dir(image.root())
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    assert_eq!(files, ["taskleak"]);
    let headers = Command::new("readelf")
        .arg("-lW")
        .arg(image.root().join("taskleak"))
        .output()
        .unwrap();
    assert!(said(&headers).contains("LOAD"), "{}", said(&headers));
    assert!(!said(&headers).contains("INTERP"), "it is not static");
    let manifest = image.json("manifest.json");
    let config = image.json(manifest[0]["Config"].as_str().unwrap());
    let config = &config["config"];
    assert_eq!(config["Entrypoint"], json!(["/taskleak"]));
    assert_eq!(config["Cmd"], json!(["run"]));
    assert_eq!(
        config["Healthcheck"]["Test"],
        json!(["CMD", "/taskleak", "health"])
    );
    assert_eq!(config["User"], "0:0");
    assert_eq!(config["Labels"]["org.opencontainers.image.title"], "taskleak");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], version);
    let tag = manifest[0]["RepoTags"][0].as_str().unwrap();
    assert!(tag.ends_with(&format!("taskleak:{version}")), "{tag}");
}

/// As a container engine would start it: its own root, read-only, /dev, /proc and /sys, and the six capabilities.
#[test]
fn it_works_on_a_read_only_root_with_these_capabilities() {
    const TEST: &str = "deploy::image::works";
    let Some(image) = Unpacked::new(TEST) else { return };
    let target = Target::start(Program::CBlockers, &["mutex=2", "read=1"]);
    let Some(target) = testbed::or_skip(TEST, target).unwrap() else {
        return;
    };
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    for folder in ["dev", "proc", "sys"] {
        fs::create_dir(image.root().join(folder)).unwrap();
    }
    // chroot is the engine's own.
    let mut set = "-all,+sys_chroot".to_owned();
    for capability in capabilities_needed() {
        set.push_str(&format!(
            ",+{}",
            capability.trim_start_matches("CAP_").to_lowercase()
        ));
    }
    let script = r#"
        set -e
        mount --bind "$1" "$1"
        mount --rbind /dev "$1/dev"
        mount --rbind /proc "$1/proc"
        mount --rbind /sys "$1/sys"
        mount -o remount,bind,ro "$1"
        ! touch "$1/x" 2>/dev/null
        exec setpriv --bounding-set "$2" --inh-caps "$2" chroot "$1" /taskleak snapshot --format json --observe 1200ms --pid "$3"
    "#;
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(image.root())
        .args([&set, &target.pid().to_string()])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "nothing is lost");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let process = &document["processes"][0];
    assert_eq!(process["incomplete"], json!([]));
    let groups = process["groups"].as_array().unwrap().iter();
    let mut seen: Vec<(String, u64)> = groups
        .map(|it| {
            (
                it["block_site"]["function"].as_str().unwrap().to_owned(),
                it["count"].as_u64().unwrap(),
            )
        })
        .collect();
    seen.sort();
    let expected = [("mutex_acquire_forever", 2), ("pipe_read_forever", 1)];
    assert_eq!(seen, expected.map(|(site, count)| (site.to_owned(), count)));
}
