//! The names in an expression, by as much of PromQL's grammar as that takes.

/// A metric, and the labels that are asked of it (`None` where it has no braces).
#[derive(Debug, Default, PartialEq)]
pub struct Used {
    pub metrics: Vec<(String, Vec<String>)>,
    /// In `by (…)`, `without (…)`, `on (…)` and their kin.
    pub grouped_by: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Word(String),
    Sign(char),
}

const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const KEYWORDS: [&str; 6] = ["and", "or", "unless", "offset", "bool", "atan2"];

pub fn used(expression: &str) -> Used {
    let tokens = tokens(expression);
    let mut used = Used::default();
    let mut at = 0;
    while at < tokens.len() {
        let Token::Word(word) = &tokens[at] else {
            // A duration (`[30m]`).
            at += if tokens[at] == Token::Sign('[') { 2 } else { 1 };
            continue;
        };
        let opens = |sign| tokens.get(at + 1) == Some(&Token::Sign(sign));
        if GROUPINGS.contains(&word.as_str()) && opens('(') {
            let (labels, end) = words_until(&tokens, at + 2, ')');
            used.grouped_by.extend(labels);
            at = end;
        } else if word == "offset" {
            at += 2;
        } else if opens('{') {
            let (labels, end) = words_until(&tokens, at + 2, '}');
            used.metrics.push((word.clone(), labels));
            at = end;
        } else {
            let is_number = !word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            // `sum by (…) (…)`
            let is_aggregation =
                matches!(tokens.get(at + 1), Some(Token::Word(next)) if next == "by" || next == "without");
            let is_keyword = KEYWORDS.contains(&word.as_str()) || GROUPINGS.contains(&word.as_str());
            if !(is_number || is_aggregation || is_keyword || opens('(')) {
                used.metrics.push((word.clone(), Vec::new()));
            }
            at += 1;
        }
    }
    used
}

fn words_until(tokens: &[Token], from: usize, end: char) -> (Vec<String>, usize) {
    let inside = tokens[from..]
        .iter()
        .take_while(|token| **token != Token::Sign(end));
    let words = inside.clone().filter_map(|token| match token {
        Token::Word(word) => Some(word.clone()),
        Token::Sign(_) => None,
    });
    (words.collect(), from + inside.clone().count() + 1)
}

/// Words and signs; what stands in quotes or in a comment is left out.
fn tokens(expression: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut characters = expression.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' | '\'' => {
                while let Some(inside) = characters.next().filter(|inside| *inside != character) {
                    if inside == '\\' {
                        characters.next();
                    }
                }
            }
            '#' => while characters.next_if(|inside| *inside != '\n').is_some() {},
            c if c.is_whitespace() => {}
            c if is_of_word(c) => {
                let mut word = String::from(c);
                while let Some(next) = characters.next_if(|next| is_of_word(*next)) {
                    word.push(next);
                }
                tokens.push(Token::Word(word));
            }
            sign => tokens.push(Token::Sign(sign)),
        }
    }
    tokens
}

fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | ':' | '.')
}

#[test]
fn names_are_found_where_they_stand() {
    let expression = r#"# not(this)
        sum by (a, job) (rate(m_one{b="x{y\"}", c=~'z'}[5m] offset 1h)) * on (d) group_left (e) m:two ^ 2 >= 1e3
        or absent(m_three) unless topk(3, m_four)"#;
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        used(expression),
        Used {
            metrics: vec![
                ("m_one".to_owned(), names(&["b", "c"])),
                ("m:two".to_owned(), Vec::new()),
                ("m_three".to_owned(), Vec::new()),
                ("m_four".to_owned(), Vec::new()),
            ],
            grouped_by: names(&["a", "job", "d", "e"]),
        }
    );
}
