//! A web server of axum's: its requests are no tasks of their own, but run within those of their connections.

use std::collections::BTreeMap;

use testbed::{
    Target,
    tokio::{self, Flavor},
};

use super::bed::look;

/// The server, with clients. `None` (and the test is skipped) where this machine cannot build it.
fn start(flavor: Flavor) -> Option<Target> {
    let clients = ["hang=7", "slow=4", "idle=3", "gather=5", "naps=2", "wide=6"];
    let started = tokio::build_web(flavor).and_then(|command| Target::start_command(command, &clients));
    testbed::or_skip("tokio::web", started).unwrap()
}

/// A handler that never answers is found within its connection's task, and one of several in a list of futures within that;
/// what is to answer in an hour is not blocked; and a connection on which nothing is asked waits for the world.
#[test]
fn handlers_that_never_answer_are_found_in_their_connections() {
    let Some(target) = start(Flavor::Debug) else {
        return;
    };
    let process = look(&target);
    let tasks = process.groups().iter().filter(|group| group["kind"] == "tokio");
    let mut groups = BTreeMap::new();
    for group in tasks.filter(|group| group["count"] != 0) {
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let key = [
            text(&group["block_site"]["function"]),
            text(&group["reason"]),
            text(&group["wait_class"]),
        ];
        *groups.entry(key).or_insert(0) += group["count"].as_u64().unwrap();
    }
    let expected = [
        (["web::query", "oneshot::Receiver", "internal"], 7 + 5 + 6),
        (
            [
                "axum::serve::handle_connection::{async block#3}<…>",
                "select!",
                "external",
            ],
            3,
        ),
        (
            [
                "web::main::{async_block#0}::{async block}",
                "TcpListener::accept",
                "external",
            ],
            1,
        ),
    ];
    let expected: BTreeMap<[String; 3], u64> = expected
        .into_iter()
        .map(|(key, count)| (key.map(str::to_owned), count))
        .collect();
    assert_eq!(groups, expected);
    // Innermost first, of those of one entry.
    let functions = |entry: &str| -> Vec<String> {
        let group = process
            .groups()
            .iter()
            .find(|group| {
                let entry_of = group["entry"]["function"].as_str().unwrap_or_default();
                group["block_site"]["function"] == "web::query" && entry_of.starts_with(entry)
            })
            .unwrap();
        let frames = group["stack"].as_array().unwrap().iter();
        frames
            .map(|frame| frame["function"].as_str().unwrap().to_owned())
            .collect()
    };
    let served = functions("axum::serve::handle_connection");
    let report = served.iter().position(|name| name == "web::report").unwrap();
    assert_eq!(served[report - 1], "web::query", "{served:?}");
    assert!(
        served
            .last()
            .unwrap()
            .starts_with("axum::serve::handle_connection::"),
        "{served:?}"
    );
    let gathered = functions("web::gather");
    assert_eq!(
        gathered[1..],
        ["web::query", "web::report", "web::gather"],
        "{gathered:?}"
    );
    let wide = process.groups().iter().find(|group| {
        let entry = group["entry"]["function"].as_str().unwrap_or_default();
        entry.starts_with("web::wide<…>")
    });
    assert_eq!(wide.unwrap()["count"], 6, "{process:?}");
    assert!(process.incomplete().is_empty(), "{:?}", process.incomplete());
}

/// As it is deployed: without symbols. Whoever serves a connection waits for it, whatever its handler waits for besides; whose
/// handler sleeps is not blocked.
#[test]
fn without_types_connections_wait_for_the_world() {
    let Some(target) = start(Flavor::Stripped) else {
        return;
    };
    let process = look(&target);
    let mut counts = BTreeMap::new();
    for group in process.groups().iter().filter(|group| group["kind"] == "tokio") {
        let key = ["reason", "wait_class"].map(|name| group[name].as_str().unwrap().to_owned());
        let told = counts.entry(key).or_insert_with(Vec::new);
        told.push(group["count"].as_u64().unwrap());
        told.sort_unstable();
    }
    let told = |reason: &str, class: &str, told: &[u64]| ([reason, class].map(str::to_owned), told.to_vec());
    let expected = [
        // Those that gather, and those that are wide.
        told("await", "internal", &[5, 6]),
        // Who accepts connections, and those who serve one.
        told("io", "external", &[1, 7 + 3]),
    ];
    assert_eq!(counts, BTreeMap::from(expected), "{process:?}");
    assert_eq!(process.incomplete(), ["tokio_types_missing"]);
}
