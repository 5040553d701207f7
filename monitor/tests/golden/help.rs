//! The help of each command, and what is generated from the same.

use std::{fs, path::PathBuf, process::Command};

use super::check;

const COMMANDS: [&str; 9] = [
    "run", "snapshot", "stacks", "top", "check", "judge", "doctor", "health", "",
];

fn taskleak(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_taskleak"));
    // The values of variables would be in the help.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TASKLEAK_") {
            command.env_remove(name);
        }
    }
    let output = command.args(args).env("COLUMNS", "100").output().unwrap();
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_help_of_every_command() {
    for command in COMMANDS {
        let (file, args) = match command {
            "" => ("help.txt".to_owned(), vec!["--help"]),
            command => (format!("help-{command}.txt"), vec![command, "--help"]),
        };
        check(&file, &taskleak(&args));
    }
    // None is forgotten here.
    let all = taskleak(&["--help"]);
    let commands = all
        .split("Commands:")
        .nth(1)
        .unwrap()
        .split("Options:")
        .next()
        .unwrap();
    for line in commands
        .lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
    {
        let name = line.split_whitespace().next().unwrap();
        assert!(name == "help" || COMMANDS.contains(&name), "{name}");
    }
}

#[test]
fn man_pages_and_completions_are_of_every_command() {
    let folder: PathBuf = std::env::temp_dir().join(format!("taskleak-share-{}", std::process::id()));
    taskleak(&["generate", folder.to_str().unwrap()]);
    let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap_or_else(|_| panic!("{path}"));
    for command in COMMANDS.into_iter().filter(|command| !command.is_empty()) {
        let page = read(&format!("man/man1/taskleak-{command}.1"));
        assert!(page.contains(".SH SYNOPSIS"), "{command}");
        for shell in [
            "bash-completion/completions/taskleak",
            "zsh/site-functions/_taskleak",
            "fish/vendor_completions.d/taskleak.fish",
        ] {
            assert!(read(shell).contains(command), "{shell}: {command}");
        }
    }
    assert!(read("man/man1/taskleak-stacks.1").contains("\\-\\-blocked\\-after"));
    // What a shell makes of it.
    let script = format!(
        "source {}; COMP_WORDS=(taskleak stacks --fo); COMP_CWORD=2; _taskleak taskleak --fo stacks; echo ${{COMPREPLY[@]}}",
        folder.join("bash-completion/completions/taskleak").display()
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(
        told.trim(),
        "--format",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
