//! What a user is told who has to install something himself.

use std::fmt;

use super::toolchain::DEBIAN_PACKAGES;
use crate::workspace;

/// Something is missing that only the user can bring: the text says what, and how.
#[derive(Debug)]
pub struct Needed(pub String);

impl fmt::Display for Needed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Needed {}

/// The whole text where the eBPF side cannot be built, for these reasons.
pub fn ebpf(reasons: &[String]) -> String {
    let (major, minor) = workspace::rust_version();
    let reasons = reasons
        .iter()
        .fold(String::new(), |text, reason| text + "  - " + reason + "\n");
    let packages = DEBIAN_PACKAGES.join(" ");
    format!(
        "the eBPF side cannot be built here yet: it needs Rust {major}.{minor} or newer with the source of \
         `core`, and bpf-linker.\n{reasons}\
         Either of these two ways mends it; then run the same command again.\n\
         1. With rustup (https://rustup.rs), on any system:\n     \
         rustup toolchain install nightly --component rust-src\n     \
         cargo binstall bpf-linker   (or a release of https://github.com/aya-rs/bpf-linker, into PATH)\n\
         2. On Debian 12 with its security updates, or Debian 13, as root (a release without rustc-web, as \
         most of Ubuntu's, needs the first way):\n     \
         apt-get update && apt-get install --no-install-recommends {packages}\n   \
         and `cargo xtask setup` builds bpf-linker by itself."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_names_both_ways_and_every_reason() {
        let text = ebpf(&["one".to_owned(), "two".to_owned()]);
        for part in [
            "  - one\n",
            "  - two\n",
            "rustup toolchain install nightly",
            "libpolly-22-dev",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
