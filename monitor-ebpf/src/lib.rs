//! Empty: it lets `monitor` name this package as a build dependency, so that cargo rebuilds the object when
//! anything here changes. The programs are in `main.rs`.
#![no_std]
