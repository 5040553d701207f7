//! Goroutines as the helper process reads them, without the rest of taskleak: their stacks beside the program's own
//! traceback, and programs that lie.
//!
//! Programs are started by the tests themselves. A test that cannot run here says so; `cargo xtask test` counts those.

mod debug2;
mod equality;
mod hostile;
mod reader;
