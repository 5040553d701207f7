//! The page at `/`: the groups, what somebody should look at first, readable without JavaScript.

mod group;
mod spark;

use std::fmt::{Display, Write as _};

use super::{evidence, json::Detail, text::plural};
use crate::model::{Group, ProcessReport, Snapshot};

/// Served beside the page.
pub const STYLE: &str = include_str!("style.css");
pub const SCRIPT: &str = include_str!("page.js");

/// Nothing from elsewhere, and nothing inline: a name of a target could not run even if it got out of its cell.
pub const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n<title>taskleak</title>\n\
    <link rel=\"stylesheet\" href=\"/style.css\">\n<script src=\"/page.js\" defer></script>\n</head>\n<body>\n\
    <h1>taskleak</h1>\n<form id=\"filter\" hidden>\n\
    <label>Filter <input name=\"text\" type=\"search\" placeholder=\"function, process, reason\"></label>\n\
    <label><input name=\"external\" type=\"checkbox\" checked> what waits for the world</label>\n\
    <label><input name=\"stable\" type=\"checkbox\" checked> what does not grow</label>\n\
    <output id=\"shown\"></output>\n</form>\n<p id=\"state\" role=\"status\"></p>\n";

const FOOT: &str = "<p><a href=\"/metrics\">/metrics</a> · <a href=\"/api/v1/snapshot\">/api/v1/snapshot</a> · \
    <a href=\"/healthz\">/healthz</a> · <a href=\"/readyz\">/readyz</a></p>\n</body>\n</html>\n";

/// The whole page.
pub fn render(snapshot: &Snapshot, detail: Detail) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("<main id=\"groups\">\n");
    deadlocks(&mut page, snapshot);
    table(&mut page, snapshot, detail);
    live(&mut page, snapshot);
    incomplete(&mut page, snapshot);
    page.push_str("</main>\n");
    page.push_str(FOOT);
    page
}

fn table(page: &mut String, snapshot: &Snapshot, detail: Detail) {
    let mut rows: Vec<(&ProcessReport, &Group)> = snapshot
        .processes
        .iter()
        .flat_map(|report| report.groups.iter().map(move |group| (report, group)))
        .filter(|(_, group)| group.count > 0)
        .collect();
    rows.sort_by_key(|(_, group)| {
        let rank = evidence::rank(group.verdict);
        (rank, std::cmp::Reverse((group.key.class, group.count)))
    });
    let blocked: usize = rows.iter().map(|(_, group)| group.count).sum();
    let _ = writeln!(
        page,
        "<table>\n<caption>{blocked} blocked tasks in {} watched processes, seen at {}.</caption>\n\
         <thead><tr><th>verdict</th><th class=\"n\">blocked</th><th>history</th><th>at</th><th>waits in</th>\
         <th>class</th><th>kind</th><th>process</th><th class=\"n\">pid</th><th class=\"n\">oldest</th>\
         <th class=\"n\">youngest</th></tr></thead>\n<tbody>",
        snapshot.processes.len(),
        humantime::format_rfc3339_seconds(snapshot.taken_at),
    );
    for (report, group) in rows {
        group::row(page, report, group, detail);
    }
    page.push_str("</tbody>\n</table>\n");
}

fn deadlocks(page: &mut String, snapshot: &Snapshot) {
    for report in &snapshot.processes {
        for deadlock in &report.deadlocks {
            let _ = writeln!(
                page,
                "<p><strong class=\"proven\">Deadlock</strong> in {} (pid {}): {}.</p>",
                Escaped(&report.process.comm),
                report.process.id.pid,
                evidence::ring(deadlock)
            );
        }
    }
}

/// What is never long in one wait, but grows in number.
fn live(page: &mut String, snapshot: &Snapshot) {
    for report in &snapshot.processes {
        for tasks in report.live.iter().filter(|tasks| tasks.verdict.is_alarm()) {
            let entry = tasks.entry.as_ref().map_or("?", |site| &site.function);
            let (what, how) = evidence::in_words(tasks);
            let _ = writeln!(
                page,
                "<p><strong class=\"{verdict}\">{verdict}</strong>: {} of {} (pid {}) {what} {}, {how}: {}.</p>",
                plural(tasks.count, tasks.kind.noun()),
                Escaped(&report.process.comm),
                report.process.id.pid,
                Escaped(entry),
                Escaped(&evidence::of_live(tasks)),
                verdict = tasks.verdict.label(),
            );
        }
    }
}

fn incomplete(page: &mut String, snapshot: &Snapshot) {
    let reports = snapshot.processes.iter();
    for report in reports.filter(|report| !report.incomplete.is_empty()) {
        let causes: Vec<_> = report.incomplete.iter().map(|cause| cause.label()).collect();
        let _ = writeln!(
            page,
            "<p>Incomplete: {} (pid {}): {}.</p>",
            Escaped(&report.process.comm),
            report.process.id.pid,
            causes.join(", ")
        );
    }
}

/// Text of a target inside HTML.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => formatter.write_str("&amp;")?,
                '<' => formatter.write_str("&lt;")?,
                '>' => formatter.write_str("&gt;")?,
                '"' => formatter.write_str("&quot;")?,
                '\'' => formatter.write_str("&#39;")?,
                c if c.is_control() => write!(formatter, "{}", c.escape_default())?,
                c => formatter.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_targets_stay_text() {
        assert_eq!(
            Escaped("<script>&\"'\u{7}").to_string(),
            "&lt;script&gt;&amp;&quot;&#39;\\u{7}"
        );
    }
}
