//! A group as a row, with all that is known of it inside.

use std::fmt::Write as _;

use super::{Escaped, spark};
use crate::{
    export::{
        evidence,
        json::Detail,
        text::{self, duration},
    },
    model::{Frame, Group, ProcessReport, Site},
};

/// Ids that are listed.
const IDS_SHOWN: usize = 20;

/// One line of HTML.
pub fn row(page: &mut String, report: &ProcessReport, group: &Group, detail: Detail) {
    let key = &group.key;
    let verdict = group.verdict.label();
    let place = key.block_site.as_deref().map_or("?", |site| &site.function);
    let _ = write!(
        page,
        "<tr data-verdict=\"{verdict}\" data-class=\"{class}\" data-key=\"{pid} {kind} {reason} {place} {entry} {spawn}\">\
         <td class=\"{verdict}\">{verdict}</td><td class=\"n\">{count}</td><td>",
        class = key.class.label(),
        pid = report.process.id.pid,
        kind = key.kind.label(),
        reason = Escaped(&key.reason),
        place = Escaped(place),
        entry = Escaped(function(key.entry.as_deref())),
        spawn = Escaped(function(key.spawn_site.as_deref())),
        count = group.count,
    );
    spark::line(page, &group.recent);
    let _ = write!(page, "</td><td><details><summary>{}</summary>", Escaped(place));
    inside(page, group, detail);
    let _ = writeln!(
        page,
        "</details></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td class=\"n\">{}</td></tr>",
        Escaped(&key.reason),
        key.class.label(),
        key.kind.label(),
        Escaped(&report.process.comm),
        report.process.id.pid,
        duration(group.oldest),
        duration(group.youngest),
    );
}

/// What unfolds.
fn inside(page: &mut String, group: &Group, detail: Detail) {
    page.push_str("<dl>");
    let mut entry = |name: &str, text: &str| {
        if !text.is_empty() {
            let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", Escaped(text));
        }
    };
    entry("grounds", &evidence::of_group(group));
    entry("at", &place(group.key.block_site.as_deref(), detail));
    entry("runs", &place(group.key.entry.as_deref(), detail));
    entry("made at", &place(group.key.spawn_site.as_deref(), detail));
    for (site, count) in &group.spawn_sites {
        entry("made at", &format!("{} ({count})", place(Some(site), detail)));
    }
    let ids = |ids: &[u64], all: usize| {
        let mut text: Vec<String> = ids.iter().take(IDS_SHOWN).map(u64::to_string).collect();
        if all > text.len() {
            text.push("…".to_owned());
        }
        text.join(" ")
    };
    entry("ids", &ids(&group.ids, group.count));
    entry("waits for", &ids(&group.waits_for, group.waits_for.len()));
    page.push_str("</dl>");
    if let Some(stack) = group.stack.as_ref().filter(|_| detail == Detail::Stacks) {
        page.push_str("<pre>");
        for frame in &stack.frames {
            // A row stays one line of HTML.
            let _ = write!(page, "{}&#10;", Escaped(&line(frame)));
        }
        page.push_str("</pre>");
    }
}

fn function(site: Option<&Site>) -> &str {
    site.map_or("", |site| &site.function)
}

/// Files are for those only who may see them.
fn place(site: Option<&Site>, detail: Detail) -> String {
    let Some(site) = site else { return String::new() };
    match (&site.file, site.line) {
        (Some(file), Some(line)) if detail == Detail::Stacks => format!("{} ({file}:{line})", site.function),
        _ => site.function.clone(),
    }
}

fn line(frame: &Frame) -> String {
    let function = text::function(frame);
    match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{function} at {file}:{line}"),
        _ if frame.module.is_empty() => function,
        _ => format!("{function} in {}", frame.module),
    }
}
