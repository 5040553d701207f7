//! Flags, environment and file become one checked configuration.
//!
//! Every option of `run` has the same name as a flag (`--blocked-after`), as an environment variable
//! (`TASKLEAK_BLOCKED_AFTER`) and as a key of the TOML file (`blocked-after`). A flag wins over the
//! environment, the environment over the file.

mod file;
mod options;
mod values;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::{
    detect::Settings,
    export::json::Detail,
    model::Pod,
    observe::helper::HelperOptions,
    pipeline,
    target::{PodSources, Selector},
};

pub use file::merge_file;
pub use options::{JudgeOptions, RunOptions, Watch};
pub use values::{Level, Percent, Span};

/// Where `run` listens unless told otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9435";

/// Where the kubelet has them.
const DEFAULT_POD_LOGS: &str = "/var/log/containers";

/// One percent of a core.
const DEFAULT_BUDGET: f64 = 0.01;

/// How long a pass of `run` waits for stacks: the other processes must not wait for one that is slow to read.
const RUN_PATIENCE: Duration = Duration::from_millis(500);

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
    pub state_file: Option<PathBuf>,
    pub listen: SocketAddr,
    pub token_file: Option<PathBuf>,
    pub socket: Option<PathBuf>,
    pub allowed_hosts: Vec<String>,
    pub interval: Duration,
    pub detail: Detail,
}

impl Watch {
    /// Options of the pipeline, with defaults filled in. `patience`: how long a pass may wait for stacks.
    ///
    /// # Errors
    /// When options contradict each other, or an expression does not parse.
    pub fn check(
        &self,
        default_threshold: Duration,
        patience: Duration,
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
            pods: PodSources {
                logs: self
                    .pod_logs
                    .clone()
                    .unwrap_or_else(|| PathBuf::from(DEFAULT_POD_LOGS)),
                own: self.pod.as_ref().map(|name| Pod {
                    name: name.clone(),
                    namespace: self.pod_namespace.clone().unwrap_or_default(),
                    container: String::new(),
                }),
            },
            threshold: positive("blocked-after", self.blocked_after, default_threshold)?,
            futex_probes: self.no_futex_probes != Some(true),
            max_threads: within("max-threads", self.max_threads, 65_536, 1, 4_194_304)?,
            max_groups: within("max-groups", self.max_groups, 50, 1, 10_000)? as usize,
            max_ids: within("max-ids", self.max_ids, 100, 0, 1_000_000)? as usize,
            judging: Settings::DEFAULT,
            bpf_log: self.bpf_log.unwrap_or(Level::Off).into(),
            bpf_stats,
            stacks: (self.no_stacks != Some(true)).then(|| HelperOptions {
                debug_dirs: self.debug_dir.clone(),
            }),
            spawn_budget: (self.no_spawn_probes != Some(true))
                .then(|| self.probe_budget.map_or(DEFAULT_BUDGET, |percent| percent.0)),
            patience,
        })
    }
}

impl RunOptions {
    /// The whole configuration of `run`.
    ///
    /// # Errors
    /// As [`Watch::check`].
    pub fn check(&self, watch: &Watch, judging: &JudgeOptions) -> Result<RunConfig, ConfigError> {
        let interval = positive("interval", self.interval, Duration::from_secs(10))?;
        if interval < Duration::from_millis(100) {
            return Err(contradiction("interval must be at least 100ms"));
        }
        let default_listen = || {
            DEFAULT_LISTEN
                .parse()
                .map_err(|_| contradiction("bad default address"))
        };
        let monitor = watch.check(
            Duration::from_secs(60),
            RUN_PATIENCE,
            self.bpf_stats == Some(true),
        )?;
        Ok(RunConfig {
            monitor: pipeline::Options {
                judging: judging.check(interval)?,
                ..monitor
            },
            state_file: self.state_file.clone(),
            listen: self.listen.map_or_else(default_listen, Ok)?,
            token_file: self.token_file.clone(),
            socket: self.socket.clone(),
            allowed_hosts: self.allow_host.clone(),
            interval,
            detail: if self.expose_stacks == Some(true) {
                Detail::Stacks
            } else {
                Detail::Names
            },
        })
    }
}

impl JudgeOptions {
    /// How counts are judged. `interval`: between samples, 0 where it is not known.
    ///
    /// # Errors
    /// When options contradict each other.
    pub fn check(&self, interval: Duration) -> Result<Settings, ConfigError> {
        let default = Settings::DEFAULT;
        let window = positive("window", self.window, Duration::from_secs_f64(default.window))?;
        if window < interval * 12 {
            return Err(contradiction(&format!(
                "window is {window:?}, but must hold at least 12 intervals of {interval:?}"
            )));
        }
        let default_long = window.max(Duration::from_secs_f64(default.long_window));
        let long_window = positive("long-window", self.long_window, default_long)?;
        if long_window < window {
            return Err(contradiction(&format!(
                "long-window is {long_window:?}, shorter than the window of {window:?}"
            )));
        }
        let min_growth = match self.min_growth {
            Some(0) => return Err(contradiction("min-growth must be at least 1")),
            given => given.map_or(default.min_growth, f64::from),
        };
        Ok(Settings {
            window: window.as_secs_f64(),
            long_window: long_window.as_secs_f64(),
            min_growth,
            ..default
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
mod tests;
