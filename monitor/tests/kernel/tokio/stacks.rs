//! `stacks` of a program that runs tokio: every task, what it awaits and where.

use serde_json::Value;
use testbed::tokio::{Flavor, NEWEST};

use super::bed::start;
use crate::support::{stderr, taskleak};
