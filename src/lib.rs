//! Ringkeeper: a coordination server that speaks Apache ZooKeeper's protocols.

pub mod admin;
pub mod auth;
pub mod base;
pub mod config;
pub mod disk;
pub mod driver;
pub mod election;
pub mod front;
pub mod leader;
pub mod log;
pub mod member;
pub mod metrics;
pub mod peer;
pub mod pipeline;
pub mod quorum;
pub mod replica;
pub mod server;
pub mod session;
pub mod sim;
pub mod sys;
pub mod tree;
pub mod watch;
pub mod wire;
pub mod zab;
