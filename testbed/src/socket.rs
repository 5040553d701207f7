//! A place for a Unix socket.

use std::fs;

/// Its path, which is free when this is made and when it is dropped.
pub struct Socket(String);

impl Socket {
    /// `name`: what tells it from the others of this process.
    pub fn new(name: &str) -> Self {
        let file = format!("taskleak-{name}-{}.sock", std::process::id());
        let path = std::env::temp_dir().join(file).display().to_string();
        let _ = fs::remove_file(&path);
        Self(path)
    }

    pub fn path(&self) -> &str {
        &self.0
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
