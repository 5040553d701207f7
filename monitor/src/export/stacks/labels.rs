//! What a program calls its goroutines: as the Go runtime prints it, and for people.

use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write as _,
    sync::Arc,
};

use crate::{
    export::text::plain,
    model::{Labels, Task},
};

/// Keys that a line shows.
const SHOWN: usize = 8;

/// The labels of a task.
pub fn of(task: &Task) -> Option<&Arc<Labels>> {
    task.facts.as_ref()?.trace.as_ref()?.labels.as_ref()
}

/// Behind the state of a goroutine (runtime/traceback.go, `goroutineheader`, from Go 1.27 on): quoted where they must be.
pub fn bare(labels: &Labels) -> String {
    let text = |text: &str| match needs_quotes(text) {
        true => quoted(text),
        false => text.to_owned(),
    };
    listed(labels, text)
}

/// With its state, each in quotes (the same of Go 1.26).
pub fn in_quotes(labels: &Labels) -> String {
    listed(labels, quoted)
}

fn listed(labels: &Labels, form: impl Fn(&str) -> String) -> String {
    let pairs = labels.pairs.iter();
    let pairs: Vec<String> = pairs
        .map(|(key, value)| format!("{}: {}", form(key), form(value)))
        .collect();
    format!("{{{}}}", pairs.join(", "))
}

/// `tracebackStringNeedsQuoting`.
fn needs_quotes(text: &str) -> bool {
    text.chars()
        .any(|character| !character.is_ascii_alphanumeric() && !"./_".contains(character))
}

/// `printquoted` (runtime/print.go).
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        let _ = match character {
            '\n' => write!(quoted, "\\n"),
            '\r' => write!(quoted, "\\r"),
            '\t' => write!(quoted, "\\t"),
            '\\' | '"' => write!(quoted, "\\{character}"),
            ' '..='~' => write!(quoted, "{character}"),
            _ => match u32::from(character) {
                code @ ..0x7f => write!(quoted, "\\x{code:02x}"),
                code @ ..0x1_0000 => write!(quoted, "\\u{code:04x}"),
                code => write!(quoted, "\\U{code:08x}"),
            },
        };
    }
    quoted + "\""
}

/// Those of several tasks in one line: of each key its value, or how many different ones there are; `None` where none has
/// any.
pub fn line(tasks: &[&Task]) -> Option<String> {
    let mut values: BTreeMap<&str, (usize, HashSet<&str>)> = BTreeMap::new();
    let mut truncated = false;
    for labels in tasks.iter().filter_map(|task| of(task)) {
        truncated |= labels.truncated;
        for (key, value) in &labels.pairs {
            let (count, values) = values.entry(key).or_default();
            *count += 1;
            values.insert(value);
        }
    }
    if values.is_empty() && !truncated {
        return None;
    }
    truncated |= values.len() > SHOWN;
    let all = tasks.len();
    let mut parts: Vec<String> = values
        .iter()
        .take(SHOWN)
        .map(|(key, (count, values))| {
            let key = plain(key);
            let what = match (values.len(), values.iter().next()) {
                (1, Some(value)) => format!("{key}={}", plain(value)),
                (different, _) => format!("{key} ({different} different)"),
            };
            match *count {
                count if count < all => format!("{what} of {count}"),
                _ => what,
            }
        })
        .collect();
    if truncated {
        parts.push("…".to_owned());
    }
    Some(parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels {
            pairs: pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            truncated: false,
        }
    }

    #[test]
    fn they_are_quoted_as_the_runtime_quotes_them() {
        let some = labels(&[
            ("path", "/api/v1.0_x"),
            ("who", "a b"),
            ("é", "\"\\\n\u{1}\u{7f}😀"),
        ]);
        assert_eq!(
            bare(&some),
            r#"{path: /api/v1.0_x, who: "a b", "\u00e9": "\"\\\n\x01\u007f\U0001f600"}"#
        );
        assert_eq!(
            in_quotes(&labels(&[("a", "b"), ("c", "")])),
            r#"{"a": "b", "c": ""}"#
        );
        assert_eq!(bare(&labels(&[("a", "")])), "{a: }");
    }
}
