//! Tasks of tokio: exact numbers, with several versions of tokio, built in several ways.

mod ages;
pub mod bed;
mod blocking;
mod churn;
mod ended;
mod healthy;
mod large;
mod list;
mod maker;
mod spawns;
mod stacks;
mod untyped;
mod unwatched;
mod verdicts;
mod web;
