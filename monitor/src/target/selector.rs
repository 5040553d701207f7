//! The user's choice of processes.

use globset::{Glob, GlobMatcher};
use regex::Regex;

use super::process::Candidate;

/// Flags of one kind are alternatives; flags of different kinds must all match.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    pub pids: Vec<u32>,
    pub comms: Vec<Regex>,
    pub exes: Vec<Regex>,
    pub cgroups: Vec<GlobMatcher>,
    /// Processes whose name or executable matches one of these are left out.
    pub excludes: Vec<Regex>,
}

#[derive(Debug, thiserror::Error)]
pub enum SelectorError {
    #[error("`{text}` is not a regular expression: {cause}")]
    Regex { text: String, cause: String },
    #[error("`{text}` is not a glob: {cause}")]
    Glob { text: String, cause: String },
}

impl Selector {
    /// # Errors
    /// When an expression does not parse; the message has the offending text.
    pub fn new(
        pids: &[u32],
        comms: &[String],
        exes: &[String],
        cgroups: &[String],
        excludes: &[String],
    ) -> Result<Self, SelectorError> {
        Ok(Self {
            pids: pids.to_vec(),
            comms: regexes(comms)?,
            exes: regexes(exes)?,
            cgroups: cgroups.iter().map(|text| glob(text)).collect::<Result<_, _>>()?,
            excludes: regexes(excludes)?,
        })
    }

    /// Whether every process is watched.
    pub fn is_all(&self) -> bool {
        self.pids.is_empty()
            && self.comms.is_empty()
            && self.exes.is_empty()
            && self.cgroups.is_empty()
            && self.excludes.is_empty()
    }

    /// Whether a fork of a matching process matches as well: a pid is chosen alone.
    pub fn includes_forks(&self) -> bool {
        self.pids.is_empty()
    }

    /// Reads of the candidate only what the selector asks about.
    pub fn matches(&self, candidate: &Candidate) -> bool {
        fn any<T>(list: &[T], matches: impl Fn(&T) -> bool) -> bool {
            list.is_empty() || list.iter().any(matches)
        }
        if !any(&self.pids, |pid| *pid == candidate.id.pid) {
            return false;
        }
        let comm = candidate.comm.clone();
        if !any(&self.comms, |regex| regex.is_match(&comm)) {
            return false;
        }
        if !self.exes.is_empty() && !any(&self.exes, |regex| regex.is_match(candidate.exe())) {
            return false;
        }
        if !self.cgroups.is_empty() {
            let paths = candidate.cgroup_paths();
            if !any(&self.cgroups, |glob| paths.iter().any(|path| glob.is_match(path))) {
                return false;
            }
        }
        !self
            .excludes
            .iter()
            .any(|regex| regex.is_match(&comm) || regex.is_match(candidate.exe()))
    }
}

fn regexes(texts: &[String]) -> Result<Vec<Regex>, SelectorError> {
    let parse = |text: &String| {
        Regex::new(text).map_err(|error| SelectorError::Regex {
            text: text.clone(),
            cause: error.to_string(),
        })
    };
    texts.iter().map(parse).collect()
}

fn glob(text: &str) -> Result<GlobMatcher, SelectorError> {
    Glob::new(text)
        .map(|glob| glob.compile_matcher())
        .map_err(|error| SelectorError::Glob {
            text: text.to_owned(),
            cause: error.kind().to_string(),
        })
}
