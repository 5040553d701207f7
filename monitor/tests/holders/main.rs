//! Who holds what: the real sweep and real memory, against programs whose locks are held by known threads.

mod healthy;
mod languages;
mod locks;
mod namespaces;
mod rings;
mod support;
