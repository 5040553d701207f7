//! Flags, environment and file become one checked configuration.
//!
//! Every option of `run` has the same name as a flag (`--blocked-after`), as an environment variable
//! (`TASKLEAK_BLOCKED_AFTER`) and as a key of the TOML file (`blocked-after`). A flag wins over the
//! environment, the environment over the file.

use std::{net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, builder::BoolishValueParser};
use serde::Deserialize;

use crate::{pipeline, target::Selector};

/// Where `run` listens unless told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9435";

/// A length of time in words: `500ms`, `10s`, `1m 30s`, `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|error| format!("`{text}` is not a duration such as 500ms, 10s or 2m ({error})"))
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Level of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<Level> for log::LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Off => Self::Off,
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
            Level::Trace => Self::Trace,
        }
    }
}

/// Which processes, and how they are looked at: what `run` and `snapshot` have in common.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Watch {
    /// Watch every process (the default when nothing is selected)
    #[arg(long, env = "TASKLEAK_ALL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = BoolishValueParser::new(), help_heading = "Which processes")]
    pub all: Option<bool>,
    /// Watch these processes; several with commas or several flags
    #[arg(long, env = "TASKLEAK_PID", value_name = "PID", value_delimiter = ',', help_heading = "Which processes",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub pid: Vec<u32>,
    /// Watch processes whose name matches this regular expression
    #[arg(
        long,
        env = "TASKLEAK_COMM",
        value_name = "RE",
        help_heading = "Which processes"
    )]
    pub comm: Vec<String>,
    /// Watch processes the path of whose executable matches this regular expression
    #[arg(
        long,
        env = "TASKLEAK_EXE",
        value_name = "RE",
        help_heading = "Which processes"
    )]
    pub exe: Vec<String>,
    /// Watch processes in cgroups whose path matches this glob (`*` matches slashes as well)
    #[arg(
        long,
        env = "TASKLEAK_CGROUP",
        value_name = "GLOB",
        help_heading = "Which processes"
    )]
    pub cgroup: Vec<String>,
    /// Leave out processes whose name or executable matches this regular expression
    #[arg(
        long,
        env = "TASKLEAK_EXCLUDE",
        value_name = "RE",
        help_heading = "Which processes"
    )]
    pub exclude: Vec<String>,
    /// A task is blocked when it has waited this long without a timeout [default: 60s for run, 1s for snapshot]
    #[arg(
        long,
        env = "TASKLEAK_BLOCKED_AFTER",
        value_name = "DURATION",
        help_heading = "How to look"
    )]
    pub blocked_after: Option<Span>,
    /// Attach no futex probes: the sweep alone (waits that signals interrupt then look younger)
    #[arg(long, env = "TASKLEAK_NO_FUTEX_PROBES", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new(), help_heading = "How to look")]
    pub no_futex_probes: Option<bool>,
    /// Groups of a process that have metrics of their own; the rest are summed under `other` [default: 50]
    #[arg(long, env = "TASKLEAK_MAX_GROUPS", value_name = "N", help_heading = "Bounds",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub max_groups: Option<u32>,
    /// Ids of tasks that are listed of a group [default: 100]
    #[arg(long, env = "TASKLEAK_MAX_IDS", value_name = "N", help_heading = "Bounds",
          value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub max_ids: Option<u32>,
    /// Threads whose futex waits the probes can hold [default: 65536]
    #[arg(long, env = "TASKLEAK_MAX_THREADS", value_name = "N", help_heading = "Bounds",
          value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub max_threads: Option<u32>,
    /// Print messages of the eBPF programs of this level and above [default: off]
    #[arg(
        long,
        env = "TASKLEAK_BPF_LOG",
        value_name = "LEVEL",
        help_heading = "Messages"
    )]
    pub bpf_log: Option<Level>,
}

/// Options of `run`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RunOptions {
    /// Address and port of the web server [default: 127.0.0.1:9435]
    #[arg(long, env = "TASKLEAK_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Name under which the web server may be asked for, beside addresses and localhost
    #[arg(long, env = "TASKLEAK_ALLOW_HOST", value_name = "NAME", value_delimiter = ',')]
    pub allow_host: Vec<String>,
    /// Time between sweeps; each is moved by up to a tenth of it at random [default: 10s]
    #[arg(long, env = "TASKLEAK_INTERVAL", value_name = "DURATION")]
    pub interval: Option<Span>,
    /// Export the run time of the eBPF programs; the kernel then measures every eBPF program of the host, which
    /// slows them
    #[arg(long, env = "TASKLEAK_BPF_STATS", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = BoolishValueParser::new())]
    pub bpf_stats: Option<bool>,
}

/// A wrong configuration; the message names the offending text.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration file {path} cannot be read: {cause}")]
    Unreadable { path: PathBuf, cause: std::io::Error },
    #[error("the configuration file {path} is wrong: {cause}")]
    Malformed { path: PathBuf, cause: String },
    #[error("the configuration file {path} has an unknown key `{key}`; known keys: {known}")]
    UnknownKey {
        path: PathBuf,
        key: String,
        known: String,
    },
    #[error("{0}")]
    Contradiction(String),
    #[error(transparent)]
    Selector(#[from] crate::target::SelectorError),
}

/// Everything that `run` needs.
#[derive(Clone, Debug)]
pub struct RunConfig {
    pub monitor: pipeline::Options,
    pub listen: SocketAddr,
    pub allowed_hosts: Vec<String>,
    pub interval: Duration,
}

/// Keys of a file: the names of the flags of `run`, but for those that only make sense as flags.
fn known_keys() -> Vec<String> {
    let command = RunOptions::augment_args(Watch::augment_args(clap::Command::new("run")));
    command
        .get_arguments()
        .filter_map(|arg| arg.get_long())
        .map(str::to_owned)
        .collect()
}

/// Takes from a file what neither flags nor environment have said.
macro_rules! fill {
    ($target:expr, $file:expr, lists: $($list:ident),*; options: $($option:ident),*) => {
        $(if $target.$list.is_empty() { $target.$list = $file.$list; })*
        $($target.$option = $target.$option.or($file.$option);)*
    };
}

/// Adds a TOML file to what flags and environment said.
///
/// # Errors
/// When it cannot be read, is no TOML, has keys that do not exist, or values that are wrong.
pub fn merge_file(path: &PathBuf, watch: &mut Watch, run: &mut RunOptions) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable {
        path: path.clone(),
        cause,
    })?;
    let malformed = |error: toml::de::Error| ConfigError::Malformed {
        path: path.clone(),
        cause: error.to_string(),
    };
    let table: toml::Table = toml::from_str(&text).map_err(malformed)?;
    let known = known_keys();
    if let Some(key) = table.keys().find(|key| !known.contains(key)) {
        return Err(ConfigError::UnknownKey {
            path: path.clone(),
            key: key.clone(),
            known: known.join(", "),
        });
    }
    // From the text again, not from the table: so the errors show the line.
    let file_watch: Watch = toml::from_str(&text).map_err(malformed)?;
    let file_run: RunOptions = toml::from_str(&text).map_err(malformed)?;
    fill!(watch, file_watch, lists: pid, comm, exe, cgroup, exclude;
          options: all, blocked_after, no_futex_probes, max_groups, max_ids, max_threads, bpf_log);
    fill!(run, file_run, lists: allow_host; options: listen, interval, bpf_stats);
    Ok(())
}

impl Watch {
    /// Options of the pipeline, with defaults filled in.
    ///
    /// # Errors
    /// When options contradict each other, or an expression does not parse.
    pub fn check(
        &self,
        default_threshold: Duration,
        bpf_stats: bool,
    ) -> Result<pipeline::Options, ConfigError> {
        let chosen =
            !(self.pid.is_empty() && self.comm.is_empty() && self.exe.is_empty() && self.cgroup.is_empty());
        if self.all == Some(true) && chosen {
            return Err(contradiction(
                "--all watches every process: leave out --pid, --comm, --exe and --cgroup",
            ));
        }
        // A file is not checked by clap.
        let within = |name: &str, value: Option<u32>, default: u32, least: u32, most: u32| match value
            .unwrap_or(default)
        {
            value if (least..=most).contains(&value) => Ok(value),
            value => Err(contradiction(&format!(
                "{name} is {value}, but must be from {least} to {most}"
            ))),
        };
        if self.pid.contains(&0) {
            return Err(contradiction("pid 0 is no process"));
        }
        Ok(pipeline::Options {
            selector: Selector::new(&self.pid, &self.comm, &self.exe, &self.cgroup, &self.exclude)?,
            threshold: positive("blocked-after", self.blocked_after, default_threshold)?,
            futex_probes: self.no_futex_probes != Some(true),
            max_threads: within("max-threads", self.max_threads, 65_536, 1, 4_194_304)?,
            max_groups: within("max-groups", self.max_groups, 50, 1, 10_000)? as usize,
            max_ids: within("max-ids", self.max_ids, 100, 0, 1_000_000)? as usize,
            bpf_log: self.bpf_log.unwrap_or(Level::Off).into(),
            bpf_stats,
        })
    }
}

impl RunOptions {
    /// The whole configuration of `run`.
    ///
    /// # Errors
    /// As [`Watch::check`].
    pub fn check(&self, watch: &Watch) -> Result<RunConfig, ConfigError> {
        let interval = positive("interval", self.interval, Duration::from_secs(10))?;
        if interval < Duration::from_millis(100) {
            return Err(contradiction("interval must be at least 100ms"));
        }
        let default_listen = || {
            DEFAULT_LISTEN
                .parse()
                .map_err(|_| contradiction("bad default address"))
        };
        Ok(RunConfig {
            monitor: watch.check(Duration::from_secs(60), self.bpf_stats == Some(true))?,
            listen: self.listen.map_or_else(default_listen, Ok)?,
            allowed_hosts: self.allow_host.clone(),
            interval,
        })
    }
}

fn positive(name: &str, value: Option<Span>, default: Duration) -> Result<Duration, ConfigError> {
    match value.map_or(default, |span| span.0) {
        Duration::ZERO => Err(contradiction(&format!("{name} must be longer than 0"))),
        value => Ok(value),
    }
}

fn contradiction(text: &str) -> ConfigError {
    ConfigError::Contradiction(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(text: &str, watch: Watch, run: RunOptions) -> Result<(Watch, RunOptions), String> {
        let path = std::env::temp_dir().join(format!(
            "taskleak-config-{}-{}",
            std::process::id(),
            fastrand::u64(..)
        ));
        std::fs::write(&path, text).unwrap();
        let (mut watch, mut run) = (watch, run);
        let merged = merge_file(&path, &mut watch, &mut run).map_err(|error| error.to_string());
        std::fs::remove_file(path).unwrap();
        merged.map(|()| (watch, run))
    }

    #[test]
    fn a_flag_wins_over_the_file() {
        let flags = Watch {
            blocked_after: Some(Span(Duration::from_secs(5))),
            ..Watch::default()
        };
        let text = "blocked-after = \"9s\"\ncomm = [\"api\"]\ninterval = \"2s\"\nlisten = \"127.0.0.1:1\"\n";
        let (watch, run) = merged(text, flags, RunOptions::default()).unwrap();
        assert_eq!(watch.blocked_after, Some(Span(Duration::from_secs(5))));
        assert_eq!(watch.comm, ["api"]);
        let config = run.check(&watch).unwrap();
        assert_eq!(config.interval, Duration::from_secs(2));
        assert_eq!(config.listen.port(), 1);
    }

    #[test]
    fn wrong_files_are_named_with_the_offending_text() {
        let fails = |text| merged(text, Watch::default(), RunOptions::default()).unwrap_err();
        assert!(fails("intervall = \"2s\"").contains("unknown key `intervall`"));
        assert!(fails("interval = \"soon\"").contains("`soon` is not a duration"));
        assert!(fails("pid = \"x\"").contains("pid = \"x\""));
        assert!(fails("pid = [").contains("pid = ["));
        assert!(fails("listen = \"nowhere\"").contains("nowhere"));
    }

    #[test]
    fn contradictions_are_named() {
        let fails = |watch: Watch| RunOptions::default().check(&watch).unwrap_err().to_string();
        let all_and_pid = Watch {
            all: Some(true),
            pid: vec![1],
            ..Watch::default()
        };
        assert!(fails(all_and_pid).contains("--all watches every process"));
        let zero = Watch {
            blocked_after: Some(Span(Duration::ZERO)),
            ..Watch::default()
        };
        assert!(fails(zero).contains("blocked-after must be longer than 0"));
        let many = Watch {
            max_groups: Some(0),
            ..Watch::default()
        };
        assert!(fails(many).contains("max-groups is 0, but must be from 1 to 10000"));
    }

    #[test]
    fn every_key_of_a_file_is_taken() {
        let text = "all = false\npid = [1]\ncomm = [\"a\"]\nexe = [\"b\"]\ncgroup = [\"c\"]\nexclude = [\"d\"]\n\
                    blocked-after = \"1s\"\nno-futex-probes = true\nmax-groups = 2\nmax-ids = 3\nmax-threads = 4\n\
                    bpf-log = \"warn\"\nlisten = \"127.0.0.1:1\"\nallow-host = [\"n\"]\ninterval = \"1s\"\nbpf-stats = true\n";
        let (watch, run) = merged(text, Watch::default(), RunOptions::default()).unwrap();
        assert_eq!(known_keys().len(), text.lines().count(), "{:?}", known_keys());
        let config = run.check(&watch).unwrap();
        assert!(!config.monitor.futex_probes && config.monitor.bpf_stats);
        assert_eq!(
            (
                config.monitor.max_groups,
                config.monitor.max_ids,
                config.monitor.max_threads
            ),
            (2, 3, 4)
        );
        assert_eq!(config.monitor.bpf_log, log::LevelFilter::Warn);
        assert_eq!(config.allowed_hosts, ["n"]);
        let selector = &config.monitor.selector;
        assert_eq!(
            (
                selector.pids.len(),
                selector.comms.len(),
                selector.exes.len(),
                selector.cgroups.len(),
                selector.excludes.len()
            ),
            (1, 1, 1, 1, 1)
        );
    }
}
