//! The options: each is a flag, an environment variable and a key of the file.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, builder::BoolishValueParser};
use serde::Deserialize;

use super::{Level, Percent, Span};

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
    /// The kubelet's folder of container logs, whose names tell pods, namespaces and containers
    /// [default: /var/log/containers]
    #[arg(
        long,
        env = "TASKLEAK_POD_LOGS",
        value_name = "DIR",
        help_heading = "How to look"
    )]
    pub pod_logs: Option<PathBuf>,
    /// Pod of the processes that are in none that the logs name (a sidecar's own, from the downward API)
    #[arg(long, env = "TASKLEAK_POD", value_name = "NAME", help_heading = "How to look")]
    pub pod: Option<String>,
    /// Namespace of that pod
    #[arg(
        long,
        env = "TASKLEAK_POD_NAMESPACE",
        value_name = "NAME",
        requires = "pod",
        help_heading = "How to look"
    )]
    pub pod_namespace: Option<String>,
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
    /// Read no stacks: groups then have no block site and no entry
    #[arg(long, env = "TASKLEAK_NO_STACKS", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new(), help_heading = "How to look")]
    pub no_stacks: Option<bool>,
    /// Attach no spawn probes: who made a thread or a tokio task is then not known, births and deaths are not counted, and
    /// no tokio task is called blocked
    #[arg(long, env = "TASKLEAK_NO_SPAWN_PROBES", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new(), help_heading = "How to look")]
    pub no_spawn_probes: Option<bool>,
    /// Share of one core that the probes on spawns, ends and polls may take from a process, all together, before some of
    /// them are taken off it for a while
    /// [default: 1%]
    #[arg(
        long,
        env = "TASKLEAK_PROBE_BUDGET",
        value_name = "PERCENT",
        help_heading = "How to look"
    )]
    pub probe_budget: Option<Percent>,
    /// Folder with separate debug files, searched by build-id and name (/usr/lib/debug always is)
    #[arg(
        long,
        env = "TASKLEAK_DEBUG_DIR",
        value_name = "DIR",
        help_heading = "How to look"
    )]
    pub debug_dir: Vec<PathBuf>,
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
    /// Show stacks and file names to whoever can reach the web server (without it: names of functions only)
    #[arg(long, env = "TASKLEAK_EXPOSE_STACKS", num_args = 0..=1, require_equals = true,
          default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub expose_stacks: Option<bool>,
    /// Ask for the token in this file (`Authorization: Bearer TOKEN`) before anything but health is told; not on the
    /// Unix socket
    #[arg(long, env = "TASKLEAK_TOKEN_FILE", value_name = "PATH")]
    pub token_file: Option<PathBuf>,
    /// Serve the same on this Unix socket, which only its owner may open; stacks and files are shown there always
    #[arg(long, env = "TASKLEAK_SOCKET", value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// Time between sweeps; each is moved by up to a tenth of it at random [default: 10s]
    #[arg(long, env = "TASKLEAK_INTERVAL", value_name = "DURATION")]
    pub interval: Option<Span>,
    /// Keep histories and verdicts in this file, so that a restart of the monitor does not forget them
    #[arg(long, env = "TASKLEAK_STATE_FILE", value_name = "FILE")]
    pub state_file: Option<PathBuf>,
    /// Export the run time of the eBPF programs; the kernel then measures every eBPF program of the host, which
    /// slows them
    #[arg(long, env = "TASKLEAK_BPF_STATS", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          value_parser = BoolishValueParser::new())]
    pub bpf_stats: Option<bool>,
}

/// How counts are judged: what `run` and `judge` have in common.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct JudgeOptions {
    /// Time in which growth is looked for; it must have gone on for a quarter of it [default: 30m]
    #[arg(
        long,
        env = "TASKLEAK_WINDOW",
        value_name = "DURATION",
        help_heading = "How to judge"
    )]
    pub window: Option<Span>,
    /// The same for slow leaks [default: 6h, or the window where that is longer]
    #[arg(
        long,
        env = "TASKLEAK_LONG_WINDOW",
        value_name = "DURATION",
        help_heading = "How to judge"
    )]
    pub long_window: Option<Span>,
    /// Tasks by which a group must have grown to be called growing [default: 5]
    #[arg(long, env = "TASKLEAK_MIN_GROWTH", value_name = "N", help_heading = "How to judge",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub min_growth: Option<u32>,
}
