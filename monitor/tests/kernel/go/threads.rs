//! The threads below the goroutines.

use std::collections::BTreeSet;

use testbed::go::{self, Flavor};

use super::bed::{look, start};

/// Reason, class, block site and entry of the threads that are blocked.
fn threads(version: &str, flavor: Flavor) -> Option<BTreeSet<[String; 4]>> {
    let target = start(
        "go::threads",
        version,
        flavor,
        &["locked_receive=2", "syscall_read=2"],
    )?;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let process = look(&target);
    let threads = process.groups().iter().filter(|group| group["kind"] == "thread");
    let sites = threads.map(|group| {
        [
            text(&group["reason"]),
            text(&group["wait_class"]),
            text(&group["block_site"]["function"]),
            text(&group["entry"]["function"]),
        ]
    });
    Some(sites.collect())
}

/// Symbols are not needed: Go's own table has all names.
#[test]
fn threads_of_a_stripped_program_stand_where_those_of_another_do() {
    for version in go::versions() {
        let Some(known) = threads(version, Flavor::Plain) else {
            continue;
        };
        let futex = |threads: &BTreeSet<[String; 4]>| {
            threads.iter().any(|[reason, class, site, entry]| {
                [reason, class, site, entry] == ["futex", "internal", "runtime.futex", ""]
            })
        };
        assert!(futex(&known), "Go {version}: {known:?}");
        // Go 1.18 has that one in assembly, without a frame: without symbols nothing tells who called it.
        let stripped = known.clone().into_iter().map(|[reason, class, site, entry]| {
            let is_call = go::minor(version) < 19 && reason == "read";
            let site = if is_call {
                "syscall.Syscall".to_owned()
            } else {
                site
            };
            [reason, class, site, entry]
        });
        let stripped: BTreeSet<_> = stripped.collect();
        let more = [Flavor::NoSections, Flavor::Pie];
        let more = more.into_iter().filter(|_| *version == "1.27");
        for flavor in [Flavor::Stripped].into_iter().chain(more) {
            let Some(told) = threads(version, flavor) else {
                continue;
            };
            let expected = if flavor == Flavor::Pie { &known } else { &stripped };
            assert_eq!(&told, expected, "Go {version}, {flavor:?}");
        }
    }
}
