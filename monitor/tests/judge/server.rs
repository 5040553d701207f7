//! Series from a Prometheus server.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

use crate::support::{TASKLEAK, failure, judge, matrix, said, verdicts};

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
