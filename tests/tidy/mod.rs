//! The house style as tests: layers, purity, unsafe code, dependencies, bans, sizes, documents.
//!
//! What clippy or rustfmt can check is left to them (see the lint table in `Cargo.toml`). Every
//! rule is a function from sources to problems, so that each has a test that it can fail.

mod bans;
mod dependencies;
mod documents;
mod invariants;
mod layers;
mod links;
mod marks;
mod purity;
mod returns;
mod sizes;
mod source;
mod unsafety;
mod wording;
