//! The tokio program is built by each version in each flavor, and says that it is ready.

use testbed::{Target, or_skip, tokio};

#[test]
fn every_build_of_the_tokio_program_starts() {
    for (version, flavor) in tokio::builds() {
        let what = format!("tokio {version}, {flavor:?}");
        let started = tokio::build(version, flavor)
            .and_then(|command| Target::start_command(command, &["mpsc_recv=1", "ticker=1"]));
        let Some(target) = or_skip(&what, started).unwrap_or_else(|error| panic!("{what}: {error:#}")) else {
            continue;
        };
        let workers = target.threads().unwrap().len();
        assert!(workers >= 3, "{what}: {workers} threads");
    }
}
