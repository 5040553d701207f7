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

/// Which tests failed: the names that libtest lists last, program by program.
#[derive(Default)]
pub struct Failures {
    listed: Option<Vec<String>>,
    names: Vec<String>,
    is_running: bool,
    is_incomplete: bool,
}

impl Failures {
    pub fn add(&mut self, line: &str) {
        let line = line.trim_end();
        if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
            self.is_incomplete |= self.is_running;
            self.is_running = true;
        } else if line.starts_with("test result: ") {
            self.is_running = false;
            self.names.extend(self.listed.take().unwrap_or_default());
        } else if line == "failures:" {
            // The first one stands above what the tests printed, the last one above the names alone.
            self.listed = Some(Vec::new());
        } else if let (Some(listed), Some(name)) = (&mut self.listed, line.strip_prefix("    ")) {
            listed.push(name.to_owned());
        }
    }

    /// `None`: a test program ended without its result, and nobody knows what failed in it.
    pub fn names(self) -> Option<Vec<String>> {
        (!self.is_running && !self.is_incomplete).then_some(self.names)
    }
}

/// The last line. A skipped test has passed in libtest's eyes, an ignored one has not; a check that failed beside
/// the tests counts as a failure too, so that the line never says 0 when something is wrong.
pub fn summary(counts: Counts, skipped: usize, failed_checks: usize, unsteady: usize) -> String {
    let line = format!(
        "{} passed, {} failed, {} skipped",
        counts.passed.saturating_sub(skipped),
        counts.failed + failed_checks,
        skipped + counts.ignored
    );
    match unsteady {
        0 => line,
        _ => format!("{line}; {unsteady} of the passed only when run again"),
    }
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

    fn failed(lines: &[&str]) -> Option<Vec<String>> {
        let mut failures = Failures::default();
        for line in lines {
            failures.add(line);
        }
        failures.names()
    }

    #[test]
    fn the_last_names_are_those_that_failed() {
        let names = failed(&[
            "    indented",
            "running 9 tests",
            "test a::b ... FAILED",
            "failures:",
            "---- a::b stdout ----",
            "    not a name",
            "failures:",
            "    a::b\n",
            "    c",
            "",
            "test result: FAILED. 7 passed; 2 failed; 0 ignored; 0 measured",
            "    indented",
            "running 1 test",
            "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured",
        ]);
        assert_eq!(names.unwrap(), ["a::b", "c"]);
    }

    #[test]
    fn of_a_program_that_died_nobody_knows_what_failed() {
        let died = ["running 3 tests", "test a ... ok"];
        let other = [
            "running 1 test",
            "failures:",
            "    b",
            "test result: FAILED. 0 passed; 1 failed;",
        ];
        assert_eq!(failed(&[&died[..], &other].concat()), None);
        assert_eq!(failed(&[&other[..], &died].concat()), None);
        assert_eq!(failed(&other).unwrap(), ["b"]);
    }

    #[test]
    fn a_skipped_test_has_not_passed() {
        let counts = Counts {
            passed: 19,
            failed: 0,
            ignored: 1,
        };
        assert_eq!(summary(counts, 4, 0, 0), "15 passed, 0 failed, 5 skipped");
    }

    #[test]
    fn who_passed_at_the_second_run_is_not_hidden() {
        let counts = Counts {
            passed: 19,
            ..Counts::default()
        };
        let line = "19 passed, 0 failed, 0 skipped; 1 of the passed only when run again";
        assert_eq!(summary(counts, 0, 0, 1), line);
    }

    #[test]
    fn a_failed_check_is_never_a_clean_line() {
        assert_eq!(
            summary(Counts::default(), 0, 1, 0),
            "0 passed, 1 failed, 0 skipped"
        );
    }
}
