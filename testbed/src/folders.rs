//! Where the sources are, and where what is built of them goes.

use std::env;
use std::path::{Path, PathBuf};

/// The folder of this package, with the sources of the programs.
pub fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `testbed/` in the target folder that the running test or tool was built into.
pub fn outputs() -> PathBuf {
    // Cargo marks the root of its target folder, wherever it was told to put it.
    let marked = |folder: &&Path| folder.join("CACHEDIR.TAG").is_file();
    let exe = env::current_exe().unwrap_or_default();
    let target = match exe.ancestors().skip(1).find(marked) {
        Some(target) => target.to_owned(),
        None => match env::var_os("CARGO_TARGET_DIR") {
            Some(target) => PathBuf::from(target),
            None => sources().join("../target"),
        },
    };
    target.join("testbed")
}

/// The first file of that name in the folders of `PATH`, with all symbolic links resolved.
pub fn find_in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .and_then(|file| file.canonicalize().ok())
}
