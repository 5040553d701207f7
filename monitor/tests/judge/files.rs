//! Series from files and from standard input.

use std::{fmt::Write as _, fs, path::PathBuf};

use serde_json::{Value, json};

use crate::support::{failure, judge, leak, matrix, said, verdicts};

/// A file that is gone when dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("taskleak-judge-{}-{name}", std::process::id()));
        fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Six hours, a sample each half minute: a leak, and a pool beside it.
fn csv() -> String {
    let mut text = "time,leak,pool\n".to_owned();
    for second in (0..=21_600).step_by(30) {
        writeln!(text, "{second},{},16", leak(second)).unwrap();
    }
    text
}

#[test]
fn csv_from_standard_input_is_judged() {
    let judged: Vec<Value> =
        serde_json::from_str(&said(judge(&["--series", "-", "--format", "json"], &csv()))).unwrap();
    assert_eq!(judged.len(), 2);
    let [leak, pool] = &judged[..] else { unreachable!() };
    assert_eq!(
        (&leak["series"], &pool["series"]),
        (&json!("leak"), &json!("pool"))
    );
    assert_eq!(verdicts(leak), ["stable", "growing"]);
    assert_eq!(leak["verdict"], "growing");
    assert_eq!(verdicts(pool), ["stable"]);
    for series in &judged {
        // 21,600 / 30, and one for both ends.
        assert_eq!(series["samples"], 721);
        assert_eq!(
            (&series["out_of_order"], &series["not_numbers"]),
            (&json!(0), &json!(0))
        );
    }
    let found = &leak["changes"][1];
    let at = found["unix_seconds"].as_f64().unwrap();
    assert!((7200.0..7200.0 + 1800.0).contains(&at), "{found}");
    let written =
        humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + std::time::Duration::from_secs_f64(at));
    assert_eq!(found["at"], written.to_string());
    let growth = &found["growth"];
    let number = |name: &str| growth[name].as_f64().unwrap();
    assert!(
        number("from") >= 20.0 && number("to") <= f64::from(leak_at(at)),
        "{growth}"
    );
    assert!(number("p") < 0.05 && number("over_seconds") <= 1800.0, "{growth}");
    // 60 at most: the window may begin before the leak.
    assert!(number("per_hour") > 0.0 && number("per_hour") <= 61.0, "{growth}");
}

fn leak_at(second: f64) -> u32 {
    leak(second as u32)
}

#[test]
fn the_text_shows_changes_and_a_plot() {
    let text = said(judge(&["--series", "-"], &csv()));
    let (leak, pool) = text.split_once("\n\n").unwrap();
    let lines: Vec<&str> = leak.lines().collect();
    assert_eq!(lines[0], "leak: 721 samples");
    assert!(
        lines[1].starts_with("  1970-01-01T00:") && lines[1].contains("Z  stable: 20 → 20 in "),
        "{leak}"
    );
    assert!(
        lines[2].starts_with("  1970-01-01T02:") && lines[2].contains("Z  growing: "),
        "{leak}"
    );
    // (21,600 - 7,200) / 60 came.
    assert!(
        lines[3].contains('▁') && lines[3].ends_with("█  20 to 260"),
        "{leak}"
    );
    assert!(
        lines[4].trim_start().starts_with('^') && lines[4].ends_with("growing"),
        "{leak}"
    );
    assert!(
        pool.starts_with("pool: 721 samples\n") && !pool.contains("growing"),
        "{pool}"
    );
}

#[test]
fn what_query_range_has_answered_is_judged_from_a_file() {
    let samples: Vec<_> = (0..=21_600)
        .step_by(30)
        .map(|at| (at, leak(at).to_string()))
        .collect();
    let file = File::new("matrix.json", &matrix(&samples));
    let judged: Vec<Value> =
        serde_json::from_str(&said(judge(&["--series", file.path(), "--format", "json"], ""))).unwrap();
    assert_eq!(judged.len(), 1);
    assert_eq!(judged[0]["series"], "go_goroutines{job=\"api\"}");
    assert_eq!(verdicts(&judged[0]), ["stable", "growing"]);
}

#[test]
fn a_broken_file_is_told_with_its_line() {
    let cases = [
        ("no_number.csv", "time,a\n1,2\n2,zwei\n", 3, "`zwei` is no number"),
        (
            "no_time.csv",
            "time,a\n1,2\nx,3\n",
            3,
            "`x` is no time in unix seconds",
        ),
        ("too_wide.csv", "1,2\n2,3,4\n", 2, "found record with 3 fields"),
        ("no_values.csv", "1\n2\n", 1, "no column of values"),
        ("empty.csv", "", 1, "it is empty"),
        (
            "cut_off.json",
            "{\"status\": \"success\",\n\"data\": {\n",
            3,
            "EOF",
        ),
        ("wrong.json", "{\n\"status\":\n7}", 3, "expected a string"),
        (
            "vector.json",
            "{\"status\":\"success\",\"data\":{\"resultType\":\"vector\",\"result\":[]}}",
            1,
            "not a matrix: ask query_range",
        ),
        (
            "failed.json",
            "{\"status\":\"error\",\"error\":\"query timed out\"}",
            1,
            "query timed out",
        ),
    ];
    for (name, text, line, cause) in cases {
        let file = File::new(name, text);
        let (code, complaint) = failure(&judge(&["--series", file.path()], ""));
        assert_eq!(code, Some(2), "{complaint}");
        let place = format!("{}, line {line}: ", file.path());
        assert!(
            complaint.contains(&place) && complaint.contains(cause),
            "{name}: {complaint}"
        );
    }
    let (code, complaint) = failure(&judge(&["--series", "-"], "1,2\n2,zwei\n"));
    assert!(
        code == Some(2) && complaint.contains("-, line 2: `zwei`"),
        "{complaint}"
    );
    let (code, complaint) = failure(&judge(&["--series", "/nowhere/at.all"], ""));
    assert!(
        code == Some(2) && complaint.contains("/nowhere/at.all cannot be read"),
        "{complaint}"
    );
}

#[test]
fn samples_that_prometheus_would_drop_are_counted() {
    // The second 20 and the 10 behind it come too late; of three no numbers can be made to judge.
    let text = "10,1\n20,2\n20,3\n10,4\n30,NaN\n40,inf\n50,-inf\n60,5\n70,\n";
    let judged: Vec<Value> =
        serde_json::from_str(&said(judge(&["--series", "-", "--format", "json"], text))).unwrap();
    let one = &judged[0];
    assert_eq!(one["series"], "column 2");
    assert_eq!(
        (&one["out_of_order"], &one["not_numbers"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(one["samples"], 8, "an empty field is none");
    assert_eq!(one["verdict"], "unknown");
    let text = said(judge(&["--series", "-"], text));
    assert!(
        text.contains("  left out: 2 out of order, 3 that are no numbers\n"),
        "{text}"
    );
    assert!(
        text.contains("  1 to 5\n") && !text.contains("NaN") && !text.contains("inf"),
        "{text}"
    );
}

#[test]
fn wrong_options_are_told() {
    for (arguments, cause) in [
        (
            &["--series", "-", "--window", "1h", "--long-window", "1m"][..],
            "shorter than the window",
        ),
        (
            &["--series", "-", "--min-growth", "0"][..],
            "0 is not in 1..=1000000",
        ),
        (
            &["--series", "-", "--prometheus", "http://127.0.0.1:1"][..],
            "cannot be used with",
        ),
        (&["--prometheus", "http://127.0.0.1:1"][..], "--query"),
        (&[][..], "--series <FILE>|--prometheus <URL>"),
    ] {
        let (code, complaint) = failure(&judge(arguments, "1,2\n"));
        assert!(
            code == Some(2) && complaint.contains(cause),
            "{arguments:?}: {complaint}"
        );
    }
}
