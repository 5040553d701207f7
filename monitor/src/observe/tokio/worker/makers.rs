//! Asks who makes tasks.

use std::sync::Arc;

use super::{Threads, ask};
use crate::observe::{
    tokio::{
        protocol::{Answer, Births, MAX_NAMED, Question},
        spawning::Told,
        view::Memory,
    },
    worker::{Asker, Failure},
};

/// Of a program without places at which all tasks are made, or all end.
const UNSEEN: &str = "it is not seen who makes its tokio tasks";

fn told(births: &Births) -> String {
    format!(
        "its tokio tasks are made at {} places and end at {}, with {} steps to those who make them",
        births.spawns.len(),
        births.exits.len(),
        births.steps.len()
    )
}

/// Asks who makes tasks, and how to find out.
pub fn tell_creators(memory: &mut Memory, threads: &Threads, asker: &mut Asker<'_>) -> Result<(), Failure> {
    let who = asker.who;
    let births = match &memory.births {
        Some(births) => births.clone(),
        None => {
            let Answer::Births(births) = ask(asker, &Question::Births(who))? else {
                return Err(asker.another_answer());
            };
            if births.as_ref().is_some_and(|births| !births.is_bounded()) {
                return Err(asker.another_answer());
            }
            tracing::debug!(
                "process {}: {}",
                who.pid,
                births.as_ref().map_or_else(|| UNSEEN.to_owned(), told)
            );
            memory.births.insert(births.map(Arc::new)).clone()
        }
    };
    let mut told = Told {
        births: births.clone(),
        knows_kept: true,
        ..Told::default()
    };
    let bias = births.map_or(0, |births| births.bias);
    let linked = |address: &u64| {
        if *address == 0 {
            0
        } else {
            address.wrapping_sub(bias)
        }
    };
    for places in threads.steps.chunks(MAX_NAMED) {
        let places: Vec<u64> = places.iter().map(linked).collect();
        let question = Question::Steps {
            who,
            places: places.clone(),
        };
        let Answer::Steps(steps) = ask(asker, &question)? else {
            return Err(asker.another_answer());
        };
        told.steps.extend(places.into_iter().zip(steps));
    }
    for places in threads.unnamed.chunks(MAX_NAMED) {
        let question = Question::Origins {
            who,
            places: places
                .iter()
                .map(|(pc, runs)| (linked(pc), linked(runs)))
                .collect(),
        };
        let Answer::Origins(origins) = ask(asker, &question)? else {
            return Err(asker.another_answer());
        };
        told.named.extend(places.iter().copied().zip(origins));
    }
    memory.told = told;
    Ok(())
}
