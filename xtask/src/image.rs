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

/// glibc, linked statically. (taskleak does not compile for musl yet: it names types of glibc's.) Naming the target keeps
/// programs that run during the build from being static as well.
const TARGET: &str = "x86_64-unknown-linux-gnu";
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
    let mut build = cargo();
    build.args(["build", "--release", "-p", "taskleak", "--target", TARGET]);
    let variable = format!(
        "CARGO_TARGET_{}_RUSTFLAGS",
        TARGET.to_uppercase().replace('-', "_")
    );
    build.env(variable, "-C target-feature=+crt-static");
    workspace::run(&mut build)?;
    Ok(workspace::target().join(TARGET).join("release/taskleak"))
}

fn mebibytes(file: &Path) -> Result<String> {
    let size = fs::metadata(file)
        .with_context(|| format!("cannot look at {}", file.display()))?
        .len();
    Ok(format!("{:.1} MiB", size as f64 / f64::from(1 << 20)))
}
