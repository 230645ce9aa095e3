//! What the commands that start servers have in common: how options are taken, which servers there
//! are, and where the figures go.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use lexopt::prelude::*;
use serde_json::{Value as Json, json};

use crate::cli::value;
use crate::servers::{self, Contestant, Programs};

/// The options of [`Common`], for the help of a command; [`servers::OPTIONS`] are taken, too.
const OPTIONS: &str = "\
all commands that start servers:
  --keep                   leave the servers' directories
  --out FILE               write the JSON to FILE
  --json                   JSON instead of the table on standard output
";

/// The options that each of these commands has.
pub struct Common {
    /// The programs to start.
    pub programs: Programs,
    /// Leave the servers' directories.
    pub keep: bool,
    json: bool,
    out: Option<PathBuf>,
}

impl Common {
    /// The defaults of all options.
    pub fn new() -> Common {
        Common { programs: Programs::new(), keep: false, json: false, out: None }
    }

    /// Takes the options of `rk-bench COMMAND`, its own ones by `own`, which says whether it knows
    /// one. `None` if only the help was asked for.
    pub fn parse(
        parser: &mut lexopt::Parser,
        command: &str,
        help: &str,
        mut own: impl FnMut(&mut Common, &str, &mut lexopt::Parser) -> Result<bool, String>,
    ) -> Result<Option<Common>, String> {
        let mut common = Common::new();
        let see = format!("see rk-bench {command} --help");
        while let Some(arg) = parser.next().map_err(|e| e.to_string())? {
            let name = match &arg {
                Long(name) => (*name).to_owned(),
                Short('h') => "help".to_owned(),
                Short(letter) => return Err(format!("no option -{letter}; {see}")),
                Value(text) => {
                    return Err(format!("`{}` is not an option; {see}", text.to_string_lossy()));
                }
            };
            if name == "help" {
                println!("{help}\n{OPTIONS}\n{}", servers::OPTIONS);
                return Ok(None);
            }
            if !own(&mut common, &name, parser)? && !common.take_option(&name, parser)? {
                return Err(format!("no option --{name}; {see}"));
            }
        }
        Ok(Some(common))
    }

    fn take_option(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<bool, String> {
        match name {
            "keep" => self.keep = true,
            "json" => self.json = true,
            "out" => self.out = Some(value(parser, "out")?),
            other => return self.programs.take_option(other, parser),
        }
        Ok(true)
    }

    /// Writes the figures of a run: the JSON to the file if one was named, and JSON or `text` to
    /// standard output.
    pub fn write(&self, figures: &Json, text: impl FnOnce() -> String) -> Result<(), String> {
        if let Some(path) = &self.out {
            std::fs::write(path, format!("{figures:#}\n"))
                .map_err(|e| format!("{}: {e}", path.display()))?;
        }
        if self.json {
            println!("{figures:#}");
        } else {
            print!("{}", text());
        }
        Ok(())
    }
}

/// The value of `--server`. The ceiling keeps no state and does not count.
pub fn contestant(parser: &mut lexopt::Parser) -> Result<Contestant, String> {
    let name: String = value(parser, "server")?;
    let all = [Contestant::Ringkeeper, Contestant::Apache];
    let found = all.into_iter().find(|who| who.name() == name);
    found.ok_or_else(|| format!("--server {name}: ringkeeper or apache"))
}

/// Measures `count` rounds by `one`, says what each came to by `line`, and numbers them.
pub fn rounds(
    count: usize,
    one: impl Fn() -> Result<Json, String>,
    line: impl Fn(&Json) -> String,
) -> Result<Vec<Json>, String> {
    let mut rounds = Vec::new();
    for round in 1..=count {
        eprintln!("round {round} of {count}");
        let mut figures = one()?;
        figures["round"] = json!(round);
        eprintln!("  {}", line(&figures));
        rounds.push(figures);
    }
    Ok(rounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Option<(Common, Vec<String>)>, String> {
        let mut parser = lexopt::Parser::from_args(args);
        let mut seen = Vec::new();
        let common = Common::parse(&mut parser, "drink", "HELP", |_, name, parser| {
            match name {
                "size" => seen.push(value::<String>(parser, "size")?),
                _ => return Ok(false),
            }
            Ok(true)
        });
        Ok(common?.map(|common| (common, seen)))
    }

    #[test]
    fn options_are_the_commands_own_or_everybodys() {
        let args = ["--size", "7", "--keep", "--out", "f", "--heap-mib", "5"];
        let (common, seen) = parse(&args).unwrap().unwrap();
        assert_eq!(seen, ["7"]);
        assert_eq!((common.keep, common.json, common.programs.heap_mib), (true, false, 5));
        assert_eq!(common.out, Some(PathBuf::from("f")));
        assert!(parse(&["-h", "--size"]).unwrap().is_none());
        for (args, message) in [
            (&["--sise"][..], "no option --sise; see rk-bench drink --help"),
            (&["-s"], "no option -s; see rk-bench drink --help"),
            (&["size"], "`size` is not an option; see rk-bench drink --help"),
        ] {
            assert_eq!(parse(args).err(), Some(message.to_owned()));
        }
    }
}
