//! How it looks: in a terminal, and as plain lines.

use std::{fmt::Write as _, time::Duration};

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::{Line, Text},
    widgets::{Cell, Paragraph, Row as TableRow, Table, TableState, Wrap},
};

use super::{
    rows::{Place, Row},
    state::{State, View},
};
use crate::export::text::{duration, function, plain, plural};

const COLUMNS: [&str; 8] = [
    "PID", "PROCESS", "COUNT", "KIND", "WAITS IN", "OLDEST", "PER HOUR", "VERDICT",
];
const WIDTHS: [usize; 8] = [8, 15, 7, 10, 20, 8, 9, 8];

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, state: &State) {
    let [head, body, foot] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Line::from(headline(state)).bold(), head);
    match state.view {
        View::Group(from) => group(frame, body, state, from),
        View::Table | View::Filter => table(frame, body, state),
    }
    frame.render_widget(footline(state), foot);
}

/// One line that sums it up.
fn headline(state: &State) -> String {
    let document = &state.document;
    let groups = || document.processes.iter().flat_map(|process| &process.groups);
    let blocked: usize = groups().map(|group| group.count).sum();
    let tasks: usize = document
        .processes
        .iter()
        .flat_map(|process| process.tasks.values())
        .sum();
    let alarms = document.rows().iter().filter(|row| row.is_alarm()).count();
    let mut text = format!(
        "taskleak  {}, {}: {blocked} blocked in {}, {alarms} of them leak or grow",
        match document.processes.len() {
            1 => "1 process".to_owned(),
            count => format!("{count} processes"),
        },
        plural(tasks, "task"),
        plural(groups().count(), "group"),
    );
    let incomplete = document
        .processes
        .iter()
        .filter(|process| !process.incomplete.is_empty());
    match incomplete.count() {
        0 => {}
        count => {
            let _ = write!(text, "; {count} incomplete");
        }
    }
    if state.is_paused {
        text.push_str("  [paused]");
    }
    if let Some(trouble) = &state.trouble {
        let _ = write!(text, "  [{}]", plain(trouble));
    }
    text
}

fn footline(state: &State) -> Line<'static> {
    if state.view == View::Filter {
        return Line::from(format!(
            "filter: {}▏ Enter keeps it, Esc clears it",
            plain(&state.filter)
        ));
    }
    let mut text = match state.view {
        View::Group(_) => "↑↓ scroll  Esc back  p pause  q quit".to_owned(),
        View::Table | View::Filter => format!(
            "sort: {} (b g a, s next)  / filter  Enter stack  p pause  e {}  q quit",
            state.sort.label(),
            if state.shows_quiet { "leaks only" } else { "all" },
        ),
    };
    if !state.filter.is_empty() {
        let _ = write!(text, "  filter: {}", plain(&state.filter));
    }
    if state.hidden > 0 {
        let _ = write!(text, "  ({} not shown)", plural(state.hidden, "group"));
    }
    Line::from(text).dim()
}

fn cells(row: &Row) -> [String; 8] {
    let group = &row.group;
    let growth = match row.per_hour() {
        rate if rate.abs() < 0.05 => String::new(),
        rate => format!("{rate:+.1}"),
    };
    [
        row.pid.to_string(),
        plain(&row.comm),
        group.count.to_string(),
        group.kind.label().to_owned(),
        plain(&group.reason),
        duration(Duration::from_secs_f64(
            group.oldest_blocked_seconds.clamp(0.0, 1e12),
        )),
        growth,
        plain(&group.verdict),
    ]
}

fn table(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let rows = state.rows.iter().map(|row| {
        let cells = cells(row).into_iter().chain([row.place()]).map(Cell::from);
        let style = match row.group.verdict.as_str() {
            "proven" | "leaking" => Style::new().fg(Color::Red),
            "growing" => Style::new().fg(Color::Yellow),
            _ => Style::new(),
        };
        TableRow::new(cells).style(style)
    });
    let widths = WIDTHS
        .map(|width| Constraint::Length(width as u16))
        .into_iter()
        .chain([Constraint::Min(20)]);
    let head = COLUMNS.into_iter().chain(["AT"]);
    let table = Table::new(rows, widths)
        .header(TableRow::new(head).add_modifier(Modifier::UNDERLINED))
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    if state.rows.is_empty() {
        let text = match state.document.taken_at.is_empty() {
            true => "Looking…",
            false => "Nothing is blocked.",
        };
        frame.render_widget(text, area);
        return;
    }
    let mut chosen = TableState::new().with_selected(Some(state.selected));
    frame.render_stateful_widget(table, area, &mut chosen);
}

fn group(frame: &mut Frame<'_>, area: Rect, state: &State, from: usize) {
    let Some(row) = state.row() else { return };
    let lines: Vec<Line<'_>> = group_lines(row).into_iter().map(Line::from).collect();
    let from = from.min(lines.len().saturating_sub(1));
    let text = Paragraph::new(Text::from(lines))
        .wrap(Wrap { trim: false })
        .scroll((u16::try_from(from).unwrap_or(u16::MAX), 0));
    frame.render_widget(text, area);
}

/// A group with all that is known of it.
fn group_lines(row: &Row) -> Vec<String> {
    let group = &row.group;
    let [pid, comm, _, kind, reason, oldest, ..] = cells(row);
    let mut lines = vec![
        String::new(),
        format!(
            "{} of {comm} (pid {pid}) {} {reason}, {}, the oldest for {oldest}",
            plural(group.count, &kind),
            if group.count == 1 { "waits in" } else { "wait in" },
            group.wait_class.label()
        ),
    ];
    let grounds = if group.evidence.is_empty() {
        plain(&group.verdict)
    } else {
        format!("{}: {}", plain(&group.verdict), plain(&group.evidence))
    };
    lines.push(format!("verdict {grounds}"));
    let ids: Vec<String> = group.ids.iter().take(20).map(u64::to_string).collect();
    lines.push(format!("ids {}", ids.join(" ")));
    let sites = [("runs", &group.entry), ("made at", &group.spawn_site)];
    for (what, site) in sites {
        lines.extend(site.as_ref().map(|site| format!("{what} {}", Place::text(site))));
    }
    lines.push(String::new());
    match &group.stack {
        None => {
            lines.push("Its stack is not shown here: see --expose-stacks, or ask the Unix socket.".to_owned())
        }
        Some(frames) => lines.extend(frames.iter().map(|frame| {
            let function = function(frame);
            match (&frame.file, frame.line) {
                (Some(file), Some(line)) => format!("  {function} at {}:{line}", plain(file)),
                _ => format!("  {function}"),
            }
        })),
    }
    lines
}

/// The table as plain lines, for what is no terminal.
pub fn plain_text(state: &State) -> String {
    let mut text = headline(state) + "\n";
    let line = |cells: &[String; 8], place: &str| {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(WIDTHS) {
            let _ = write!(line, "{cell:<width$} ");
        }
        line.push_str(place);
        line.trim_end().to_owned() + "\n"
    };
    text += &line(&COLUMNS.map(str::to_owned), "AT");
    for row in &state.rows {
        text += &line(&cells(row), &row.place());
    }
    if state.hidden > 0 {
        let _ = writeln!(
            text,
            "Not shown: {} that wait for the world, do not grow, or are left out by the filter (--all-groups).",
            plural(state.hidden, "group")
        );
    }
    text
}
