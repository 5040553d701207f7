//! The page at `/`, looked at as people do: in a real browser, with a mouse, and with a keyboard alone.

mod browser;
mod hostile;
mod looks;
mod monitor;
