//! What `check` says of tasks that were left behind: to people, to JUnit's readers, to GitHub.

use std::{fmt::Write as _, time::Duration};

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use serde::Serialize;

use super::{
    json::{Detail, GroupJson},
    text::{duration, frames, plain, plural},
};
use crate::{detect::leftover::Leftover, model::Site};

/// Ids that a line shows.
const IDS_SHOWN: usize = 6;

/// What a check has come to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was to be shown, as a test's name.
    pub name: String,
    pub took: Duration,
    /// Tasks that may be left behind.
    pub max: usize,
    pub left: usize,
    pub failed: bool,
    pub found: Vec<Leftover>,
}

/// For people.
pub fn text(outcome: &Outcome) -> String {
    if outcome.failed {
        return faults(&outcome.found);
    }
    format!(
        "Nothing is left behind ({} tasks, {} allowed).\n",
        outcome.left, outcome.max
    )
}

fn faults(found: &[Leftover]) -> String {
    let mut text = String::new();
    for leftover in found {
        let group = &leftover.group;
        let mut ids: Vec<String> = group.ids.iter().take(IDS_SHOWN).map(u64::to_string).collect();
        if group.count > IDS_SHOWN {
            ids.push("…".to_owned());
        }
        let _ = writeln!(text, "{}", headline(leftover));
        let _ = writeln!(
            text,
            "    {}, for {}; ids {}",
            plain(&group.key.reason),
            duration(group.oldest),
            ids.join(" ")
        );
        if let Some(stack) = &group.stack {
            frames(&mut text, stack, 4);
        }
        if let Some(site) = group.made_at() {
            let _ = writeln!(text, "    made at {}", place(site));
        }
    }
    text
}

/// JUnit's XML: a test case for the check.
///
/// # Errors
/// Never in practice: every text has a form.
pub fn junit(outcome: &Outcome) -> anyhow::Result<String> {
    let mut case = TestCase::new(outcome.name.as_str(), TestCaseStatus::success());
    if let Some(first) = outcome.found.first().filter(|_| outcome.failed) {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
        status
            .set_message(headline(first))
            .set_type("leak")
            .set_description(faults(&outcome.found));
        case.status = status;
    }
    case.set_classname("taskleak").set_time(outcome.took);
    let mut suite = TestSuite::new("taskleak");
    suite.set_time(outcome.took).add_test_case(case);
    let mut report = Report::new("taskleak");
    report.set_time(outcome.took).add_test_suite(suite);
    Ok(report.to_string()?)
}

/// Schema 1 (docs/check.schema.json), to which fields are only added.
///
/// # Errors
/// Never in practice: every value has a form.
pub fn json(outcome: &Outcome) -> serde_json::Result<String> {
    let groups: Vec<_> = outcome
        .found
        .iter()
        .map(|leftover| LeftoverJson {
            pid: leftover.pid,
            comm: &leftover.comm,
            group: super::json::group(&leftover.group, Detail::Stacks),
        })
        .collect();
    let document = CheckJson {
        schema: 1,
        passed: !outcome.failed,
        left_behind: outcome.left,
        allowed: outcome.max,
        took_seconds: outcome.took.as_secs_f64(),
        groups,
    };
    serde_json::to_string_pretty(&document).map(|text| text + "\n")
}

#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Serialize)]
struct CheckJson<'a> {
    schema: u32,
    passed: bool,
    left_behind: usize,
    allowed: usize,
    took_seconds: f64,
    groups: Vec<LeftoverJson<'a>>,
}

#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Serialize)]
struct LeftoverJson<'a> {
    pid: u32,
    comm: &'a str,
    #[serde(flatten)]
    group: GroupJson<'a>,
}

/// A GitHub workflow command for each group, at its line of code.
pub fn github(outcome: &Outcome) -> String {
    let mut text = String::new();
    // https://docs.github.com/actions/reference/workflow-commands-for-github-actions
    let message = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| message(text).replace(':', "%3A").replace(',', "%2C");
    for leftover in outcome.found.iter().filter(|_| outcome.failed) {
        let at = leftover.group.key.block_site.as_deref();
        let place = at.and_then(|site| Some((site.file.as_deref()?, site.line?)));
        let place = place.map_or(String::new(), |(file, line)| {
            format!("file={},line={line},", property(file))
        });
        let _ = writeln!(
            text,
            "::error {place}title=taskleak::{}",
            message(&headline(leftover))
        );
    }
    text
}

/// `api (pid 7): 3 goroutines left behind at main.worker (worker.go:41), made at main.handle (http.go:88)`
fn headline(leftover: &Leftover) -> String {
    let group = &leftover.group;
    let mut text = format!(
        "{} (pid {}): {} left behind at {}",
        plain(&leftover.comm),
        leftover.pid,
        plural(group.count, group.key.kind.noun()),
        group.key.block_site.as_deref().map_or("?".to_owned(), place),
    );
    if let Some(site) = group.made_at() {
        let _ = write!(text, ", made at {}", place(site));
    }
    text
}

fn place(site: &Site) -> String {
    match (&site.file, site.line) {
        (Some(file), Some(line)) => format!("{} ({}:{line})", plain(&site.function), plain(file)),
        _ => plain(&site.function),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_documented() {
        crate::export::schema::check::<CheckJson<'static>>("check");
    }
}
