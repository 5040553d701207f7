//! Tasks of tokio: exact numbers, with several versions of tokio, built in several ways.

pub mod bed;
mod blocking;
mod churn;
mod healthy;
mod large;
mod list;
mod spawns;
mod stacks;
mod untyped;
mod unwatched;
mod verdicts;
mod web;
