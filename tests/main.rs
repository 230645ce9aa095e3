//! The one integration-test binary; every suite is a module of it.

mod differential;
mod ensemble;
mod fuzz;
mod process;
mod sim;
mod tidy;
mod util;
