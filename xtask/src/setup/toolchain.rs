//! Which compiler and which linker build the eBPF side: the decision alone, without doing anything.

use std::path::PathBuf;

use crate::workspace;

/// rustup's name for the toolchain made of Debian's packages.
pub const DEBIAN_TOOLCHAIN: &str = "taskleak-ebpf";
/// The LLVM of Debian's rustc-web. bpf-linker must be built on the LLVM that wrote the bitcode, or a newer one.
pub const LLVM: &str = "22";
pub const DEBIAN_RUST: [&str; 3] = ["rustc-web", "rust-web-src", "cargo-web"];
pub const DEBIAN_PACKAGES: [&str; 5] = [
    "rustc-web",
    "rust-web-src",
    "cargo-web",
    "llvm-22-dev",
    "libpolly-22-dev",
];
/// What cannot be installed beside Debian's packages.
pub const CONFLICTING: [&str; 7] = [
    "rustup",
    "rustc",
    "cargo",
    "rust-src",
    "rustc-mozilla",
    "cargo-mozilla",
    "rust-mozilla-src",
];

/// What is on this machine.
#[derive(Default)]
pub struct Facts {
    pub rustup: bool,
    /// rustup's nightly; where there is no rustup, the compiler of PATH.
    pub compiler: Option<Compiler>,
    /// The bpf-linker of PATH.
    pub linker: Option<PathBuf>,
    /// None where there is no apt.
    pub debian: Option<Debian>,
    pub root: bool,
}

pub struct Compiler {
    pub sysroot: PathBuf,
    pub version: Option<(u32, u32)>,
    pub is_nightly: bool,
    /// Whether the source of `core` came with it.
    pub has_source: bool,
}

pub struct Debian {
    /// Packages of ours that are not installed.
    pub missing: Vec<&'static str>,
    /// Installed ones that stand in their way.
    pub conflicting: Vec<&'static str>,
}

/// How the eBPF side will be built.
#[derive(Debug, PartialEq)]
pub enum Plan {
    /// With what is there; nothing is installed.
    AsIs {
        toolchain: &'static str,
        bootstrap: bool,
        sysroot: PathBuf,
        linker: PathBuf,
    },
    /// With Debian's packages, of which these are to be installed, and a linker of our own.
    Debian { install: Vec<&'static str> },
    /// Not at all, for these reasons.
    Impossible(Vec<String>),
}

/// Decides: rustup's nightly where it is whole, else Debian's packages, else nothing.
pub fn plan(facts: Facts) -> Plan {
    let mut reasons = Vec::new();
    let whose = if facts.rustup {
        "rustup's nightly"
    } else {
        "the Rust in PATH"
    };
    match &facts.compiler {
        None if facts.rustup => reasons.push("rustup has no toolchain named nightly".to_owned()),
        None => reasons.push("there is no rustup, and no rustc in PATH".to_owned()),
        Some(compiler) if !compiler.has_source => {
            reasons.push(format!("{whose} is without rust-src, the source of `core`"));
        }
        Some(Compiler {
            version: Some(version),
            ..
        }) if *version < workspace::rust_version() => {
            let needed = workspace::rust_version();
            reasons.push(format!(
                "{whose} is {}.{}, older than {}.{}",
                version.0, version.1, needed.0, needed.1
            ));
        }
        Some(_) => {}
    }
    if facts.linker.is_none() {
        reasons.push("there is no bpf-linker in PATH".to_owned());
    }
    if let (Some(compiler), Some(linker), true) = (facts.compiler, facts.linker, reasons.is_empty()) {
        return Plan::AsIs {
            toolchain: if facts.rustup { "nightly" } else { "" },
            bootstrap: !compiler.is_nightly,
            sysroot: compiler.sysroot,
            linker,
        };
    }
    let Some(debian) = facts.debian else {
        reasons.push("this machine has no apt-get to install Debian's packages with".to_owned());
        return Plan::Impossible(reasons);
    };
    let rust_is_missing = DEBIAN_RUST.iter().any(|package| debian.missing.contains(package));
    if rust_is_missing && !debian.conflicting.is_empty() {
        reasons.push(format!(
            "these installed packages would have to be removed before Debian's {}: {}",
            DEBIAN_RUST[0],
            debian.conflicting.join(" ")
        ));
    } else if !debian.missing.is_empty() && !facts.root {
        reasons.push(format!("only root can install {}", debian.missing.join(" ")));
    } else {
        return Plan::Debian {
            install: debian.missing,
        };
    }
    Plan::Impossible(reasons)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nightly(has_source: bool) -> Option<Compiler> {
        let version = Some((1, 99));
        Some(Compiler {
            sysroot: "/rustup/nightly".into(),
            version,
            is_nightly: true,
            has_source,
        })
    }

    fn debian(missing: &[&'static str]) -> Option<Debian> {
        Some(Debian {
            missing: missing.to_vec(),
            conflicting: vec![],
        })
    }

    fn reasons(facts: Facts) -> String {
        match plan(facts) {
            Plan::Impossible(reasons) => reasons.join("; "),
            plan => panic!("{plan:?}"),
        }
    }

    #[test]
    fn a_whole_nightly_is_used_and_nothing_installed() {
        let linker = Some("/bin/bpf-linker".into());
        let facts = Facts {
            rustup: true,
            compiler: nightly(true),
            linker,
            root: true,
            debian: debian(&["x"]),
        };
        let expected = Plan::AsIs {
            toolchain: "nightly",
            bootstrap: false,
            sysroot: "/rustup/nightly".into(),
            linker: "/bin/bpf-linker".into(),
        };
        assert_eq!(plan(facts), expected);
    }

    #[test]
    fn without_rustup_a_stable_compiler_with_source_is_told_to_bootstrap() {
        let compiler = Compiler {
            sysroot: "/usr".into(),
            version: Some((1, 96)),
            is_nightly: false,
            has_source: true,
        };
        let linker = Some("/bin/bpf-linker".into());
        let facts = Facts {
            compiler: Some(compiler),
            linker,
            ..Facts::default()
        };
        assert!(matches!(
            plan(facts),
            Plan::AsIs {
                toolchain: "",
                bootstrap: true,
                ..
            }
        ));
    }

    #[test]
    fn a_nightly_that_is_not_whole_gives_way_to_debian() {
        for (compiler, linker) in [
            (None, None),
            (nightly(false), Some("/bin/bpf-linker".into())),
            (nightly(true), None),
        ] {
            let debian = debian(&["rustc-web"]);
            let facts = Facts {
                rustup: true,
                compiler,
                linker,
                debian,
                root: true,
            };
            assert_eq!(
                plan(facts),
                Plan::Debian {
                    install: vec!["rustc-web"]
                }
            );
        }
    }

    #[test]
    fn an_old_nightly_is_named() {
        let mut compiler = nightly(true);
        if let Some(compiler) = &mut compiler {
            compiler.version = Some((1, 80));
        }
        let linker = Some("/bin/bpf-linker".into());
        let said = reasons(Facts {
            rustup: true,
            compiler,
            linker,
            ..Facts::default()
        });
        assert!(
            said.starts_with("rustup's nightly is 1.80, older than 1.95"),
            "{said}"
        );
    }

    #[test]
    fn packages_that_are_there_need_no_root() {
        let facts = Facts {
            rustup: true,
            debian: debian(&[]),
            ..Facts::default()
        };
        assert_eq!(plan(facts), Plan::Debian { install: vec![] });
    }

    #[test]
    fn without_root_or_apt_the_reasons_are_given() {
        let facts = Facts {
            rustup: true,
            debian: debian(&["rustc-web", "llvm-22-dev"]),
            ..Facts::default()
        };
        let said = reasons(facts);
        assert!(
            said.ends_with("no bpf-linker in PATH; only root can install rustc-web llvm-22-dev"),
            "{said}"
        );
        let said = reasons(Facts {
            rustup: true,
            root: true,
            ..Facts::default()
        });
        assert!(said.contains("no apt-get"), "{said}");
    }

    #[test]
    fn another_rust_of_debians_is_never_removed() {
        let conflicting = vec!["rustc"];
        let missing = DEBIAN_PACKAGES.to_vec();
        let debian = Some(Debian { missing, conflicting });
        let said = reasons(Facts {
            rustup: true,
            root: true,
            debian,
            ..Facts::default()
        });
        assert!(
            said.ends_with("removed before Debian's rustc-web: rustc"),
            "{said}"
        );
    }
}
