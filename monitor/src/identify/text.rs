//! Text of a target: cleaned, and never longer than asked for.

use std::fmt::{self, Write};

/// Stands at the end of what was cut.
const CUT: char = '…';

/// Takes so many characters of what is written into it, and fails on the next: whoever writes a name that has no
/// end (a mangled name can double with each of its bytes) is stopped there.
pub struct Bounded {
    text: String,
    left: usize,
    cut: bool,
}

impl Bounded {
    /// `limit` is in characters, the mark of a cut included; at least 1.
    pub fn new(limit: usize) -> Self {
        Self {
            text: String::new(),
            left: limit,
            cut: false,
        }
    }

    pub fn finish(mut self) -> String {
        if self.cut {
            // The mark takes the place of the last character.
            self.text.pop();
            self.text.push(CUT);
        }
        self.text
    }

    /// Whether something was left out.
    pub fn is_cut(&self) -> bool {
        self.cut
    }
}

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.left == 0 {
                self.cut = true;
                return Err(fmt::Error);
            }
            self.left -= 1;
            self.text.push(harmless(character));
        }
        Ok(())
    }
}

/// At most `limit` characters (at least 1), none of which does anything but show itself.
pub fn clean(text: &str, limit: usize) -> String {
    let mut bounded = Bounded::new(limit);
    // An error is the cut, which `finish` marks.
    let _ = bounded.write_str(text);
    bounded.finish()
}

/// Control characters move the cursor of a terminal; the bidirectional ones (Unicode TR 9) turn the order of what
/// stands around them.
fn harmless(character: char) -> char {
    match character {
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            char::REPLACEMENT_CHARACTER
        }
        character if character.is_control() => char::REPLACEMENT_CHARACTER,
        character => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_stays_and_what_does_not_is_marked() {
        assert_eq!(clean("abc", 3), "abc");
        assert_eq!(clean("abcd", 3), "ab…");
        assert_eq!(clean("äöüß", 4), "äöüß");
        assert_eq!(clean("äöüß!", 4), "äöü…");
        assert_eq!(clean("", 1), "");
    }

    #[test]
    fn characters_that_act_are_replaced() {
        assert_eq!(
            clean("a\u{1b}[31mb\n\u{202e}c", 99),
            "a\u{fffd}[31mb\u{fffd}\u{fffd}c"
        );
    }

    #[test]
    fn a_writer_is_stopped_where_the_text_is_full() {
        let mut bounded = Bounded::new(4);
        let mut written = 0;
        while bounded.write_str("abc").is_ok() {
            written += 1;
        }
        assert_eq!(written, 1);
        assert!(bounded.is_cut());
        assert_eq!(bounded.finish(), "abc…");
    }
}
