//! The leaking programs of the articles, each with a known number of leaks.

use testbed::go::{self, Flavor};

use super::bed::{assert_same, groups, look, seen, start};

#[test]
fn leaks_on_channels_are_counted_and_named() {
    let scenarios = [
        "article_producer=3",
        "article_adder=4",
        "article_sum_server=5",
        "article_lonely_receive=2",
        "article_log_follower=3",
    ];
    for version in go::versions() {
        let Some(target) = start("go::articles", version, Flavor::Plain, &scenarios) else {
            continue;
        };
        let process = look(&target);
        assert!(process.incomplete().is_empty(), "{version}: {process:?}");
        let expected = [
            (
                "chan send",
                "internal",
                "main.randomStream.func1",
                "main.randomStream.func1",
                "main.randomStream",
                3,
            ),
            // Behind the web server and without it: the same code.
            (
                "chan send",
                "internal",
                "main.addUp",
                "main.addUp",
                "main.oneOfTwoSums",
                9,
            ),
            (
                "chan receive (nil chan)",
                "internal",
                "main.spawnLonelyReceive.func1",
                // With arguments it starts in a wrapper, which calls it through a pointer at first.
                if go::minor(version) < 22 {
                    "main.spawnLonelyReceive.func2"
                } else {
                    "main.spawnLonelyReceive.func1"
                },
                "main.spawnLonelyReceive",
                2,
            ),
            (
                "select",
                "internal",
                "main.writeLogStream",
                "net/http.(*conn).serve",
                "net/http.(*Server).Serve",
                3,
            ),
            // The server itself waits for requests.
            (
                "IO wait",
                "external",
                "main.serve.func1.4",
                "main.serve.func1.4",
                "main.serve.func1",
                1,
            ),
        ];
        let mut seen = seen(&process);
        // What the server's closure is called differs: `serve.func1.gowrap4`, `serve.func1.3`, …
        let accepting: Vec<_> = seen.keys().filter(|key| key[0] == "IO wait").cloned().collect();
        assert_eq!(accepting.len(), 1, "{version}: {seen:#?}");
        let count = seen.remove(&accepting[0]).unwrap();
        assert_eq!(
            (count, accepting[0][4].as_str()),
            (1, "main.serve.func1"),
            "{version}"
        );
        let mut expected = groups(&expected);
        expected.retain(|key, _| key[0] != "IO wait");
        assert_same(&seen, &expected, version);
    }
}

#[test]
fn a_command_that_never_ends_holds_its_handler() {
    for version in go::versions() {
        let Some(target) = start(
            "go::articles::exec",
            version,
            Flavor::Plain,
            &["article_exec_server=3"],
        ) else {
            continue;
        };
        let seen = seen(&look(&target));
        // It waits for its child in a system call; what that is called depends on the version.
        let handlers: Vec<_> = seen
            .iter()
            .filter(|(key, _)| key[2] == "main.runCommand")
            .map(|(key, count)| (key[1].as_str(), key[3].as_str(), *count))
            .collect();
        assert_eq!(
            handlers,
            [("external", "net/http.(*conn).serve", 3)],
            "{version}: {seen:#?}"
        );
    }
}

#[test]
fn what_works_for_ever_is_not_blocked_but_counted_by_what_it_runs() {
    for version in go::versions() {
        let Some(target) = start(
            "go::articles::loop",
            version,
            Flavor::Plain,
            &["article_endless_loop=2"],
        ) else {
            continue;
        };
        let process = look(&target);
        assert!(seen(&process).is_empty(), "{version}: {process:?}");
        let live = process.value["live"].as_array().unwrap();
        let looping = live
            .iter()
            .find(|live| live["entry"]["function"] == "main.endlessLoop");
        assert_eq!(looping.unwrap()["count"], 2, "{version}: {live:?}");
    }
}
