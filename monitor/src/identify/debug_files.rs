//! Debug information that was put into a file of its own: found by build-id or by the name in `.gnu_debuglink`, in
//! the folders that the user names. (The manual of gdb, "Debugging Information in Separate Files", says where.)
//!
//! Not left to blazesym: it follows the link alone, and to wherever the target says.

use std::{
    ffi::OsString,
    fmt::Write as _,
    fs::File,
    io::Read,
    path::{Component, Path, PathBuf},
};

use super::{
    elf::{DebugLink, Image, Source as _},
    file::open_regular,
};

/// A build-id shorter than this names nothing.
const MIN_BUILD_ID: usize = 2;
const MAX_BUILD_ID: usize = 64;
/// Larger files are not read through for a checksum.
const MAX_CHECKED: u64 = 256 << 20;
const CHUNK: usize = 256 << 10;

/// A file that was found.
#[derive(Debug)]
pub struct DebugFile {
    pub path: PathBuf,
    pub file: File,
    pub image: Image,
}

/// The debug file of a module. `folder` is where the process says that the module is.
pub fn find(folders: &[PathBuf], module: &Image, folder: &str) -> Option<DebugFile> {
    by_build_id(folders, &module.build_id)
        .or_else(|| by_link(folders, module.debug_link.as_ref()?, &module.build_id, folder))
}

fn by_build_id(folders: &[PathBuf], build_id: &[u8]) -> Option<DebugFile> {
    if !(MIN_BUILD_ID..=MAX_BUILD_ID).contains(&build_id.len()) {
        return None;
    }
    let (first, rest) = build_id.split_first()?;
    let mut name = format!(".build-id/{first:02x}/");
    for byte in rest {
        write!(name, "{byte:02x}").ok()?;
    }
    name.push_str(".debug");
    folders
        .iter()
        .filter_map(|folder| open(folder.join(&name)))
        .find(|debug| debug.image.build_id == build_id)
}

fn by_link(folders: &[PathBuf], link: &DebugLink, build_id: &[u8], folder: &str) -> Option<DebugFile> {
    candidates(folders, link, folder)
        .into_iter()
        .filter_map(open)
        .find(|debug| {
            // The checksum is over the whole file: where both have a build-id, that tells the same.
            if build_id.is_empty() || debug.image.build_id.is_empty() {
                checksum(&debug.file) == Some(link.checksum)
            } else {
                debug.image.build_id == build_id
            }
        })
}

fn candidates(folders: &[PathBuf], link: &DebugLink, folder: &str) -> Vec<PathBuf> {
    // The target says where it is. It must not lead us out of the user's folder.
    let parts: Option<Vec<OsString>> = Path::new(folder)
        .components()
        .filter(|part| *part != Component::RootDir)
        .map(|part| match part {
            Component::Normal(part) => Some(part.to_owned()),
            _ => None,
        })
        .collect();
    let below: Option<PathBuf> = parts.map(|parts| parts.iter().collect());
    folders
        .iter()
        .flat_map(|folder| {
            let beside = below.as_ref().map(|below| folder.join(below).join(&link.name));
            beside.into_iter().chain([folder.join(&link.name)])
        })
        .collect()
}

fn open(path: PathBuf) -> Option<DebugFile> {
    let file = open_regular(&path).ok()?;
    let image = Image::parse(&file).ok()?;
    Some(DebugFile { path, file, image })
}

fn checksum(mut file: &File) -> Option<u32> {
    if file.length() > MAX_CHECKED {
        return None;
    }
    let mut hasher = crc32fast::Hasher::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        match file.read(&mut chunk).ok()? {
            0 => return Some(hasher.finalize()),
            read => hasher.update(chunk.get(..read)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(name: &str) -> DebugLink {
        DebugLink {
            name: name.to_owned(),
            checksum: 0xcbf4_3926,
        }
    }

    #[test]
    fn a_link_is_looked_for_beside_and_on_top() {
        let folders = [PathBuf::from("/debug"), PathBuf::from("/other")];
        let found = candidates(&folders, &link("app.debug"), "/usr/bin/");
        let expected = [
            "/debug/usr/bin/app.debug",
            "/debug/app.debug",
            "/other/usr/bin/app.debug",
            "/other/app.debug",
        ];
        assert_eq!(found, expected.map(PathBuf::from));
    }

    #[test]
    fn a_target_cannot_lead_out_of_the_folder() {
        for folder in ["/../etc/", "/usr/../../etc/", "../"] {
            let found = candidates(&[PathBuf::from("/debug")], &link("passwd"), folder);
            assert_eq!(found, [PathBuf::from("/debug/passwd")], "{folder}");
        }
    }

    #[test]
    fn the_checksum_is_the_common_one() {
        let path = std::env::temp_dir().join(format!("taskleak-checksum-{}", std::process::id()));
        std::fs::write(&path, "123456789").unwrap();
        assert_eq!(checksum(&File::open(&path).unwrap()), Some(link("x").checksum));
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn nothing_is_found_without_a_build_id_or_a_link() {
        let folders = [PathBuf::from("/usr/lib/debug")];
        assert!(find(&folders, &Image::default(), "/usr/bin/").is_none());
        let image = Image {
            build_id: vec![0xff; 200],
            ..Image::default()
        };
        assert!(find(&folders, &image, "").is_none());
    }
}
