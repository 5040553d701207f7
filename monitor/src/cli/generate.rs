//! `taskleak generate`: what a package has beside the binary. Hidden: people who build packages know of it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Args, CommandFactory as _};
use clap_complete::{Shell, generate_to};

use super::{Cli, Failure};

/// Write man pages and shell completions into a folder, as they lie below /usr/share
#[derive(Args)]
pub struct GenerateCommand {
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Where each shell looks, below /usr/share.
const SHELLS: [(Shell, &str, &str); 3] = [
    (Shell::Bash, "bash-completion/completions", "taskleak"),
    (Shell::Zsh, "zsh/site-functions", "_taskleak"),
    (Shell::Fish, "fish/vendor_completions.d", "taskleak.fish"),
];

impl GenerateCommand {
    pub fn execute(&self) -> Result<ExitCode> {
        let failed = |error: io::Error| {
            Failure::Usage(format!("{} cannot be written: {error}", self.folder.display()))
        };
        for (shell, folder, name) in SHELLS {
            completions(shell, &self.folder.join(folder), name).map_err(failed)?;
        }
        let manual = self.folder.join("man/man1");
        fs::create_dir_all(&manual).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), &manual).context("the man pages cannot be written")?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Names of files are the generator's own; the shell wants this one.
fn completions(shell: Shell, folder: &Path, name: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let written = generate_to(shell, &mut Cli::command(), "taskleak", folder)?;
    let wanted = folder.join(name);
    if written != wanted {
        fs::rename(written, wanted)?;
    }
    Ok(())
}
