//! Histories over a restart of the monitor: a file, replaced as a whole, that is believed only if it is whole, of this
//! version, of this boot and of these settings.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::Monitor;
use crate::detect::Saved;

/// Changes with what is saved.
const MAGIC: &[u8; 16] = b"taskleak-state 3";
const MOST_BYTES: u64 = 1 << 30;

/// What became of a file.
#[derive(Debug)]
enum Loaded {
    /// There is none yet.
    None,
    /// It is of an earlier boot: its processes are gone.
    OtherBoot,
    /// It is broken, and now lies elsewhere.
    SetAside {
        to: PathBuf,
        cause: String,
    },
    State(Box<Saved>),
}

/// Reads the file.
///
/// # Errors
/// When it is there and cannot be read or set aside.
fn load(path: &Path) -> io::Result<Loaded> {
    let length = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::None),
        metadata => metadata?.len(),
    };
    let cause = if length > MOST_BYTES {
        format!("it has {length} bytes")
    } else {
        match decode(&fs::read(path)?) {
            Ok((boot, _)) if boot != boot_id()? => return Ok(Loaded::OtherBoot),
            Ok((_, saved)) => return Ok(Loaded::State(Box::new(saved))),
            Err(cause) => cause,
        }
    };
    let mut to = path.as_os_str().to_owned();
    to.push(".broken");
    let to = PathBuf::from(to);
    fs::rename(path, &to)?;
    Ok(Loaded::SetAside { to, cause })
}

/// Replaces the file.
///
/// # Errors
/// When it cannot be written; the old one is then still there.
fn store(path: &Path, saved: &Saved) -> io::Result<()> {
    let mut to = path.as_os_str().to_owned();
    to.push(".new");
    let to = PathBuf::from(to);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        // Names of functions of all that is watched.
        .mode(0o600)
        .open(&to)?;
    file.write_all(&encode(&boot_id()?, saved)?)?;
    file.sync_all()?;
    fs::rename(to, path)
}

fn encode(boot: &str, saved: &Saved) -> io::Result<Vec<u8>> {
    let body = postcard::to_allocvec(&(boot, saved)).map_err(io::Error::other)?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(crc32fast::hash(&body).to_le_bytes());
    bytes.extend(body);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<(String, Saved), String> {
    let rest = bytes
        .strip_prefix(MAGIC)
        .ok_or("it is no state of this version of taskleak")?;
    let (sum, body) = rest.split_first_chunk().ok_or("it is cut short")?;
    if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
        return Err("its checksum is wrong".to_owned());
    }
    postcard::from_bytes(body).map_err(|error| error.to_string())
}

fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

impl Monitor {
    /// Goes on from the histories of an earlier run, if the file has any.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn load_state(&mut self, path: &Path) -> io::Result<()> {
        let file = path.display();
        match load(path)? {
            Loaded::None => tracing::info!("{file} is not there yet: histories begin now"),
            Loaded::OtherBoot => {
                tracing::info!("{file} is of before the machine's start: histories begin now")
            }
            Loaded::SetAside { to, cause } => {
                tracing::warn!(
                    "{file} is broken ({cause}) and now lies in {}: histories begin now",
                    to.display()
                );
            }
            Loaded::State(saved) => {
                if !self.detector.restore(*saved) {
                    tracing::warn!("{file} is of other windows or another threshold: histories begin now");
                }
            }
        }
        Ok(())
    }

    /// Keeps the histories for a later run.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn store_state(&self, path: &Path) -> io::Result<()> {
        store(path, &self.detector.saved())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> PathBuf {
        let path = std::env::temp_dir().join(format!(
            "taskleak-state-{}-{}",
            std::process::id(),
            fastrand::u64(..)
        ));
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn what_was_stored_is_loaded() {
        let folder = folder();
        let file = folder.join("state");
        assert!(matches!(load(&file).unwrap(), Loaded::None));
        let saved = Saved::default();
        store(&file, &saved).unwrap();
        assert!(matches!(load(&file).unwrap(), Loaded::State(loaded) if *loaded == saved));
        let names: Vec<_> = fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["state"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_broken_file_is_set_aside() {
        let whole = encode(&boot_id().unwrap(), &Saved::default()).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let mut newer = whole.clone();
        newer[15] = b'9';
        for (bytes, expected) in [
            (&whole[..whole.len() - 1], "checksum"),
            (&whole[..18], "cut short"),
            (&flipped[..], "checksum"),
            (&newer[..], "version"),
            (b"", "version"),
        ] {
            let folder = folder();
            let file = folder.join("state");
            fs::write(&file, bytes).unwrap();
            let Loaded::SetAside { to, cause } = load(&file).unwrap() else {
                panic!("{expected}");
            };
            assert!(cause.contains(expected), "{cause}");
            assert_eq!(fs::read(to).unwrap(), bytes);
            assert!(!file.exists());
            fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn another_boots_file_is_not_believed() {
        let folder = folder();
        let file = folder.join("state");
        fs::write(&file, encode("another", &Saved::default()).unwrap()).unwrap();
        assert!(matches!(load(&file).unwrap(), Loaded::OtherBoot));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn where_nothing_can_be_written_the_old_file_stays() {
        assert!(store(Path::new("/proc/nowhere/state"), &Saved::default()).is_err());
    }
}
