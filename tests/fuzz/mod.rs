//! Seeded fuzzing of everything that decodes bytes from outside. Nothing panics (with debug
//! assertions), nothing takes long, no length field makes it reserve memory, and what is decoded
//! survives being encoded again.
//!
//! A driver is a function of one case, a case a function of its seed. `RK_FUZZ_SECONDS=600` runs
//! each driver that long from a new seed; `RK_FUZZ_SEED=<case>` replays one case. The canary
//! drivers are wrong on purpose: they prove that a defect is found and reported.

#![allow(clippy::unwrap_used, reason = "a panic is how a case says what it found")]

mod auth;
mod canary;
mod config;
mod front;
mod harness;
mod input;
mod log;
mod replica;
mod requests;
mod wire;
