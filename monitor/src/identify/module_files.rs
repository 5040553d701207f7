//! Which files a process has its code from: what a profile is to say of them.

use std::collections::HashSet;

use super::{Maps, StackError, elf::build_id_of, maps::Origin, open_mapped};
use crate::model::ModuleFile;

/// More files than this are not told.
const MAX_FILES: usize = 4096;
/// Longest build-id, in bytes: those of linkers have 8 to 32.
const MAX_BUILD_ID: usize = 64;

/// # Errors
/// When the process is gone or its map cannot be read.
pub fn modules(pid: u32, tid: u32) -> Result<Vec<ModuleFile>, StackError> {
    let maps = Maps::read(pid, tid)?;
    let mut seen = HashSet::new();
    let mut files = Vec::new();
    let of_files = maps.code().iter().filter(|code| code.origin == Origin::File);
    for code in of_files {
        if files.len() >= MAX_FILES || !seen.insert(code.name.clone()) {
            continue;
        }
        let file = open_mapped(tid, code.range.start, code.range.end).ok();
        let build_id = file.and_then(|file| build_id_of(&file)).unwrap_or_default();
        let shown = &build_id[..build_id.len().min(MAX_BUILD_ID)];
        files.push(ModuleFile {
            name: code.name.to_string(),
            build_id: shown.iter().map(|byte| format!("{byte:02x}")).collect(),
        });
    }
    Ok(files)
}
