//! `taskleak judge` from outside: what it reads, what it says, how it fails. Needs no rights.

mod files;
mod server;
mod support;
