//! The `ringkeeper` binary: `server`, `check`, `version`. Parses the command line and nothing
//! else; what is worth testing lives in the library.

use std::path::Path;
use std::process::ExitCode;

use ringkeeper::config::{self, Environment, RawConfig, Settings};
use ringkeeper::server::Server;
use ringkeeper::sys::cpu;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
usage: ringkeeper [server] [-Dkey=value ...]
                  [zoo.cfg | <port> <dataDir> [tickTime] [maxClientCnxns]]
       ringkeeper check [-Dkey=value ...] zoo.cfg
       ringkeeper version
without a configuration: 127.0.0.1:2181, data in ./data";

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format_target(false)
        .init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("version" | "--version" | "-V") => {
            println!("ringkeeper {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Some("check") => run(&arguments[1..], true),
        Some("server") => run(&arguments[1..], false),
        _ => run(&arguments, false),
    }
}

fn run(arguments: &[String], only_check: bool) -> ExitCode {
    let raw = match read_config(arguments) {
        Ok(raw) => raw,
        Err(message) => {
            eprintln!("ringkeeper: {message}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let environment = Environment {
        is_datadir_autocreate_disabled: std::env::var_os("ZOO_DATADIR_AUTOCREATE_DISABLE")
            .is_some(),
        usable_cpus: cpu::allowed_cpus().ok(),
    };
    let checked = config::check(&raw, &environment);
    if only_check {
        print!("{}", checked.report());
        return ExitCode::from(checked.exit_code());
    }
    match checked.into_settings() {
        Ok((settings, warnings)) => {
            for warning in warnings {
                log::warn!("{warning}");
            }
            serve(&settings)
        }
        Err(errors) => {
            for error in errors {
                eprintln!("ringkeeper: {error}");
            }
            ExitCode::from(2)
        }
    }
}

/// Files and definitions in Apache's order of precedence.
fn read_config(arguments: &[String]) -> Result<RawConfig, String> {
    let mut raw = RawConfig::new();
    let (definitions, rest): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|argument| argument.starts_with("-D"));
    if let Some(option) = rest.iter().find(|argument| argument.starts_with('-')) {
        return Err(format!("unknown option {option}"));
    }
    match rest.as_slice() {
        [] => {}
        [file] => {
            let text = std::fs::read(file).map_err(|e| format!("cannot read {file}: {e}"))?;
            raw.add_file(file, &text);
            if let Some(dynamic) = raw.dynamic_config_file().map(str::to_owned) {
                let text = std::fs::read(Path::new(&dynamic))
                    .map_err(|e| format!("cannot read dynamicConfigFile {dynamic}: {e}"))?;
                raw.add_dynamic_file(&dynamic, &text);
            }
        }
        positional => raw.add_arguments(positional),
    }
    for variable in ["SERVER_JVMFLAGS", "JVMFLAGS"] {
        if let Ok(flags) = std::env::var(variable) {
            raw.add_jvm_flags(variable, &flags);
        }
    }
    for definition in definitions {
        raw.define(&definition[2..]);
    }
    Ok(raw)
}

fn serve(settings: &Settings) -> ExitCode {
    let server = match Server::start(settings) {
        Ok(server) => server,
        Err(error) => {
            eprintln!("ringkeeper: {error}");
            return ExitCode::from(error.exit_code);
        }
    };
    let started = &server.started;
    for address in &started.listening {
        log::info!("listening on {address}");
    }
    log::info!("data in {}", started.data);
    log::info!("recovered {}", started.recovery);
    log::info!("{}", started.features);
    log::info!("stages: {}", started.topology);
    ExitCode::from(server.run_until_terminated())
}
