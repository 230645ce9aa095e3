//! `zookeeper-env.sh` and `java.env`, the scripts beside zoo.cfg in which `-D` options are kept.
//!
//! Corresponds to `zkEnv.sh`, which lets the shell run both, in this order, and to `zkServer.sh`,
//! which then starts Java with the options in `SERVER_JVMFLAGS`, then the options in `JVMFLAGS`:
//! of two options with one name the later wins. An assignment replaces a value of the environment.
//! There is no shell here: plain assignments and exports are read; every other statement of a
//! script is named in a warning, with the properties that are lost.

mod lexer;
mod script;
#[cfg(test)]
mod tests;
mod variables;

pub(super) use variables::Piece;
pub use variables::{SCRIPTS, ShellVariables};
