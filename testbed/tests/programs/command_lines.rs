//! What the programs say about their arguments, and that the table knows each of their scenarios.

use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result};
use testbed::{Program, or_skip};

fn run(mut command: Command, args: &[&str]) -> Result<Output> {
    command
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{command:?}"))
}

fn refuses_bad_arguments(test: &str, program: Program) -> Result<()> {
    for args in [
        &["no_such_scenario=1"][..],
        &["sleep"],
        &["sleep="],
        &["sleep=0"],
        &["sleep=-1"],
        &["sleep=1x"],
        &["sleep=20001"],
        &["sleep=99999999999999999999"],
        &["sleep=1", "sleep=2"],
        &["=1"],
        &[""],
    ] {
        let Some(command) = or_skip(test, program.build())? else {
            return Ok(());
        };
        let output = run(command, args)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{program:?} {args:?}: {said}");
        assert!(
            said.contains(&format!("`{}`", args[args.len() - 1])),
            "{program:?} {args:?}: {said}"
        );
        assert!(output.stdout.is_empty(), "{program:?} {args:?}");
    }
    Ok(())
}

/// Without arguments a program lists its scenarios, two spaces before each: those of the table, in its order.
fn lists_its_scenarios(test: &str, program: Program) -> Result<()> {
    let Some(command) = or_skip(test, program.build())? else {
        return Ok(());
    };
    let output = run(command, &[])?;
    assert_eq!(output.status.code(), Some(2), "{program:?}");
    let said = String::from_utf8(output.stderr)?;
    let listed: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let known: Vec<_> = program.scenarios().iter().map(|scenario| scenario.name).collect();
    // A flag is listed with its meaning.
    let listed: Vec<_> = listed
        .into_iter()
        .filter(|line| !line.contains(" (=1: "))
        .collect();
    assert_eq!(listed, known, "{program:?}");
    Ok(())
}

/// A JVM takes its time to start: once for each of the two is enough for it.
#[test]
fn bad_arguments_are_refused() -> Result<()> {
    for program in Program::BLOCKERS {
        refuses_bad_arguments("bad_arguments_are_refused", program)?;
    }
    Ok(())
}

#[test]
fn the_table_lists_what_the_programs_list() -> Result<()> {
    for program in Program::BLOCKERS {
        lists_its_scenarios("the_table_lists_what_the_programs_list", program)?;
    }
    Ok(())
}

#[test]
fn the_readme_lists_every_scenario() {
    let readme = include_str!("../../README.md");
    for program in Program::BLOCKERS {
        for scenario in program.scenarios() {
            assert!(
                readme.contains(&format!("`{}`", scenario.name)),
                "{program:?} {}",
                scenario.name
            );
        }
    }
}

#[test]
fn flags_are_one_and_need_a_scenario() -> Result<()> {
    for args in [
        &["main_exits=1"][..],
        &["main_exits=1", "holders_read=1"],
        &["main_exits=2", "mutex=1"],
        &["holders_read=2", "mutex=1"],
        &["main_exits", "mutex=1"],
    ] {
        let Some(command) = or_skip("flags_are_one_and_need_a_scenario", Program::CBlockers.build())? else {
            return Ok(());
        };
        assert_eq!(run(command, args)?.status.code(), Some(2), "{args:?}");
    }
    Ok(())
}

#[test]
fn pingpong_takes_seconds() -> Result<()> {
    for args in [
        &[][..],
        &["--pin"],
        &["0"],
        &["1x"],
        &["1", "2"],
        &["3601"],
        &["--other", "1"],
    ] {
        let Some(command) = or_skip("pingpong_takes_seconds", Program::PingPong.build())? else {
            return Ok(());
        };
        assert_eq!(run(command, args)?.status.code(), Some(2), "{args:?}");
    }
    Ok(())
}
