//! What `check` says of tasks that were left behind: to people, to JUnit's readers, to GitHub.

use std::fmt::Write as _;

use super::text::{duration, plain};
use crate::{detect::leftover::Leftover, model::Site};

/// Ids that a line shows.
const IDS_SHOWN: usize = 6;

/// For people.
pub fn text(found: &[Leftover]) -> String {
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
        for frame in group.stack.iter().flat_map(|stack| &stack.frames) {
            let function = frame.function.as_deref().unwrap_or("[unknown]");
            let _ = match (&frame.file, frame.line) {
                (Some(file), Some(line)) => {
                    writeln!(text, "    {} at {}:{line}", plain(function), plain(file))
                }
                _ => writeln!(text, "    {} in {}", plain(function), plain(&frame.module)),
            };
        }
        if let Some(site) = group.made_at() {
            let _ = writeln!(text, "    made at {}", place(site));
        }
    }
    text
}

/// JUnit's XML: a test case for the check, with a failure for each group.
pub fn junit(name: &str, seconds: f64, found: &[Leftover]) -> String {
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"taskleak\" tests=\"1\" \
         failures=\"{failed}\" errors=\"0\" time=\"{seconds:.3}\">\n<testcase classname=\"taskleak\" name=\"{}\" \
         time=\"{seconds:.3}\">\n",
        escaped(name),
        failed = u8::from(!found.is_empty()),
    );
    if let Some(first) = found.first() {
        let _ = writeln!(
            xml,
            "<failure message=\"{}\" type=\"leak\">{}</failure>",
            escaped(&headline(first)),
            escaped(&text(found))
        );
    }
    xml.push_str("</testcase>\n</testsuite>\n</testsuites>\n");
    xml
}

/// A GitHub workflow command for each group, at its line of code.
pub fn github(found: &[Leftover]) -> String {
    let mut text = String::new();
    // https://docs.github.com/actions/reference/workflow-commands-for-github-actions
    let message = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| message(text).replace(':', "%3A").replace(',', "%2C");
    for leftover in found {
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
    let kind = group.key.kind.label();
    let mut text = format!(
        "{} (pid {}): {} {kind}{} left behind at {}",
        plain(&leftover.comm),
        leftover.pid,
        group.count,
        if group.count == 1 { "" } else { "s" },
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

/// XML has no way to write most control characters: [`plain`] has taken them out where they come from a target.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
