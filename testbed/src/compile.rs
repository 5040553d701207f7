//! Compiles a program when it is first needed, and again when its sources or flags have changed.
//!
//! Several test processes may ask at once: a lock lets one of them compile, the others find it done. What is
//! half done never has the final name.

use std::fmt::Write;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use anyhow::{Context, Result, bail};

use crate::folders;
use crate::recipes::{MULTILIB_CURE, NO_MULTILIB, Recipe};
use crate::unsupported::Unsupported;

/// The output of the recipe, compiled now unless that was done before.
pub fn up_to_date(recipe: &Recipe) -> Result<PathBuf> {
    let compiler = recipe
        .compiler
        .as_deref()
        .ok_or_else(|| Unsupported(recipe.cure.to_owned()))?;
    let folder = folders::outputs();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let output = folder.join(recipe.output);
    let stamp = folder.join(format!("{}.stamp", recipe.output));

    let lock = folder.join(format!("{}.lock", recipe.output));
    let lock = File::create(&lock).with_context(|| format!("cannot write {}", lock.display()))?;
    lock.lock()
        .context("cannot lock the folder of the testbed's programs")?;

    let wanted = fingerprint(recipe, compiler)?;
    if output.exists() && fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) {
        return Ok(output);
    }
    let fresh = folder.join(format!("{}.{}.new", recipe.output, process::id()));
    let compiled = run_compiler(recipe, compiler, &fresh).and_then(|()| put_in_place(&fresh, &output));
    if compiled.is_err() {
        // What the compiler left, if anything.
        let _ = remove(&fresh);
    }
    compiled?;
    // Last: who is killed before this compiles again.
    fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
    Ok(output)
}

/// Command line, and the state of each source. An *older* source, brought back by git, is a change too.
fn fingerprint(recipe: &Recipe, compiler: &Path) -> Result<String> {
    let mut text = format!("{} {}\n", compiler.display(), recipe.flags.join(" "));
    for source in recipe.inputs.iter().chain(recipe.included) {
        let path = folders::sources().join(source);
        let state = fs::metadata(&path).with_context(|| format!("cannot find {}", path.display()))?;
        writeln!(
            text,
            "{source} {} {}.{:09}",
            state.len(),
            state.mtime(),
            state.mtime_nsec()
        )?;
    }
    Ok(text)
}

fn run_compiler(recipe: &Recipe, compiler: &Path, output: &Path) -> Result<()> {
    let mut command = Command::new(compiler);
    command.current_dir(folders::sources());
    command
        .args(recipe.flags)
        .args(recipe.inputs)
        .arg(recipe.output_flag)
        .arg(output);
    let done = command
        .output()
        .with_context(|| format!("cannot run {}", compiler.display()))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    if recipe.flags.contains(&"-m32") && NO_MULTILIB.iter().any(|sign| said.contains(sign)) {
        bail!(Unsupported(MULTILIB_CURE.to_owned()));
    }
    bail!("{command:?}: {}\n{said}", done.status)
}

fn put_in_place(fresh: &Path, output: &Path) -> Result<()> {
    // A file is replaced by the renaming itself; a folder has to go first.
    if output.is_dir() {
        remove(output).with_context(|| format!("cannot remove {}", output.display()))?;
    }
    fs::rename(fresh, output)
        .with_context(|| format!("cannot rename {} to {}", fresh.display(), output.display()))
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}
