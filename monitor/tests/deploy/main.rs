//! What is in `deploy/`: right for those who read it, and enough for taskleak.

mod compose;
mod image;
mod kubernetes;
mod permissions;
mod support;
mod systemd;
