//! `zookeeper-env.sh` and `java.env`, the scripts beside zoo.cfg in which `-D` options are kept.
//!
//! Corresponds to `zkEnv.sh`, which lets the shell run both, in this order, and to `zkServer.sh`,
//! which then starts Java with the options in `SERVER_JVMFLAGS` and behind them those in
//! `JVMFLAGS`, so that the latter win. An assignment replaces what the environment brought along.
//! There is no shell here: plain assignments and exports are read; whatever else stands in a
//! script is named in a warning, with the properties that are lost by it.

mod lexer;
mod script;
#[cfg(test)]
mod tests;
mod variables;

pub(super) use variables::Piece;
pub use variables::{SCRIPTS, ShellVariables};
