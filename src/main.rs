//! The `ringkeeper` binary: `server`, `check`, `init`, `version`. Parses the command line and
//! nothing else; what is worth testing lives in the library.

use std::io::{IsTerminal, Write, stderr};
use std::path::Path;
use std::process::ExitCode;

use env_logger::{Target, WriteStyle};

use ringkeeper::config::{self, Environment, RawConfig, Settings, ShellVariables};
use ringkeeper::server::{
    LogPipe, Members, Server, describe_dirs, flush_log, foresee_start, init, log_filter, preflight,
};
use ringkeeper::sys::cpu;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "\
usage: ringkeeper [server] [-Dkey=value ...]
                  [zoo.cfg | <port> <dataDir> [tickTime] [maxClientCnxns]]
       ringkeeper check [-Dkey=value ...] zoo.cfg
       ringkeeper init [--members N | --hosts a,b,c] DIR
       ringkeeper version
without a configuration: 127.0.0.1:2181, data in ./data";

/// What may stand in the place of a configuration file.
const COMMANDS: [&str; 5] = ["server", "check", "init", "version", "help"];

fn main() -> ExitCode {
    let (filter, complaint) = log_filter(std::env::var("RUST_LOG").ok().as_deref());
    start_log(&filter);
    if let Some(complaint) = complaint {
        log::warn!("{complaint}");
    }
    let mut arguments = Vec::new();
    for argument in std::env::args_os().skip(1) {
        match argument.into_string() {
            Ok(argument) => arguments.push(argument),
            Err(odd) => {
                let message = format!("{} is not UTF-8", odd.display());
                return refuse(&Unreadable::Usage(message));
            }
        }
    }
    let (first, rest) = match arguments.split_first() {
        Some((first, rest)) => (first.as_str(), rest),
        None => ("server", &[][..]),
    };
    let is_help = |word: &String| matches!(word.as_str(), "--help" | "-h");
    match first {
        _ if first == "help" || arguments.iter().any(is_help) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        "version" | "--version" | "-V" | "-v" => match rest.first() {
            None => {
                println!("ringkeeper {}", env!("CARGO_PKG_VERSION"));
                ExitCode::SUCCESS
            }
            Some(more) => refuse(&meaningless(more, first)),
        },
        "check" => run(rest, true),
        "init" => begin_ensemble(rest),
        "server" => run(rest, false),
        _ => run(&arguments, false),
    }
}

fn start_log(filter: &str) {
    // The logging library finds this out itself only where it writes to stderr itself.
    let is_plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty())
        || std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
    let is_colored = stderr().is_terminal() && !is_plain;
    let style = if is_colored { WriteStyle::Always } else { WriteStyle::Never };
    env_logger::Builder::new()
        .parse_filters(filter)
        .format_target(false)
        .write_style(style)
        .target(Target::Pipe(Box::new(LogPipe)))
        .init();
}

/// Says why there is nothing to do.
fn refuse(reason: &Unreadable) -> ExitCode {
    match reason {
        Unreadable::Usage(message) => eprintln!("ringkeeper: {message}\n{USAGE}"),
        Unreadable::File(message) => eprintln!("ringkeeper: {message}"),
    }
    ExitCode::from(2)
}

/// `init`: writes the configurations of a new ensemble.
fn begin_ensemble(arguments: &[String]) -> ExitCode {
    let (dir, members) = match parse_init(arguments) {
        Ok(parsed) => parsed,
        Err(message) => return refuse(&Unreadable::Usage(message)),
    };
    match init(Path::new(dir), &members) {
        Ok(next_steps) => {
            print!("{next_steps}");
            ExitCode::SUCCESS
        }
        Err(message) => refuse(&Unreadable::File(message)),
    }
}

/// The directory and the members; `--members 3` and `--members=3` are the same, and the default.
fn parse_init(arguments: &[String]) -> Result<(&str, Members), String> {
    let (mut dir, mut members) = (None, None);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if !argument.starts_with('-') {
            if dir.replace(argument.as_str()).is_some() {
                return Err(format!("`{argument}` is one directory too many"));
            }
            continue;
        }
        let (option, value) = match argument.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            None => (argument.as_str(), rest.next().map(String::as_str)),
        };
        let value = value.ok_or_else(|| format!("{option} needs a value"))?;
        let wanted = match option {
            "--members" => {
                let count = value.parse();
                Members::Here(count.map_err(|_| format!("{option}: `{value}` is not a number"))?)
            }
            "--hosts" => Members::On(value.split(',').map(str::to_owned).collect()),
            _ => return Err(format!("unknown option {option}")),
        };
        if members.replace(wanted).is_some() {
            return Err("either --members or --hosts, and once".to_owned());
        }
    }
    let dir = dir.ok_or("init needs the directory in which to write")?;
    Ok((dir, members.unwrap_or(Members::Here(3))))
}

fn run(arguments: &[String], only_check: bool) -> ExitCode {
    let raw = match read_config(arguments) {
        Ok(raw) => raw,
        Err(reason) => return refuse(&reason),
    };
    let environment = Environment { usable_cpus: cpu::allowed_cpus().ok() };
    let mut checked = config::check(&raw, &environment);
    checked.add_findings(preflight);
    if only_check {
        checked.add_findings(foresee_start);
        print!("{}", checked.report());
        return ExitCode::from(checked.exit_code());
    }
    let exit_code = ExitCode::from(checked.exit_code());
    match checked.into_settings() {
        Ok((settings, warnings)) => {
            log::info!(
                "ringkeeper {}, process {}, {}, data in {}",
                env!("CARGO_PKG_VERSION"),
                std::process::id(),
                describe_source(arguments),
                describe_dirs(&settings)
            );
            for warning in warnings {
                log::warn!("{}", warning.unrated());
            }
            serve(&settings)
        }
        Err(errors) => {
            for error in errors {
                eprintln!("ringkeeper: {error}");
            }
            exit_code
        }
    }
}

/// Why there is nothing to check or to serve.
enum Unreadable {
    /// The command line is wrong: show how it is meant.
    Usage(String),
    /// A file cannot be read, which the usage would only bury.
    File(String),
}

fn meaningless(more: &str, behind: &str) -> Unreadable {
    Unreadable::Usage(format!("`{more}` behind {behind} means nothing"))
}

fn no_such_command(word: &str) -> Unreadable {
    if word.is_empty() {
        return Unreadable::Usage("an argument is empty".to_owned());
    }
    if word.bytes().all(|b| b.is_ascii_digit()) {
        return Unreadable::Usage(format!("a dataDir is missing behind the port {word}"));
    }
    let nearest = config::nearest_word(&COMMANDS, word);
    let hint = nearest.map_or(String::new(), |command| format!("; did you mean `{command}`?"));
    Unreadable::Usage(format!("no such command or file: {word}{hint}"))
}

/// The arguments that are no definitions.
fn positional(arguments: &[String]) -> Vec<&String> {
    arguments.iter().filter(|argument| !argument.starts_with("-D")).collect()
}

fn describe_source(arguments: &[String]) -> String {
    match positional(arguments).as_slice() {
        [] => "built-in configuration".to_owned(),
        [file] => {
            let path = std::path::absolute(file).unwrap_or_else(|_| file.into());
            format!("configuration {}", path.display())
        }
        _ => "configuration on the command line".to_owned(),
    }
}

/// Files and definitions in Apache's order of precedence.
fn read_config(arguments: &[String]) -> Result<RawConfig, Unreadable> {
    let mut raw = RawConfig::new();
    let variables = std::env::vars_os();
    let variables =
        variables.filter_map(|(name, value)| name.into_string().ok().zip(value.into_string().ok()));
    let mut shell = ShellVariables::new(variables);
    let rest = positional(arguments);
    if let Some(option) = rest.iter().find(|argument| argument.starts_with('-')) {
        return Err(Unreadable::Usage(format!("unknown option {option}")));
    }
    let definitions = arguments.iter().filter_map(|argument| argument.strip_prefix("-D"));
    if let Some(odd) = definitions.clone().find(|definition| !config::is_definition(definition)) {
        let message = format!("-D{odd} defines nothing; write -Dkey=value without a blank");
        return Err(Unreadable::Usage(message));
    }
    match rest.as_slice() {
        [] => {}
        [file] => {
            if !file.contains(['/', '.']) && !Path::new(file).exists() {
                return Err(no_such_command(file));
            }
            let unreadable = |e| Unreadable::File(format!("cannot read {file}: {e}"));
            raw.add_file(file, &std::fs::read(file).map_err(unreadable)?);
            run_scripts(Path::new(file), &mut shell);
            raw.choose_paths(|path| Path::new(path).exists());
            if let Some(dynamic) = raw.dynamic_config_file().map(str::to_owned) {
                match std::fs::read(&dynamic) {
                    Ok(text) => raw.add_dynamic_file(&dynamic, &text),
                    Err(e) => raw.miss_dynamic_file(&e.to_string()),
                }
            }
            if let Some(file) = raw.my_id_file() {
                raw.add_my_id(&file, std::fs::read(&file).map_err(|e| e.to_string()));
            }
        }
        [file, more, ..] if Path::new(file).is_file() => {
            return Err(meaningless(more, &format!("the configuration file {file}")));
        }
        // A port begins the other form; a wrong one is reported with what is allowed.
        [word, ..] if word.is_empty() || word.starts_with(|c: char| c.is_alphabetic()) => {
            return Err(no_such_command(word));
        }
        positional => raw.add_arguments(positional),
    }
    raw.add_shell(&shell);
    definitions.for_each(|definition| raw.define(definition));
    Ok(raw)
}

/// The scripts beside `file`, as `zkEnv.sh` runs them. There need not be any.
fn run_scripts(file: &Path, shell: &mut ShellVariables) {
    for script in config::SCRIPTS {
        let path = file.with_file_name(script);
        match std::fs::read(&path) {
            Ok(text) => shell.run(&path.display().to_string(), &text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => shell.miss(&path.display().to_string(), &e.to_string()),
        }
    }
}

fn serve(settings: &Settings) -> ExitCode {
    let server = match Server::start(settings) {
        Ok(server) => server,
        Err(error) => {
            // Through the queue of the log: after all earlier lines, and without waiting for a
            // reader.
            let _ = writeln!(LogPipe, "ringkeeper: {error}");
            flush_log();
            return ExitCode::from(error.exit_code);
        }
    };
    let started = &server.started;
    for address in &started.listening {
        log::info!("listening on {address}");
    }
    log::info!("recovered {}", started.recovery);
    log::info!("{}", started.features);
    log::info!("stages: {}", started.topology);
    let code = server.run_until_terminated();
    flush_log();
    ExitCode::from(code)
}
