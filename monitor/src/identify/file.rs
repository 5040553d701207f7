//! The files that a process has mapped, opened so that nothing can hold us up.
//!
//! Through `/proc/PID/map_files`: that is the very file, deleted or replaced meanwhile, or in a mount namespace
//! that we do not see. What lies behind is looked at before it is opened (opening a device or a FIFO may do
//! something, or wait) and again afterwards.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::elf::Source;

/// `FUSE_SUPER_MAGIC` of include/uapi/linux/magic.h.
const FUSE_MAGIC: rustix::fs::FsWord = 0x6573_5546;

/// What tells one version of a file from every other one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileKey {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    build_id: Vec<u8>,
}

impl FileKey {
    pub fn new(metadata: &Metadata, build_id: Vec<u8>) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            build_id,
        }
    }
}

/// The file behind a mapping of the process that the live thread `tid` belongs to.
///
/// # Errors
/// When it is no regular file, or cannot be opened.
pub fn open_mapped(tid: u32, start: u64, end: u64) -> io::Result<File> {
    open_regular(Path::new(&format!("/proc/{tid}/map_files/{start:x}-{end:x}")))
}

/// A regular file. It may be of any size: what is read of it is read in pieces, each of which has a limit of its own.
///
/// # Errors
/// When it is none, or cannot be opened.
pub fn open_regular(path: &Path) -> io::Result<File> {
    check(&fs::metadata(path)?)?;
    let file = OpenOptions::new()
        .read(true)
        // Never wait: neither for a writer, nor for the holder of a lease.
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
        .open(path)?;
    check(&file.metadata()?)?;
    Ok(file)
}

fn check(metadata: &Metadata) -> io::Result<()> {
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(())
}

/// Whether a process serves the file (FUSE): a read of it may never end. What cannot be known is taken for it.
pub fn is_served(file: &File) -> bool {
    rustix::fs::fstatfs(file).map_or(true, |told| told.f_type == FUSE_MAGIC)
}

impl Source for File {
    fn length(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.len())
    }

    fn fill(&self, offset: u64, bytes: &mut [u8]) -> bool {
        self.read_exact_at(bytes, offset).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("taskleak-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn only_regular_files_are_opened() {
        let folder = Folder::new("regular");
        let fifo = folder.0.join("fifo");
        let name = CString::new(fifo.to_str().unwrap()).unwrap();
        // SAFETY: a valid string.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        for path in [
            fifo.as_path(),
            &folder.0,
            Path::new("/dev/zero"),
            Path::new("/none"),
        ] {
            assert!(open_regular(path).is_err(), "{}", path.display());
        }
        let file = folder.0.join("file");
        fs::write(&file, "content").unwrap();
        assert!(open_regular(&file).is_ok());
    }

    #[test]
    fn a_key_tells_versions_apart() {
        let folder = Folder::new("key");
        let path = folder.0.join("file");
        fs::write(&path, "one").unwrap();
        let first = FileKey::new(&fs::metadata(&path).unwrap(), vec![1]);
        assert_eq!(first, FileKey::new(&fs::metadata(&path).unwrap(), vec![1]));
        assert_ne!(first, FileKey::new(&fs::metadata(&path).unwrap(), vec![2]));
        fs::write(&path, "longer").unwrap();
        assert_ne!(first, FileKey::new(&fs::metadata(&path).unwrap(), vec![1]));
    }

    #[test]
    fn a_source_never_reads_beyond_its_end() {
        let folder = Folder::new("source");
        let path = folder.0.join("file");
        fs::write(&path, "content").unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(file.length(), 7);
        let mut bytes = [0; 3];
        assert!(Source::fill(&file, 4, &mut bytes));
        assert_eq!(&bytes, b"ent");
        assert!(!Source::fill(&file, 5, &mut bytes));
        assert!(!Source::fill(&file, u64::MAX, &mut bytes));
    }
}
