//! 10,000 threads, each of which waits at a place of its own, some with names of 64 KB.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use serde_json::Value;

use crate::support::{Script, skip, stderr, taskleak};

const SITES: usize = 10_000;
/// Those that have a long name.
const LONG: usize = 50;
const LENGTH: usize = 64 << 10;
/// `--max-groups` of this test.
const NAMED: u64 = 40;

/// The longest name that is shown, in characters, with the mark of the cut.
const SHOWN: usize = 512;

fn name(index: usize) -> String {
    let name = format!("site_{index}_");
    if index < LONG {
        name.clone() + &"n".repeat(LENGTH - name.len())
    } else {
        name
    }
}

fn program(exe: &Path) -> bool {
    let (c, asm) = (exe.with_extension("c"), exe.with_extension("s"));
    fs::write(
        &c,
        format!(
            r#"
            #include <pthread.h>
            #include <stdio.h>
            #include <stdlib.h>
            #include <unistd.h>
            extern void (*const sites[])(void);
            static void *wait_at(void *site) {{ sites[(long)site](); return NULL; }}
            int main(void) {{
                pthread_attr_t small;
                pthread_attr_init(&small);
                pthread_attr_setstacksize(&small, 16384);
                for (long site = 0; site < {SITES}; site++) {{
                    pthread_t thread;
                    if (pthread_create(&thread, &small, wait_at, (void *)site)) exit(1);
                }}
                puts("ready");
                fflush(stdout);
                for (;;) sleep(3600);
            }}
            "#
        ),
    )
    .unwrap();
    let mut text = String::from(".text\n");
    for index in 0..SITES {
        let name = name(index);
        write!(
            text,
            ".type {name}, @function\n{name}: .cfi_startproc\n1: mov $34, %eax\nsyscall\njmp 1b\n.cfi_endproc\n.size {name}, .-{name}\n"
        )
        .unwrap();
    }
    text.push_str(".section .data.rel.ro, \"aw\"\n.globl sites\nsites:\n");
    for index in 0..SITES {
        writeln!(text, ".quad {}", name(index)).unwrap();
    }
    text.push_str(".section .note.GNU-stack, \"\", @progbits\n");
    fs::write(&asm, text).unwrap();
    let done = Command::new("gcc")
        .args(["-O1", "-pthread"])
        .args([&c, &asm])
        .arg("-o")
        .arg(exe)
        .output();
    let _ = (fs::remove_file(&c), fs::remove_file(&asm));
    match done {
        Ok(done) => {
            assert!(done.status.success(), "{}", stderr(&done));
            true
        }
        Err(_) => false,
    }
}

fn snapshot(pid: u32, format: &str) -> String {
    let output = taskleak(&[
        "snapshot",
        "--pid",
        &pid.to_string(),
        "--observe",
        "1200ms",
        "--max-groups",
        &NAMED.to_string(),
        "--format",
        format,
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn ten_thousand_places() {
    let test = "many::ten_thousand_places";
    let exe = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("many-{}", std::process::id()));
    if !program(&exe) {
        return skip(test, "no gcc in PATH: apt-get install gcc libc6-dev");
    }
    let script = Script::start(Command::new(&exe));
    fs::remove_file(&exe).unwrap();
    let document: Value = serde_json::from_str(&snapshot(script.pid(), "json")).unwrap();
    let process = &document["processes"][0];
    assert_eq!(process["incomplete"], serde_json::json!([]));
    let mut sites: Vec<(String, u64)> = process["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| {
            assert_eq!(group["entry"]["function"], "wait_at");
            let site = group["block_site"]["function"].as_str().unwrap();
            (site.to_owned(), group["count"].as_u64().unwrap())
        })
        .collect();
    sites.sort();
    let shown = |index| {
        let name: String = name(index);
        if name.chars().count() > SHOWN {
            name[..SHOWN - 1].to_owned() + "…"
        } else {
            name
        }
    };
    let mut expected: Vec<(String, u64)> = (0..SITES).map(|index| (shown(index), 1)).collect();
    expected.sort();
    assert_eq!(sites.len(), expected.len());
    assert!(sites == expected, "every one, by its name");
    // Series are bounded, and nothing is lost in them.
    let metrics = snapshot(script.pid(), "prometheus");
    let blocked = metrics
        .lines()
        .filter(|line| line.starts_with("taskleak_blocked_tasks{"));
    let (mut named, mut other) = (0, 0);
    for line in blocked {
        let count: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
        match line.contains("block_site=\"other\"") {
            true => other += count,
            false => named += count,
        }
    }
    assert_eq!((named, other), (NAMED, SITES as u64 - NAMED));
    assert!(metrics.contains("entry=\"wait_at\""));
}
