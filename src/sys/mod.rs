//! The kernel side: the only module with `unsafe`. Every type here is safe and narrow; policy
//! lives above.
#![allow(unsafe_code, reason = "this is where it lives")]

pub mod cpu;
pub mod file;
pub mod memory;
pub mod net;
pub mod ring;
pub mod signal;
