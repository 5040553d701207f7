//! A snapshot for a person at a terminal.

use std::{fmt::Write as _, time::Duration};

use super::evidence;
use crate::model::{Frame, Group, ProcessReport, Site, Snapshot, Stack, Verdict, WaitClass};

/// Ids that one line shows.
const IDS_SHOWN: usize = 6;

/// What is shown.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Also groups that wait for the world or are stable, and processes without groups.
    pub all_groups: bool,
    /// The stack of one member below each group.
    pub stacks: bool,
}

/// The processes with something blocked, most blocked tasks first.
pub fn render(snapshot: &Snapshot, style: Style) -> String {
    let mut text = String::new();
    let mut reports: Vec<&ProcessReport> = snapshot.processes.iter().collect();
    reports.sort_by_key(|report| {
        std::cmp::Reverse(shown(report, style).map(|group| group.count).sum::<usize>())
    });
    let mut hidden = (0, 0);
    for report in reports {
        for group in report
            .groups
            .iter()
            .filter(|group| group.count > 0 && !is_shown(report, group, style))
        {
            hidden = (hidden.0 + 1, hidden.1 + group.count);
        }
        if style.all_groups || shown(report, style).next().is_some() || !report.incomplete.is_empty() {
            process(&mut text, report, style);
        }
    }
    if text.is_empty() {
        let _ = writeln!(
            text,
            "Nothing is blocked ({} observed).",
            processes(snapshot.processes.len())
        );
    }
    if hidden.0 > 0 {
        let _ = writeln!(
            text,
            "Not shown: {} in {} that wait{} for the world or do not grow (--all-groups shows them).",
            plural(hidden.1, "task"),
            plural(hidden.0, "group"),
            if hidden.1 == 1 { "s" } else { "" },
        );
    }
    for (cause, count) in snapshot.health.lost.iter().filter(|(_, count)| *count > 0) {
        let _ = writeln!(text, "Lost for want of room: {count} ({cause}).");
    }
    text
}

fn process(text: &mut String, report: &ProcessReport, style: Style) {
    let process = &report.process;
    let blocked: usize = report.groups.iter().map(|group| group.count).sum();
    let tasks: Vec<String> = report
        .tasks
        .iter()
        .map(|(kind, count)| plural(*count, kind.noun()))
        .collect();
    let _ = writeln!(
        text,
        "{} (pid {}{}{}): {}, {blocked} blocked for {} or longer",
        plain(&process.comm),
        process.id.pid,
        if process.exe.is_empty() { "" } else { ", " },
        plain(&process.exe),
        tasks.join(", "),
        duration(report.threshold),
    );
    if !report.incomplete.is_empty() {
        let causes: Vec<_> = report.incomplete.iter().map(|cause| cause.label()).collect();
        let _ = writeln!(text, "  incomplete: {}", causes.join(", "));
    }
    for deadlock in &report.deadlocks {
        let _ = writeln!(text, "  DEADLOCK: {}", evidence::ring(deadlock));
    }
    if shown(report, style).next().is_some() {
        let _ = writeln!(
            text,
            "  {:>6}  {:<10} {:<23} {:<10}{:>9}{:>10}  at",
            "COUNT", "KIND", "WAITS IN", "CLASS", "OLDEST", "YOUNGEST"
        );
    }
    for group in shown(report, style) {
        let _ = writeln!(
            text,
            "  {:>6}  {:<10} {:<23} {:<10}{:>9}{:>10}  {}",
            group.count,
            group.key.kind.label(),
            plain(&group.key.reason),
            group.key.class.label(),
            duration(group.oldest),
            duration(group.youngest),
            place(group),
        );
        let mut ids: Vec<String> = group.ids.iter().take(IDS_SHOWN).map(u64::to_string).collect();
        if group.count > IDS_SHOWN {
            ids.push("…".to_owned());
        }
        let _ = writeln!(
            text,
            "{:>10}ids {}{}{}",
            "",
            ids.join(" "),
            held_by(group),
            made_at(group.made_at(), group.spawn_sites.len())
        );
        let grounds = evidence::of_group(group);
        if group.verdict.is_alarm() || !grounds.is_empty() {
            let _ = writeln!(text, "{:>10}{}: {grounds}", "", group.verdict.label());
        }
        if let Some(stack) = group.stack.as_ref().filter(|_| style.stacks) {
            frames(text, stack, 12);
        }
    }
    for tasks in report.live.iter().filter(|tasks| tasks.verdict.is_alarm()) {
        let entry = tasks.entry.as_ref().map_or("?", |site| &site.function);
        let (what, how) = evidence::in_words(tasks);
        let _ = writeln!(
            text,
            "  {:>6}  {:<10} that {what} {}, {how}: {}, {}{}",
            tasks.count,
            tasks.kind.label(),
            plain(entry),
            tasks.verdict.label(),
            evidence::of_live(tasks),
            made_at(tasks.made_at(), tasks.spawn_sites.len()),
        );
    }
    text.push('\n');
}

/// `wait_for_reply (demo.c:88), in handle_request`, as much of it as is known.
fn place(group: &Group) -> String {
    let Some(site) = &group.key.block_site else {
        return "?".to_owned();
    };
    let mut text = plain(&site.function);
    if let (Some(file), Some(line)) = (&site.file, site.line) {
        let _ = write!(text, " ({}:{line})", plain(base_name(file)));
    }
    if let Some(entry) = group
        .key
        .entry
        .as_ref()
        .filter(|entry| entry.function != site.function)
    {
        let _ = write!(text, ", in {}", plain(&entry.function));
    }
    text
}

/// `, made at main.handle (http.go:88)`, or by whom most of them were made.
fn made_at(most: Option<&Site>, places: usize) -> String {
    let Some(site) = most else {
        return String::new();
    };
    let mut text = format!(", made at {}", plain(&site.function));
    if let (Some(file), Some(line)) = (&site.file, site.line) {
        let _ = write!(text, " ({}:{line})", plain(base_name(file)));
    }
    match places {
        0 | 1 => {}
        more => {
            let _ = write!(text, " and at {}", plural(more - 1, "other place"));
        }
    }
    text
}

fn held_by(group: &Group) -> String {
    if group.waits_for.is_empty() {
        return String::new();
    }
    let shown: Vec<String> = group
        .waits_for
        .iter()
        .take(IDS_SHOWN)
        .map(u64::to_string)
        .collect();
    let more = if group.waits_for.len() > IDS_SHOWN {
        " …"
    } else {
        ""
    };
    format!(", waiting for {}{more}", shown.join(" "))
}

/// The function of a frame; where no symbol covers it, the place in its module.
pub fn function(frame: &Frame) -> String {
    match &frame.function {
        Some(function) => plain(function),
        None => {
            // What is no file has brackets of its own.
            let module = frame.module.trim_matches(['[', ']']);
            format!("[{}+{:#x}]", plain(module), frame.offset)
        }
    }
}

/// The frames of a stack, a line each.
pub fn frames(text: &mut String, stack: &Stack, indent: usize) {
    for frame in &stack.frames {
        let function = function(frame);
        let place = match (&frame.file, frame.line) {
            (Some(file), Some(line)) => format!(" at {}:{line}", plain(file)),
            _ if frame.function.is_some() && !frame.module.is_empty() => {
                format!(" in {}", plain(&frame.module))
            }
            _ => String::new(),
        };
        let inlined = if frame.inlined { " (inlined)" } else { "" };
        let guessed = if frame.guessed { " (a guess)" } else { "" };
        let _ = writeln!(text, "{:>indent$}{function}{place}{inlined}{guessed}", "");
    }
    if stack.truncated {
        let _ = writeln!(text, "{:>indent$}…", "");
    }
}

pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn shown(report: &ProcessReport, style: Style) -> impl Iterator<Item = &Group> {
    report
        .groups
        .iter()
        .filter(move |group| group.count > 0 && is_shown(report, group, style))
}

fn is_shown(report: &ProcessReport, group: &Group, style: Style) -> bool {
    let is_quiet = group.key.class == WaitClass::External
        || group.verdict == Verdict::Stable
        || report.is_idle_scheduler(group);
    style.all_groups || group.verdict.is_alarm() || !is_quiet
}

fn processes(count: usize) -> String {
    if count == 1 {
        "1 process".to_owned()
    } else {
        format!("{count} processes")
    }
}

/// `1 thread`, `2 threads`.
pub fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Two units at most: `950ms`, `12.3s`, `4m 05s`, `3h 20m`, `9d 4h`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 if duration.subsec_millis() < 50 => format!("{seconds}s"),
        1..60 => format!("{:.1}s", duration.as_secs_f64()),
        60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// Names come from targets: nothing in them may steer the terminal.
pub fn plain(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            if c.is_control() {
                c.escape_default().collect()
            } else {
                vec![c]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let of = |seconds: f64| duration(Duration::from_secs_f64(seconds));
        assert_eq!(of(0.95), "950ms");
        assert_eq!(of(12.34), "12.3s");
        assert_eq!(of(245.0), "4m 05s");
        assert_eq!(of(12_000.0), "3h 20m");
        assert_eq!(of(792_000.0), "9d 4h");
        assert_eq!(of(1.0), "1s");
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
    }
}
