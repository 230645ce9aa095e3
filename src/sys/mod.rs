//! The kernel side: the only module with `unsafe`. Every type here is safe and narrow.
#![allow(unsafe_code)]

pub mod file;
