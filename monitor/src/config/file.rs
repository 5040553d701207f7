//! The TOML file: says what neither flags nor environment have said.

use std::path::PathBuf;

use clap::Args as _;

use super::{ConfigError, JudgeOptions, RunOptions, Watch};

/// Keys of a file: the names of the flags of `run`, but for those that only make sense as flags.
pub(super) fn known_keys() -> Vec<String> {
    let command = Watch::augment_args(clap::Command::new("run"));
    let command = JudgeOptions::augment_args(RunOptions::augment_args(command));
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
        $($target.$option = $target.$option.take().or($file.$option);)*
    };
}

/// Adds a TOML file to what flags and environment said.
///
/// # Errors
/// When it cannot be read, is no TOML, has keys that do not exist, or values that are wrong.
pub fn merge_file(
    path: &PathBuf,
    watch: &mut Watch,
    run: &mut RunOptions,
    judging: &mut JudgeOptions,
) -> Result<(), ConfigError> {
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
    let file_judging: JudgeOptions = toml::from_str(&text).map_err(malformed)?;
    fill!(watch, file_watch, lists: pid, comm, exe, cgroup, exclude, debug_dir;
          options: all, blocked_after, no_futex_probes, no_stacks, no_spawn_probes, probe_budget, pod_logs, pod, pod_namespace, max_groups, max_ids, max_threads, bpf_log);
    fill!(run, file_run, lists: allow_host; options: listen, token_file, socket, interval, expose_stacks, state_file, bpf_stats);
    fill!(judging, file_judging, lists: ; options: window, long_window, min_growth);
    Ok(())
}
