//! Renders snapshots. Changes nothing.

pub mod evidence;
pub mod html;
pub mod http;
pub mod json;
pub mod judgement;
pub mod leftover;
pub mod metrics;
pub mod prometheus;
#[cfg(test)]
pub mod schema;
pub mod stacks;
pub mod text;
