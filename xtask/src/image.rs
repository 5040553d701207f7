//! `cargo xtask image`: a container image of nothing but a static binary, by Debian's buildah, without network.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    setup,
    workspace::{self, cargo, command, find_in_path},
};

/// A static binary that needs nothing of the machine: no loader, no locale, no name service.
const TARGET: &str = "x86_64-unknown-linux-musl";
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Builds the binary and the image, and says how large they are.
pub fn build() -> Result<()> {
    setup::for_build(false)?;
    let buildah = find_in_path("buildah").context("there is no buildah: apt-get install buildah (Debian)")?;
    let binary = binary()?;
    let folder = workspace::target().join("image");
    let context = folder.join("context");
    fs::create_dir_all(&context).with_context(|| format!("cannot make {}", context.display()))?;
    let copied = context.join("taskleak");
    let mut strip = command("strip");
    workspace::run(strip.args(["--strip-debug", "-o"]).arg(&copied).arg(&binary))?;

    let name = format!("taskleak:{VERSION}");
    let buildah = |words: &[&str]| {
        let mut buildah = command(&buildah);
        // Of its own: what the machine has of images is left alone. vfs and chroot work inside containers too.
        buildah.arg("--root").arg(folder.join("storage"));
        buildah.arg("--runroot").arg(folder.join("run"));
        buildah.args(["--storage-driver", "vfs"]).args(words);
        buildah
    };
    let mut build = buildah(&[
        "build",
        "--quiet",
        "--isolation",
        "chroot",
        "--format",
        "docker",
        "--no-cache",
    ]);
    build.args([
        "--build-arg",
        &format!("VERSION={VERSION}"),
        "--tag",
        &name,
        "--file",
    ]);
    build
        .arg(workspace::root().join("deploy/image/Containerfile"))
        .arg(&context);
    workspace::run(&mut build)?;
    let archive = folder.join("taskleak.tar");
    // It does not write over one.
    let _ = fs::remove_file(&archive);
    let to = format!("docker-archive:{}:{name}", archive.display());
    workspace::run(&mut buildah(&["push", "--quiet", &name, &to]))?;
    workspace::run(&mut buildah(&["rmi", "--all", "--force"]))?;

    println!(
        "image: {name} in {}: {} (the binary: {}); docker load < it, or podman load -i",
        archive.display(),
        mebibytes(&archive)?,
        mebibytes(&copied)?,
    );
    Ok(())
}

/// A static release binary.
fn binary() -> Result<PathBuf> {
    ensure_target()?;
    workspace::run(cargo().args(["build", "--release", "-p", "taskleak", "--target", TARGET]))?;
    Ok(workspace::target().join(TARGET).join("release/taskleak"))
}

/// Sees to it that rustc has the standard library of the target.
fn ensure_target() -> Result<()> {
    let folder = command("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .context("cannot run rustc")?;
    let folder = PathBuf::from(String::from_utf8_lossy(&folder.stdout).trim());
    if folder.is_dir() {
        return Ok(());
    }
    workspace::run(command("rustup").args(["target", "add", TARGET]))
        .with_context(|| format!("rustc has no standard library for {TARGET}, and rustup cannot fetch it"))
}

fn mebibytes(file: &Path) -> Result<String> {
    let size = fs::metadata(file)
        .with_context(|| format!("cannot look at {}", file.display()))?
        .len();
    Ok(format!("{:.1} MiB", size as f64 / f64::from(1 << 20)))
}
