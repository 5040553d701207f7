//! C++, Rust, Python and Java: what of their locks has a holder, and what has not.

use std::{collections::BTreeSet, thread, time::Duration};

use taskleak::observe::thread::holders::Evidence::{self, Join, MutexOwner, RwlockWriter};
use testbed::Program;

use crate::support::{Look, Observer, start};

/// Starts two threads of every scenario but these, and looks at them until all that have a holder are found.
fn look_at(program: Program, but: &[&str], edges: usize) -> Option<Look> {
    let scenarios: Vec<_> = program
        .scenarios()
        .into_iter()
        .filter(|scenario| !but.contains(&scenario.name))
        .map(|scenario| format!("{}=2", scenario.name))
        .collect();
    let scenarios: Vec<&str> = scenarios.iter().map(String::as_str).collect();
    let target = start(&format!("{program:?}"), program, &scenarios)?;
    let mut observer = Observer::new(target.pid());
    observer.until("all are found", |look| look.edges.len() >= edges);
    // And no more than these, however often one looks.
    thread::sleep(Duration::from_secs(1));
    for _ in 0..10 {
        let look = observer.look();
        assert_eq!(look.edges.len(), edges, "{look:#?}");
    }
    Some(observer.look())
}

/// The evidence by the waiter's name.
fn evidence(look: &Look) -> BTreeSet<(String, Evidence)> {
    let edges = look.edges.iter();
    edges
        .map(|edge| (look.names[&edge.waiter].clone(), edge.evidence))
        .collect()
}

fn named(expected: &[(&str, Evidence)]) -> BTreeSet<(String, Evidence)> {
    expected
        .iter()
        .map(|(name, evidence)| ((*name).to_owned(), *evidence))
        .collect()
}

#[test]
fn cpp() {
    let Some(look) = look_at(Program::CppBlockers, &["deadlock_pair"], 6) else {
        return;
    };
    let expected = [
        ("thread_mutex", MutexOwner),
        ("shared_mutex", RwlockWriter),
        ("join", Join),
    ];
    assert_eq!(evidence(&look), named(&expected));
    let helpers = look.called("helper");
    assert!(look.edges.iter().all(|edge| helpers.contains(&edge.holder)));
}

/// Rust's own locks have no owner; a join is pthread's.
#[test]
fn rust() {
    let Some(look) = look_at(Program::RustBlockers, &[], 2) else {
        return;
    };
    assert_eq!(evidence(&look), named(&[("join_handle", Join)]));
}

/// All is made of semaphores and condition variables, thread_join too.
#[test]
fn python() {
    let Some(look) = look_at(Program::PythonBlockers, &[], 0) else {
        return;
    };
    assert!(look.edges.is_empty());
}

/// Its first thread joins the one that runs main(); all else is the JVM's own.
#[test]
fn java() {
    let Some(look) = look_at(Program::JavaBlockers, &[], 1) else {
        return;
    };
    assert_eq!(evidence(&look), named(&[("java", Join)]));
}
