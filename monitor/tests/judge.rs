//! `taskleak judge` from outside: what it reads, what it says, how it fails. Needs no rights.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

const TASKLEAK: &str = env!("CARGO_BIN_EXE_taskleak");

fn judge(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(TASKLEAK)
        .arg("judge")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Its output, which must be good.
fn said(output: Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// Exit code and complaint.
fn failure(output: &Output) -> (Option<i32>, String) {
    assert!(output.stdout.is_empty(), "{output:?}");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

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

/// One a minute from the third hour on.
fn leak(second: u32) -> u32 {
    20 + second.saturating_sub(7200) / 60
}

/// Six hours, a sample each half minute: a leak, and a pool beside it.
fn csv() -> String {
    let mut text = "time,leak,pool\n".to_owned();
    for second in (0..=21_600).step_by(30) {
        writeln!(text, "{second},{},16", leak(second)).unwrap();
    }
    text
}

fn verdicts(series: &Value) -> Vec<&str> {
    let changes = series["changes"].as_array().unwrap().iter();
    changes
        .map(|change| change["verdict"].as_str().unwrap())
        .collect()
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

fn matrix(samples: &[(u32, String)]) -> String {
    let values: Vec<Value> = samples.iter().map(|(at, value)| json!([at, value])).collect();
    let metric = json!({"__name__": "go_goroutines", "job": "api"});
    let result = json!([{"metric": metric, "values": values}]);
    json!({"status": "success", "data": {"resultType": "matrix", "result": result}}).to_string()
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

#[test]
fn a_server_that_does_not_answer_is_a_target_that_is_gone() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", closed.local_addr().unwrap());
    drop(closed);
    let (code, complaint) = failure(&judge(&["--prometheus", &url, "--query", "up"], ""));
    assert_eq!(code, Some(4), "{complaint}");
    assert!(
        complaint.contains(&url) && complaint.contains("does not answer"),
        "{complaint}"
    );
}

/// Something like Prometheus: answers each request, and keeps what was asked.
struct Server {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` makes status and body of a request's target.
    fn start(answer: impl Fn(&str) -> (&'static str, String) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let target = target(&stream);
                let (status, body) = answer(&target);
                list.lock().unwrap().push(target);
                let head = format!(
                    "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                let _ = (&stream).write_all((head + &body).as_bytes());
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// `/path?…` of a request.
fn target(stream: &TcpStream) -> String {
    let head: Vec<String> = BufReader::new(stream)
        .lines()
        .map_while(Result::ok)
        .take_while(|line| !line.is_empty())
        .collect();
    head[0].split(' ').nth(1).unwrap().to_owned()
}

fn parameter<'a>(target: &'a str, name: &str) -> &'a str {
    let mut pairs = target.split_once('?').unwrap().1.split('&');
    let pair = pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    pair.unwrap_or_else(|| panic!("no {name} in {target}"))
}

/// Answers with a sample for each step that is asked for.
fn samples_at_each_step(target: &str) -> (&'static str, String) {
    let number = |name: &str| parameter(target, name).parse::<f64>().unwrap();
    assert!(
        number("end") >= number("start"),
        "Prometheus would refuse it: {target}"
    );
    let steps = ((number("end") - number("start")) / number("step") + 1e-6).floor() as u32;
    assert!(steps < 11_000, "Prometheus would refuse it: {target}");
    let samples: Vec<_> = (0..=steps)
        .map(|step| {
            (
                (number("start") + f64::from(step) * number("step")) as u32,
                "7".to_owned(),
            )
        })
        .collect();
    ("200 OK", matrix(&samples))
}

/// The command that `--help` shows, as a shell would run it, on another server.
#[test]
fn the_example_of_the_help_works() {
    let server = Server::start(samples_at_each_step);
    let help = said(judge(&["--help"], ""));
    let example = help.split_once("Example: ").unwrap().1.replace('\n', " ");
    assert!(
        example.starts_with("taskleak judge --prometheus http://localhost:9090 "),
        "{example}"
    );
    let command = example
        .replacen("taskleak", TASKLEAK, 1)
        .replace("http://localhost:9090", &server.url)
        + " --format json";
    let output = Command::new("sh").args(["-c", &command]).output().unwrap();
    let judged: Vec<Value> = serde_json::from_str(&said(output)).unwrap();
    assert_eq!(judged.len(), 1);
    assert_eq!(verdicts(&judged[0]), ["stable"]);
    // Thirty days of half minutes, both ends included, in as few parts as Prometheus permits.
    assert_eq!(judged[0]["samples"], 86_401);
    assert_eq!(judged[0]["out_of_order"], 0);
    let asked = server.asked();
    assert_eq!(asked.len(), 9);
    for target in &asked {
        assert!(target.starts_with("/api/v1/query_range?"), "{target}");
        assert_eq!(parameter(target, "step"), "30");
        let query = parameter(target, "query");
        assert!(
            query.starts_with("go_goroutines") && query.contains("job") && query.contains("api"),
            "{query}"
        );
    }
}

#[test]
fn both_ends_are_asked_for_however_the_parts_come_out() {
    // In steps of 10 s; parts are of 10,000 samples.
    for (since, samples) in [
        ("200000s", 20_001),
        ("199990s", 20_000),
        ("99999s", 10_000),
        ("5s", 1),
    ] {
        let server = Server::start(samples_at_each_step);
        let source = [
            "--prometheus",
            &server.url,
            "--query",
            "a",
            "--since",
            since,
            "--step",
            "10s",
        ];
        let judged: Vec<Value> =
            serde_json::from_str(&said(judge(&[&source[..], &["--format", "json"]].concat(), ""))).unwrap();
        assert_eq!(judged[0]["samples"], samples, "{since}: {:#?}", server.asked());
    }
}

#[test]
fn what_the_server_refuses_is_passed_on() {
    let refuse = |_: &str| {
        let body =
            r#"{"status":"error","errorType":"bad_data","error":"1:3: parse error: unclosed left brace"}"#;
        ("400 Bad Request", body.to_owned())
    };
    let server = Server::start(refuse);
    let (code, complaint) = failure(&judge(&["--prometheus", &server.url, "--query", "up{"], ""));
    assert_eq!(code, Some(2), "{complaint}");
    assert!(
        complaint.contains("400 Bad Request, 1:3: parse error: unclosed left brace"),
        "{complaint}"
    );

    let nothing = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    let server = Server::start(|_| ("200 OK", nothing.to_owned()));
    let (code, complaint) = failure(&judge(&["--prometheus", &server.url, "--query", "upp"], ""));
    assert!(
        code == Some(2) && complaint.contains("the query has no result"),
        "{complaint}"
    );

    let server = Server::start(|_| ("200 OK", "<html>a login page".to_owned()));
    let (code, complaint) = failure(&judge(&["--prometheus", &server.url, "--query", "up"], ""));
    assert!(code == Some(2) && complaint.contains(&server.url), "{complaint}");
}
