//! A leak on the page: unfolded by a click, by a key, and without JavaScript; filtered; refreshed under one's eyes.

use std::{fs, path::Path};

use testbed::Program;

use crate::{
    browser::{Browser, ENTER, Element, TAB},
    monitor::{Monitor, target},
};

/// More than one would ever need to press.
const MANY_TABS: usize = 60;

/// Rows that can be seen.
fn shown(browser: &Browser) -> Vec<String> {
    let script = "return [...document.querySelectorAll('tbody tr')].filter(it => it.checkVisibility()).map(it => it.innerText)";
    let rows = browser.run(script);
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| row.as_str().unwrap().to_owned())
        .collect()
}

/// The row of the leak.
const LEAK: &str = "tbody tr[data-key*=\"wait_for_reply\"]";

fn summary(browser: &Browser) -> Element {
    browser.until("the leak on the page", || {
        browser.run("location.reload()");
        browser.all(&format!("{LEAK} summary")).pop()
    })
}

fn is_open(browser: &Browser) -> bool {
    browser.run(&format!("return document.querySelector('{LEAK} details').open")) == true
}

fn count(browser: &Browser) -> u64 {
    let count = browser.run(&format!(
        "return document.querySelector('{LEAK} td.n').textContent"
    ));
    count.as_str().unwrap().parse().unwrap()
}

#[test]
fn a_click_unfolds_a_group_and_a_refresh_leaves_it_unfolded() {
    const TEST: &str = "page::click";
    let Some(browser) = Browser::start(TEST, true) else {
        return;
    };
    let Some(demo) = target(TEST, Program::Demo, &[]) else {
        return;
    };
    let monitor = Monitor::start(&[demo.pid()], &["--expose-stacks"]);
    browser.open(&monitor.url);
    let leak = summary(&browser);
    assert_eq!(browser.text(&leak), "wait_for_reply");
    let stack = format!("{LEAK} pre");
    assert!(!is_open(&browser) && !browser.shows(&stack));
    browser.click(&leak);
    assert!(is_open(&browser) && browser.shows(&stack));
    let frames = browser.reads(&stack);
    assert!(
        frames.contains("wait_for_reply at ") && frames.contains("demo.c:"),
        "{frames}"
    );
    assert!(frames.contains("handle_request at "), "{frames}");

    // A refresh, not a reload: what a script has left in the window is still there.
    browser.run("window.mark = 1");
    let before = count(&browser);
    browser.until("a higher number", || (count(&browser) > before).then_some(()));
    assert_eq!(browser.run("return window.mark"), 1);
    assert!(is_open(&browser) && browser.shows(&stack));

    let picture = browser.screenshot();
    // The beginning of every PNG.
    assert!(
        picture.starts_with("iVBORw0KGgo") && picture.len() > 10_000,
        "{}",
        picture.len()
    );
    let decoded = decode(&picture);
    let target = Path::new(env!("CARGO_BIN_EXE_taskleak"))
        .ancestors()
        .nth(2)
        .unwrap();
    fs::write(target.join("page.png"), decoded).unwrap();
    assert_eq!(browser.complaints(), Vec::<String>::new());

    // It says so when nobody answers any more.
    drop(monitor);
    let state = browser.one("#state");
    browser.until("a word of it", || {
        browser
            .text(&state)
            .contains("taskleak does not answer")
            .then_some(())
    });
}

/// Base64.
fn decode(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let values = text
        .bytes()
        .filter_map(|byte| LETTERS.iter().position(|letter| *letter == byte));
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0, 0);
    for value in values {
        held = (held << 6 | value) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    bytes
}

#[test]
fn a_keyboard_is_enough() {
    const TEST: &str = "page::keyboard";
    let Some(browser) = Browser::start(TEST, true) else {
        return;
    };
    let Some(demo) = target(TEST, Program::Demo, &[]) else {
        return;
    };
    let monitor = Monitor::start(&[demo.pid()], &["--expose-stacks"]);
    browser.open(&monitor.url);
    summary(&browser);
    let focus = format!("return document.activeElement === document.querySelector('{LEAK} summary')");
    let tabs = (0..MANY_TABS)
        .take_while(|_| browser.run(&focus) == false)
        .map(|_| browser.press(TAB))
        .count();
    assert!(tabs < MANY_TABS, "it is never reached");
    browser.press(ENTER);
    assert!(is_open(&browser));
    // A refresh does not take the focus away.
    let before = count(&browser);
    browser.until("a higher number", || (count(&browser) > before).then_some(()));
    assert_eq!(browser.run(&focus), true);
    browser.press(ENTER);
    assert!(!is_open(&browser));
}

#[test]
fn filters_hide_rows() {
    const TEST: &str = "page::filter";
    let Some(browser) = Browser::start(TEST, true) else {
        return;
    };
    let Some(blockers) = target(TEST, Program::CBlockers, &["mutex=3", "read=2", "poll=1"]) else {
        return;
    };
    let monitor = Monitor::start(&[blockers.pid()], &[]);
    browser.open(&monitor.url);
    let rows = || {
        let mut sites: Vec<String> = shown(&browser)
            .iter()
            .filter_map(|row| row.split_whitespace().find(|it| it.ends_with("_forever")))
            .map(str::to_owned)
            .collect();
        sites.sort();
        sites
    };
    let all = ["mutex_acquire_forever", "pipe_read_forever", "poll_forever"];
    browser.until("three groups", || {
        browser.run("location.reload()");
        (rows() == all).then_some(())
    });
    let said = || browser.text(&browser.one("#shown"));
    assert_eq!(said(), "3 groups shown");
    let field = browser.one("#filter input[name=text]");
    browser.fill(&field, "POLL blockers");
    assert_eq!(
        (rows(), said()),
        (vec!["poll_forever".to_owned()], "1 groups shown".to_owned())
    );
    browser.run("document.querySelector('#filter').reset(); document.querySelector('#filter').dispatchEvent(new Event('input'))");
    assert_eq!(rows(), all);
    browser.click(&browser.one("#filter input[name=external]"));
    assert_eq!(rows(), ["mutex_acquire_forever"]);
}

#[test]
fn without_the_flag_there_are_no_stacks_and_without_javascript_there_is_a_table() {
    const TEST: &str = "page::plain";
    let Some(browser) = Browser::start(TEST, false) else {
        return;
    };
    let Some(blockers) = target(TEST, Program::CBlockers, &["mutex=3"]) else {
        return;
    };
    let monitor = Monitor::start(&[blockers.pid()], &[]);
    let site = "tbody tr[data-key*=\"mutex_acquire_forever\"]";
    let leak = browser.until("the group", || {
        browser.open(&monitor.url);
        browser.all(&format!("{site} summary")).pop()
    });
    // No script has run.
    assert!(!browser.is_shown(&browser.one("#filter")));
    let inside = browser.one(&format!("{site} dl"));
    assert!(!browser.is_shown(&inside));
    browser.click(&leak);
    assert!(browser.is_shown(&inside));
    let text = browser.text(&inside);
    assert!(text.contains("leak_mutex") && text.contains("ids"), "{text}");
    assert!(browser.all("pre").is_empty());
    let all = browser.text(&browser.one("body"));
    assert!(!all.contains(".c:") && !all.contains("/testbed/"), "{all}");
}
