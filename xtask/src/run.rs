//! Builds taskleak and runs it: on what the user says, or on the demo.

use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use testbed::{Program, Target};

use crate::setup;
use crate::supervise::Supervisor;
use crate::workspace::{self, cargo};

/// Where `taskleak run` listens unless it is told otherwise.
const DEFAULT_ADDRESS: &str = "127.0.0.1:9435";

/// Builds target/release/taskleak.
pub fn build() -> Result<()> {
    workspace::run(cargo().args(["build", "--release", "-p", "taskleak"]))
}

/// Writes what a package has beside the binary: man pages and shell completions (target/release/share).
pub fn generate() -> Result<()> {
    let folder = workspace::taskleak().with_file_name("share");
    workspace::run(Command::new(workspace::taskleak()).arg("generate").arg(&folder))?;
    println!("Man pages and shell completions are in {}.", folder.display());
    Ok(())
}

/// Becomes `taskleak run ARGS`: signals and the exit code are then its own.
pub fn run(args: &[OsString]) -> Result<ExitCode> {
    setup::for_build(false)?;
    build()?;
    println!("taskleak: look at http://{}/", address(args));
    let error = taskleak(args).exec();
    Err(error).with_context(|| format!("cannot start {}", workspace::taskleak().display()))
}

/// Runs taskleak on a program that leaks a thread every second, until it ends or a signal comes.
pub fn run_demo(args: &[OsString]) -> Result<ExitCode> {
    setup::for_build(false)?;
    setup::for_programs()?;
    build()?;
    // From here on a signal ends both, whatever has been started by then.
    let supervisor = Supervisor::new()?;
    let demo = Target::start(Program::Demo, &[])?;
    let pid = demo.pid();
    let address = address(args);
    println!(
        "taskleak: watches the demo (pid {pid}), which leaks one thread a second; look at http://{address}/\n\
         See the number rise:  curl -s http://{address}/metrics | grep taskleak_blocked_tasks\n\
         Ctrl-C ends both."
    );
    supervisor.run(&mut taskleak(&demo_args(pid, args)))
}

fn taskleak(args: &[OsString]) -> Command {
    let mut taskleak = workspace::command(workspace::taskleak());
    taskleak.arg("run").args(args);
    taskleak
}

/// The user's arguments behind the demo's, of which his own take the place.
fn demo_args(pid: u32, args: &[OsString]) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec!["--pid".into(), pid.to_string().into()];
    for (flag, default) in [("--interval", "2s"), ("--blocked-after", "5s")] {
        if value_of(flag, args).is_none() {
            all.extend([flag.into(), default.into()]);
        }
    }
    all.extend_from_slice(args);
    all
}

/// The value of `--flag VALUE` or `--flag=VALUE`, the last one where there are several.
fn value_of<'a>(flag: &str, args: &'a [OsString]) -> Option<&'a OsStr> {
    let mut values =
        args.iter()
            .enumerate()
            .filter_map(|(at, arg)| match arg.to_str()?.strip_prefix(flag)? {
                "" => args.get(at + 1).map(OsString::as_os_str),
                joined => joined.strip_prefix('=').map(OsStr::new),
            });
    values.next_back()
}

/// The address to look at.
fn address(args: &[OsString]) -> String {
    let environment = std::env::var_os("TASKLEAK_LISTEN");
    let listen = value_of("--listen", args).or(environment.as_deref());
    listen.map_or_else(
        || DEFAULT_ADDRESS.to_owned(),
        |listen| reachable(&listen.to_string_lossy()),
    )
}

/// An address to connect to, for one to listen on.
fn reachable(listen: &str) -> String {
    match listen.parse::<SocketAddr>() {
        Ok(mut address) if address.ip().is_unspecified() => {
            address.set_ip(match address.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
            address.to_string()
        }
        _ if listen.starts_with(':') => format!("127.0.0.1{listen}"),
        _ => listen.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(args: &[&str]) -> Vec<OsString> {
        args.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_address_to_look_at_is_one_that_can_be_reached() {
        assert_eq!(address(&os(&["--listen", "127.0.0.1:9000"])), "127.0.0.1:9000");
        assert_eq!(
            address(&os(&["--pid", "7", "--listen=0.0.0.0:80"])),
            "127.0.0.1:80"
        );
        assert_eq!(reachable("[::]:9435"), "[::1]:9435");
        assert_eq!(reachable(":9435"), "127.0.0.1:9435");
        assert_eq!(reachable("localhost:1"), "localhost:1");
    }

    #[test]
    fn the_users_flags_take_the_place_of_the_demos() {
        let defaults = ["--pid", "7", "--interval", "2s", "--blocked-after", "5s"];
        assert_eq!(demo_args(7, &[]), os(&defaults));
        let args = os(&["--interval=1s", "--expose-stacks"]);
        let expected = [
            "--pid",
            "7",
            "--blocked-after",
            "5s",
            "--interval=1s",
            "--expose-stacks",
        ];
        assert_eq!(demo_args(7, &args), os(&expected));
    }
}
