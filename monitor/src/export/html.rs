//! The page at `/`: the groups as a plain table, readable without JavaScript.

use std::fmt::{Display, Write as _};

use super::{evidence, text::duration};
use crate::model::{Group, ProcessReport, Snapshot};

const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n<title>taskleak</title>\n<style>\n\
    body { font: 15px/1.5 system-ui, sans-serif; margin: 2em; color: #222; background: #fff }\n\
    table { border-collapse: collapse } caption { text-align: left; padding: .5em 0 }\n\
    th, td { text-align: left; padding: .2em 1em .2em 0; border-bottom: 1px solid #ddd }\n\
    td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }\n\
    @media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818 } th, td { border-color: #444 } \
    a { color: #8bf } }\n</style>\n</head>\n<body>\n<h1>taskleak</h1>\n";

const FOOT: &str = "<p><a href=\"/metrics\">/metrics</a> · <a href=\"/api/v1/snapshot\">/api/v1/snapshot</a> · \
    <a href=\"/healthz\">/healthz</a> · <a href=\"/readyz\">/readyz</a></p>\n</body>\n</html>\n";

/// The whole page.
pub fn render(snapshot: &Snapshot) -> String {
    let mut page = HEAD.to_owned();
    table(&mut page, snapshot);
    page.push_str(FOOT);
    page
}

fn table(page: &mut String, snapshot: &Snapshot) {
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
         <thead><tr><th>process</th><th class=\"n\">pid</th><th class=\"n\">blocked</th><th>kind</th>\
         <th>verdict</th><th>waits in</th><th>class</th><th>at</th><th>runs</th><th class=\"n\">oldest</th><th class=\"n\">youngest</th><th>grounds</th></tr></thead>\n<tbody>",
        snapshot.processes.len(),
        humantime::format_rfc3339_seconds(snapshot.taken_at),
    );
    for (report, group) in rows {
        let _ = writeln!(
            page,
            "<tr><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td>\
             <td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td></tr>",
            Escaped(&report.process.comm),
            report.process.id.pid,
            group.count,
            group.key.kind.label(),
            group.verdict.label(),
            Escaped(&group.key.reason),
            group.key.class.label(),
            Escaped(group.key.block_site.as_ref().map_or("", |site| &site.function)),
            Escaped(group.key.entry.as_ref().map_or("", |site| &site.function)),
            duration(group.oldest),
            duration(group.youngest),
            Escaped(&evidence::of_group(group)),
        );
    }
    page.push_str("</tbody>\n</table>\n");
    for report in &snapshot.processes {
        for deadlock in &report.deadlocks {
            let ids: Vec<String> = deadlock
                .iter()
                .chain(deadlock.first())
                .map(u64::to_string)
                .collect();
            let _ = writeln!(
                page,
                "<p><strong>Deadlock</strong> in {} (pid {}): {}.</p>",
                Escaped(&report.process.comm),
                report.process.id.pid,
                ids.join(" → ")
            );
        }
    }
    for report in snapshot
        .processes
        .iter()
        .filter(|report| !report.incomplete.is_empty())
    {
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
