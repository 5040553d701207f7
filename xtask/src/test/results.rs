//! What libtest says at the end of each test program, added up.

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    pub passed: usize,
    pub failed: usize,
    pub ignored: usize,
}

impl Counts {
    /// Adds `test result: ok. 12 passed; 0 failed; 1 ignored; …`; any other line adds nothing.
    pub fn add(&mut self, line: &str) {
        let Some((_, numbers)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in numbers.trim_end().split("; ") {
            let Some((number, what)) = part.split_once(' ') else {
                continue;
            };
            let Ok(number) = number.parse::<usize>() else {
                continue;
            };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

/// The last line. A skipped test has passed in libtest's eyes, an ignored one has not; a check that failed beside
/// the tests counts as a failure too, so that the line never says 0 when something is wrong.
pub fn summary(counts: Counts, skipped: usize, failed_checks: usize) -> String {
    format!(
        "{} passed, {} failed, {} skipped",
        counts.passed.saturating_sub(skipped),
        counts.failed + failed_checks,
        skipped + counts.ignored
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_programs_add_up() {
        let mut counts = Counts::default();
        for line in [
            "running 13 tests",
            "test detect::age ... ok",
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n",
            "test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured; 3 filtered out; finished in 1.20s",
            "  test result: ok. 100 passed; 0 failed",
            "test result: nonsense",
        ] {
            counts.add(line);
        }
        assert_eq!(
            counts,
            Counts {
                passed: 19,
                failed: 2,
                ignored: 1
            }
        );
    }

    #[test]
    fn a_skipped_test_has_not_passed() {
        let counts = Counts {
            passed: 19,
            failed: 0,
            ignored: 1,
        };
        assert_eq!(summary(counts, 4, 0), "15 passed, 0 failed, 5 skipped");
    }

    #[test]
    fn a_failed_check_is_never_a_clean_line() {
        assert_eq!(summary(Counts::default(), 0, 1), "0 passed, 1 failed, 0 skipped");
    }
}
