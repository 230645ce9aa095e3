//! `rk-bench`: a load generator for any server that speaks ZooKeeper's client protocol, a ceiling
//! to measure against, and a comparison of servers in one run. See `bench/README.md`.
#![forbid(unsafe_code)]

mod admin;
mod book;
mod catchup;
mod ceiling;
mod charts;
mod cli;
mod codec;
mod compare;
mod crew;
mod disk;
mod ensemble;
mod failover;
mod fair;
mod flood;
mod floodkinds;
mod load;
mod mix;
mod neighbours;
mod net;
mod options;
mod page;
mod pair;
mod procfs;
mod quorum;
mod report;
mod restart;
mod roundlog;
mod scenario;
mod servers;
mod stages;
mod stats;
mod storm;
mod svg;
mod watch;
mod worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    net::raise_file_limit();
    if std::env::args_os().len() < 2 {
        eprintln!("{}", cli::usage());
        return ExitCode::from(2);
    }
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("rk-bench: {message}");
            ExitCode::FAILURE
        }
    }
}
