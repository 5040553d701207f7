//! What `top` shows, and what keys do to it. Draws nothing and reads nothing.

use std::cmp::Ordering;

use clap::ValueEnum;

use super::rows::{Document, Row, RowId};

/// What the rows are in order of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// How many are blocked
    #[default]
    Blocked,
    /// How many more they become in an hour
    Growth,
    /// How long the oldest waits
    Age,
}

impl Sort {
    pub const fn label(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Growth => "growth",
            Self::Age => "age",
        }
    }

    const fn next(self) -> Self {
        match self {
            Self::Blocked => Self::Growth,
            Self::Growth => Self::Age,
            Self::Age => Self::Blocked,
        }
    }

    fn compare(self, a: &Row, b: &Row) -> Ordering {
        let alarms = b.is_alarm().cmp(&a.is_alarm());
        let by = match self {
            Self::Blocked => b.group.count.cmp(&a.group.count),
            Self::Growth => b.per_hour().total_cmp(&a.per_hour()),
            Self::Age => b
                .group
                .oldest_blocked_seconds
                .total_cmp(&a.group.oldest_blocked_seconds),
        };
        // Leaks come first, whatever the order.
        alarms.then(by).then_with(|| a.pid.cmp(&b.pid))
    }
}

/// A key, as far as it means something here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Enter,
    Escape,
    Backspace,
    Char(char),
}

/// What is in front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum View {
    #[default]
    Table,
    /// The filter is being written.
    Filter,
    /// One group with its stack, from this line on.
    Group(usize),
}

#[derive(Debug, Default)]
pub struct State {
    pub document: Document,
    /// Those that are shown, in their order.
    pub rows: Vec<Row>,
    pub hidden: usize,
    pub selected: usize,
    chosen: Option<RowId>,
    pub sort: Sort,
    pub filter: String,
    pub shows_quiet: bool,
    pub is_paused: bool,
    pub view: View,
    pub is_over: bool,
    /// Why there is nothing newer.
    pub trouble: Option<String>,
}

/// Rows that a page is.
const PAGE: usize = 10;

impl State {
    pub fn new(sort: Sort, filter: String, shows_quiet: bool) -> Self {
        Self {
            sort,
            filter,
            shows_quiet,
            ..Self::default()
        }
    }

    /// A new snapshot has come.
    pub fn take(&mut self, document: Document) {
        self.trouble = None;
        if !self.is_paused {
            self.document = document;
            self.arrange();
        }
    }

    /// Puts the rows in order anew; the chosen one stays chosen wherever it goes.
    pub fn arrange(&mut self) {
        let all = self.document.rows();
        let count = all.len();
        let is_shown = |row: &Row| {
            (self.shows_quiet || !row.is_quiet()) && (self.filter.is_empty() || row.has(&self.filter))
        };
        self.rows = all.into_iter().filter(is_shown).collect();
        self.hidden = count - self.rows.len();
        let sort = self.sort;
        self.rows.sort_by(|a, b| sort.compare(a, b));
        let place = self
            .chosen
            .as_ref()
            .and_then(|id| self.rows.iter().position(|row| row.id() == *id));
        // Until somebody chooses, it is a place and not a group.
        self.selected = place.unwrap_or(self.selected.min(self.rows.len().saturating_sub(1)));
        if place.is_none() {
            self.chosen = None;
            // It is gone: so is what was shown of it.
            if let View::Group(_) = self.view {
                self.view = View::Table;
            }
        }
    }

    /// The chosen row.
    pub fn row(&self) -> Option<&Row> {
        self.rows.get(self.selected)
    }

    pub fn press(&mut self, key: Key) {
        match self.view {
            View::Filter => self.press_in_filter(key),
            View::Group(from) => self.press_in_group(key, from),
            View::Table => self.press_in_table(key),
        }
    }

    fn press_in_table(&mut self, key: Key) {
        match key {
            Key::Up | Key::Char('k') => self.choose(self.selected.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.choose(self.selected + 1),
            Key::PageUp => self.choose(self.selected.saturating_sub(PAGE)),
            Key::PageDown => self.choose(self.selected + PAGE),
            Key::Home => self.choose(0),
            Key::End => self.choose(usize::MAX),
            Key::Enter if self.row().is_some() => {
                self.choose(self.selected);
                self.view = View::Group(0);
            }
            Key::Escape => self.set_filter(String::new()),
            Key::Char('/') => self.view = View::Filter,
            Key::Char('s') => self.set_sort(self.sort.next()),
            Key::Char('b') => self.set_sort(Sort::Blocked),
            Key::Char('g') => self.set_sort(Sort::Growth),
            Key::Char('a') => self.set_sort(Sort::Age),
            Key::Char('p' | ' ') => self.is_paused = !self.is_paused,
            Key::Char('e') => {
                self.shows_quiet = !self.shows_quiet;
                self.arrange();
            }
            Key::Char('q') => self.is_over = true,
            _ => {}
        }
    }

    fn press_in_filter(&mut self, key: Key) {
        let mut filter = self.filter.clone();
        match key {
            Key::Char(character) => filter.push(character),
            Key::Backspace => {
                filter.pop();
            }
            Key::Enter => self.view = View::Table,
            Key::Escape => {
                filter.clear();
                self.view = View::Table;
            }
            _ => {}
        }
        self.set_filter(filter);
    }

    fn press_in_group(&mut self, key: Key, from: usize) {
        match key {
            Key::Up | Key::Char('k') => self.view = View::Group(from.saturating_sub(1)),
            Key::Down | Key::Char('j') => self.view = View::Group(from + 1),
            Key::PageUp => self.view = View::Group(from.saturating_sub(PAGE)),
            Key::PageDown => self.view = View::Group(from + PAGE),
            Key::Home => self.view = View::Group(0),
            Key::Enter | Key::Escape | Key::Backspace => self.view = View::Table,
            Key::Char('p' | ' ') => self.is_paused = !self.is_paused,
            Key::Char('q') => self.is_over = true,
            _ => {}
        }
    }

    fn choose(&mut self, place: usize) {
        self.selected = place.min(self.rows.len().saturating_sub(1));
        self.chosen = self.row().map(Row::id);
    }

    fn set_sort(&mut self, sort: Sort) {
        self.sort = sort;
        self.arrange();
    }

    fn set_filter(&mut self, filter: String) {
        self.filter = filter;
        self.arrange();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::rows::parse;

    /// Groups: function, how many, growth, age, class, verdict.
    fn document(groups: &[(&str, u32, f64, f64, &str, &str)]) -> Document {
        let groups: Vec<_> = groups
            .iter()
            .map(|(function, count, per_hour, age, class, verdict)| {
                serde_json::json!({
                    "kind": "thread", "reason": "futex", "wait_class": class, "count": count,
                    "verdict": verdict, "growth": {"per_hour": per_hour}, "evidence": "",
                    "oldest_blocked_seconds": age, "block_site": {"function": function}, "entry": null,
                    "spawn_site": null, "ids": [1]
                })
            })
            .collect();
        let document = serde_json::json!({
            "schema": 1, "taken_at": "now",
            "processes": [{"pid": 7, "comm": "api", "incomplete": [], "tasks": {"thread": 9}, "groups": groups}]
        });
        parse(document.to_string().as_bytes()).unwrap()
    }

    fn state() -> State {
        let mut state = State::default();
        state.take(document(&[
            ("lock", 5, 1.0, 300.0, "internal", "unknown"),
            ("join", 9, 0.0, 20.0, "internal", "unknown"),
            ("send", 2, 60.0, 100.0, "internal", "growing"),
            ("accept", 50, 0.0, 900.0, "external", "unknown"),
            ("pool", 70, 0.0, 900.0, "internal", "stable"),
        ]));
        state
    }

    fn functions(state: &State) -> Vec<String> {
        state.rows.iter().map(Row::place).collect()
    }

    fn press(state: &mut State, keys: &str) {
        for key in keys.chars() {
            state.press(match key {
                '\n' => Key::Enter,
                '\u{1b}' => Key::Escape,
                '\u{8}' => Key::Backspace,
                other => Key::Char(other),
            });
        }
    }

    #[test]
    fn leaks_come_first_and_quiet_groups_when_asked_for() {
        let mut state = state();
        assert_eq!(functions(&state), ["send", "join", "lock"]);
        assert_eq!(state.hidden, 2);
        press(&mut state, "a");
        assert_eq!(functions(&state), ["send", "lock", "join"]);
        press(&mut state, "s");
        assert_eq!(state.sort, Sort::Blocked);
        press(&mut state, "e");
        assert_eq!(functions(&state), ["send", "pool", "accept", "join", "lock"]);
    }

    #[test]
    fn the_filter_narrows_as_it_is_written_and_its_letters_are_no_commands() {
        let mut state = state();
        press(&mut state, "/JOI");
        assert_eq!(functions(&state), ["join"]);
        press(&mut state, "\u{8}q");
        assert!(!state.is_over && state.rows.is_empty());
        press(&mut state, "\u{8}\n");
        assert_eq!(
            (functions(&state), &state.view),
            (vec!["join".to_owned()], &View::Table)
        );
        press(&mut state, "\u{1b}");
        assert_eq!(state.rows.len(), 3);
        press(&mut state, "q");
        assert!(state.is_over);
    }

    #[test]
    fn the_chosen_group_stays_chosen_wherever_it_goes() {
        let mut state = state();
        press(&mut state, "jj");
        assert_eq!(state.row().unwrap().place(), "lock");
        press(&mut state, "a");
        assert_eq!(state.row().unwrap().place(), "lock");
        press(&mut state, "\n");
        assert_eq!(state.view, View::Group(0));
        state.take(document(&[("join", 9, 0.0, 20.0, "internal", "unknown")]));
        assert_eq!((state.view.clone(), state.selected), (View::Table, 0));
        press(&mut state, "jjjj");
        assert_eq!(state.row().unwrap().place(), "join");
    }

    #[test]
    fn what_nobody_has_chosen_is_the_first_whoever_that_is() {
        let mut state = State::default();
        state.take(document(&[("join", 9, 0.0, 20.0, "internal", "unknown")]));
        state.take(document(&[
            ("join", 9, 0.0, 20.0, "internal", "unknown"),
            ("lock", 10, 0.0, 20.0, "internal", "unknown"),
        ]));
        assert_eq!(state.row().unwrap().place(), "lock");
        press(&mut state, "\n");
        state.take(document(&[
            ("send", 99, 0.0, 20.0, "internal", "unknown"),
            ("lock", 10, 0.0, 20.0, "internal", "unknown"),
        ]));
        assert_eq!(
            (state.row().unwrap().place().as_str(), &state.view),
            ("lock", &View::Group(0))
        );
    }

    #[test]
    fn while_it_is_paused_nothing_moves() {
        let mut state = state();
        press(&mut state, "p");
        state.take(document(&[]));
        assert_eq!(state.rows.len(), 3);
        press(&mut state, "p");
        state.take(document(&[]));
        assert!(state.rows.is_empty() && state.row().is_none());
        press(&mut state, "\nkj");
        assert_eq!(state.view, View::Table);
    }

    #[test]
    fn another_schema_is_named() {
        let error = parse(br#"{"schema": 2, "taken_at": "", "processes": []}"#).unwrap_err();
        assert!(error.contains("schema 2"));
        assert!(parse(b"<html>").is_err());
    }
}
