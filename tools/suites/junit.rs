//! The tests of Apache ZooKeeper and Curator: each class in a Java process of its own, since what
//! the classes set is static; their servers are further processes.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crate::context::{Context, Failure, Log, clear, read};
use crate::counts::Counts;
use crate::foreign::{SUPER, logback};
use crate::own::Outcome;
use crate::setup;

/// The tests spend most of their time waiting, so a few at once share the machine well.
const PROCESSES: usize = 8;

/// What a file like `tests/foreign/java/zookeeper.txt` lists.
#[derive(PartialEq, Eq, Debug, Default)]
struct List {
    /// Names of classes.
    classes: Vec<String>,
    /// Patterns of methods that are left out.
    excluded: Vec<String>,
}

impl List {
    /// A line is a class, `!Class.method` for a method that is left out, or a comment; after two
    /// spaces and `#` it says why.
    fn parse(text: &str) -> List {
        let mut list = List::default();
        for line in text.lines() {
            let line = line.split("  #").next().unwrap_or(line);
            match line.strip_prefix('!') {
                Some(method) => {
                    list.excluded.push(format!("--exclude-methodname=^.*\\.{method}$"));
                }
                None if line.is_empty() || line.starts_with('#') => {}
                None => list.classes.push(line.to_owned()),
            }
        }
        list
    }
}

/// The classes of one list while they run.
struct Run<'a> {
    context: &'a Context,
    list: List,
    class_path: String,
    /// A log for each class, and how long each took.
    reports: PathBuf,
    seconds: Mutex<String>,
}

/// Runs the classes that `tests/foreign/java/<name>.txt` lists.
pub fn junit(context: &Context, log: &Log, name: &str) -> Outcome {
    setup::java(context)?;
    setup::server(context)?;
    let class_path = setup::java_class_path(context)?;
    setup::compile_java(context, "external", &class_path)?;
    let listed = |name: &str| read(&context.foreign.join(format!("java/{name}.txt")));
    let mut list = List::parse(&listed(name)?);
    if context.arguments.members > 1 {
        list.excluded.extend(List::parse(&listed("ensemble")?).excluded);
    }
    let reports = context.logs().join(name);
    clear(&reports)?;
    let run = Run { context, list, class_path, reports, seconds: Mutex::default() };
    run.all()?;
    run.again(log)?;
    run.collect(log)?;
    Ok((Counts::of_junit(&log.text()?), true))
}

impl Run<'_> {
    /// Every class, a few at once.
    fn all(&self) -> Result<(), Failure> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<(), Failure> {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= self.list.classes.len() {
                    return Ok(());
                }
                self.class(index)?;
            }
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..PROCESSES).map(|_| scope.spawn(work)).collect();
            threads.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|_| Err("a thread panicked".to_owned()))
            })
        })
    }

    /// Many of these tests rely on short waits and fail now and then on Apache as well. What failed
    /// beside the others gets a second chance on its own, and the log says so.
    fn again(&self, log: &Log) -> Result<(), Failure> {
        for (index, class) in self.list.classes.iter().enumerate() {
            let path = self.report(class);
            let first = read(&path)?;
            if Counts::of_junit(&first).failed == 0 {
                continue;
            }
            let kept = path.with_extension("log.first");
            fs::rename(&path, &kept).map_err(|e| format!("{}: {e}", kept.display()))?;
            for name in failures(&first) {
                eprintln!("AGAIN {name}");
                log.append(&format!("AGAIN {name}\n"))?;
            }
            self.class(index)?;
        }
        Ok(())
    }

    /// Puts the logs of all classes into one, with a line for each failure at the end.
    fn collect(&self, log: &Log) -> Result<(), Failure> {
        let mut classes = self.list.classes.clone();
        classes.sort();
        let mut failed = String::new();
        for class in classes {
            let text = read(&self.report(&class))?;
            log.append(&text)?;
            failures(&text).for_each(|name| failed.push_str(&format!("FAILED {name}\n")));
        }
        log.append(&failed)?;
        let path = self.reports.join("seconds");
        let seconds = self.seconds.lock().map_err(|e| e.to_string())?;
        fs::write(&path, seconds.as_str()).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn report(&self, class: &str) -> PathBuf {
        self.reports.join(format!("{class}.log"))
    }

    /// One class; its log says how it went.
    fn class(&self, index: usize) -> Result<(), Failure> {
        let (context, class) = (self.context, &self.list.classes[index]);
        let started = Instant::now();
        let work = context.cache.join(format!("java/work-{class}"));
        fs::create_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))?;
        let log = Log::create(self.report(class))?;
        let mut java = context.command("java");
        java.current_dir(&work).args(["-Xmx1g", "-XX:+UseSerialGC"]);
        for (name, value) in [
            ("java.io.tmpdir", work.display().to_string()),
            ("build.test.dir", work.display().to_string()),
            ("foreign.server", context.foreign.join("server").display().to_string()),
            ("foreign.logs", self.reports.display().to_string()),
            ("foreign.log", "OFF".to_owned()),
            // A range of ports of its own for each class of ZooKeeper's tests.
            ("test.junit.threads", self.list.classes.len().to_string()),
            ("zookeeper.junit.threadid", (index + 1).to_string()),
        ] {
            java.arg(format!("-D{name}={value}"));
        }
        java.arg(logback(context)).arg(SUPER).arg("-cp");
        let external = context.cache.join("java/external");
        java.arg(format!("{}:{}", external.display(), self.class_path));
        java.args(["org.junit.platform.console.ConsoleLauncher", "execute", "--disable-banner"]);
        java.args(["--disable-ansi-colors", "--details=testfeed"]);
        java.arg("--config=junit.jupiter.execution.timeout.testable.method.default=300s");
        java.arg(format!("--select-class={class}")).args(&self.list.excluded);
        if !log.run(&mut java)? && Counts::of_junit(&log.text()?).failed == 0 {
            log.append(&format!("[ 1 tests failed ] {NO_RESULT} {class}\n"))?;
        }
        let line = format!("{} s {class}\n", started.elapsed().as_secs());
        self.seconds.lock().map_err(|e| e.to_string())?.push_str(&line);
        fs::remove_dir_all(&work).map_err(|e| format!("{}: {e}", work.display()))
    }
}

/// What the log of a class says that ended without counts.
const NO_RESULT: &str = "no result of";

/// The tests that the log of a class says have failed.
fn failures(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter_map(|line| {
        let named =
            line.strip_prefix("JUnit Jupiter > ").and_then(|l| l.strip_suffix(" :: FAILED"));
        named.or_else(|| Some(line.split_once(NO_RESULT)?.1.trim_start()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_classes_methods_and_reasons() {
        let list =
            List::parse("# All of them.\n\norg.A\norg.B  # with a reason\n!B.slow  # waits\n");
        assert_eq!(list.classes, ["org.A", "org.B"]);
        assert_eq!(list.excluded, ["--exclude-methodname=^.*\\.B.slow$"]);
    }

    #[test]
    fn failures_are_named() {
        let log = "JUnit Jupiter > A > works() :: SUCCESSFUL\n\
                   JUnit Jupiter > A > fails() :: FAILED\n\
                   [ 1 tests failed ] no result of org.B\n";
        assert_eq!(failures(log).collect::<Vec<_>>(), ["A > fails()", "org.B"]);
    }
}
