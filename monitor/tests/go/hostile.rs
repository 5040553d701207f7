//! Programs that claim to be Go and lie.
