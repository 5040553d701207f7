//! Names of a target that are HTML: of its file, of a function, of a thread. They are text.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use testbed::Unsupported;

use crate::{browser::Browser, monitor::Monitor};

const SCRIPT: &str = "<script>alert(1)</script>";
/// The kernel keeps 15 bytes of a thread's name, and numbers in it are folded.
const THREAD: &str = "<script>alert(#";
const FILE: &str = "<img src=x>";

struct Hostile {
    child: Child,
}

impl Hostile {
    fn start(file: &Path) -> Self {
        let mut child = Command::new(file)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n");
        Self { child }
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One with a function of that name, and one that has no names but its threads'.
fn build(test: &str, folder: &Path) -> Option<(PathBuf, PathBuf)> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/hostile.c");
    fs::create_dir_all(folder.join("stripped")).unwrap();
    let (plain, named, stripped) = (
        folder.join("plain"),
        folder.join(FILE),
        folder.join("stripped").join(FILE),
    );
    let run = |program: &str, arguments: &[&str], files: [&Path; 2]| {
        let mut command = Command::new(program);
        let status = command.args(arguments).args(files).status();
        let status = status.map_err(|_| Unsupported(format!("no {program} in PATH")))?;
        anyhow::ensure!(status.success(), "{program}");
        anyhow::Ok(())
    };
    let built = run("gcc", &["-O1", "-pthread", "-o"], [&plain, Path::new(source)])
        .and_then(|()| {
            run(
                "objcopy",
                &["--redefine-sym", &format!("evil={SCRIPT}")],
                [&plain, &named],
            )
        })
        .and_then(|()| run("objcopy", &["--strip-all"], [&plain, &stripped]));
    testbed::or_skip(test, built).unwrap()?;
    Some((named, stripped))
}

#[test]
fn names_that_are_html_are_text() {
    const TEST: &str = "page::hostile";
    let Some(browser) = Browser::start(TEST, true) else {
        return;
    };
    let folder = std::env::temp_dir().join(format!("taskleak-page-{}", std::process::id()));
    let Some((named, stripped)) = build(TEST, &folder) else {
        return;
    };
    let (named, stripped) = (Hostile::start(&named), Hostile::start(&stripped));
    let monitor = Monitor::start(&[named.child.id(), stripped.child.id()], &["--expose-stacks"]);
    let text = browser.until("both on the page", || {
        browser.open(&monitor.url);
        assert_eq!(browser.alert(), None);
        browser.run("for (const it of document.querySelectorAll('details')) it.open = true");
        let text = browser.text(&browser.one("main"));
        (text.contains(SCRIPT) && text.replace(SCRIPT, "").contains(THREAD)).then_some(text)
    });
    assert!(text.matches(FILE).count() >= 2, "{text}");
    // The refresh puts new rows in.
    browser.run("window.first = document.querySelector('tbody')");
    browser.until("a refresh", || {
        (browser.run("return window.first !== document.querySelector('tbody')") == true).then_some(())
    });
    assert_eq!(browser.alert(), None);
    assert_eq!(browser.all("main script, main img").len(), 0);
    // The filter finds it, and makes nothing of it either.
    browser.fill(&browser.one("#filter input[name=text]"), SCRIPT);
    let rows = browser.all("tbody tr:not([hidden])");
    assert_eq!(rows.len(), 1);
    assert!(browser.text(&rows[0]).contains(SCRIPT));
    assert_eq!(browser.alert(), None);
    assert_eq!(browser.complaints(), Vec::<String>::new());
    fs::remove_dir_all(&folder).unwrap();
}
