//! taskleak: which threads, goroutines and async tasks of running programs are blocked for good, seen from
//! outside. docs/ARCHITECTURE.md is the map.

pub mod cli;
pub mod config;
pub mod detect;
pub mod export;
pub mod identify;
pub mod launch;
pub mod model;
pub mod observe;
pub mod pipeline;
pub mod rights;
pub mod scheduling;
pub mod series;
pub mod target;
