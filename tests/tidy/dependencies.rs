//! Dependencies: each is here for a reason, and named where that reason lies. A new one earns its
//! row: what it does that the project should not write, who keeps it, what it brings along.

use std::collections::BTreeSet;

use super::source::{CodePath, Problem, Source, Token, package, paths, read, report};

/// A package, who may name it, and why it is here.
struct Dependency {
    package: &'static str,
    /// Files or directories; a name without `/` is a module of `src`.
    users: &'static [&'static str],
    why: &'static str,
}

const DEPENDENCIES: &[Dependency] = &[
    Dependency { package: "base64", users: &["auth"], why: "digest ACLs, SASL" },
    Dependency {
        package: "crc32c",
        users: &["log"],
        why: "checksum of each log record, in hardware",
    },
    Dependency { package: "crc32fast", users: &["tree"], why: "ZooKeeper's digest of a node" },
    Dependency {
        package: "crossbeam-channel",
        users: &["disk", "server"],
        why: "bounded queues between the stages",
    },
    Dependency {
        package: "env_logger",
        users: &["src/main.rs", "tools/", "bench/"],
        why: "log lines of the programs",
    },
    Dependency { package: "flate2", users: &["log"], why: "snapshots compressed with gzip" },
    Dependency {
        package: "hashbrown",
        users: &["base", "pipeline", "session", "tree", "watch"],
        why: "hash maps with a hasher and an entry by hash of our own",
    },
    Dependency {
        package: "hdrhistogram",
        users: &["bench/"],
        why: "latencies without rounding loss",
    },
    Dependency { package: "io-uring", users: &["sys"], why: "the ring" },
    Dependency { package: "lexopt", users: &["tools/", "bench/"], why: "command lines" },
    Dependency { package: "libc", users: &["sys"], why: "system calls" },
    Dependency { package: "log", users: &["src/", "tools/", "bench/"], why: "the log facade" },
    Dependency { package: "md-5", users: &["auth"], why: "SASL DIGEST-MD5" },
    Dependency { package: "memmap2", users: &["sys"], why: "segments mapped for reading" },
    Dependency { package: "mimalloc", users: &["src/main.rs", "sys"], why: "the allocator" },
    Dependency {
        package: "prefetch-index",
        users: &["tree"],
        why: "the processor's prefetch instruction behind a safe function; nothing else",
    },
    Dependency { package: "rustix", users: &["bench/"], why: "epoll and sockets of the generator" },
    Dependency { package: "serde_json", users: &["admin", "bench/"], why: "JSON of the pages" },
    Dependency { package: "sha1", users: &["auth"], why: "digest ACLs" },
    Dependency {
        package: "sha2",
        users: &["auth", "tools/suites/"],
        why: "digest ACLs, DigestAlgorithm; for which list a suite fetched something",
    },
    Dependency { package: "sha3", users: &["auth"], why: "DigestAlgorithm" },
    Dependency {
        package: "simd-adler32",
        users: &["log"],
        why: "Apache's log and snapshot checksum",
    },
    Dependency {
        package: "slab",
        users: &["sys"],
        why: "operations in flight, with what they own",
    },
    Dependency { package: "snap", users: &["log"], why: "snapshots compressed with snappy" },
    Dependency {
        package: "tempfile",
        users: &["src/", "tests/", "bench/", "tools/"],
        why: "directories of tests",
    },
];

/// What the project is built on; taking one out is a decision, not a clean-up.
const FOUNDATION: &[&str] = &[
    "io-uring",
    "libc",
    "slab",
    "crossbeam-channel",
    "memmap2",
    "crc32c",
    "mimalloc",
    "log",
    "env_logger",
];

impl Dependency {
    /// The crate's name in the code.
    fn name(&self) -> String {
        if self.package == "md-5" { "md5".to_owned() } else { self.package.replace('-', "_") }
    }

    fn may_be_used_in(&self, path: &str) -> bool {
        self.users.iter().any(|user| {
            if user.contains('/') {
                path.starts_with(user)
            } else {
                path.strip_prefix("src/")
                    .and_then(|rest| rest.strip_prefix(user))
                    .is_some_and(|rest| rest.starts_with(['/', '.']))
            }
        })
    }
}

/// The packages of the manifest's dependency tables.
fn declared(manifest: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let mut is_inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            is_inside = table.ends_with("dependencies");
            if let Some((_, package)) = table.split_once("dependencies.") {
                found.insert(package);
            }
        } else if is_inside && let Some((package, _)) = line.split_once(['=', '.', ' ']) {
            found.insert(package.trim());
        }
    }
    found.remove("");
    found.remove("#");
    found
}

fn manifest_problems(manifest: &str) -> Vec<String> {
    let declared = declared(manifest);
    let mut found = Vec::new();
    for package in &declared {
        match DEPENDENCIES.iter().find(|dependency| dependency.package == *package) {
            None => found.push(format!("{package} has no row in tests/tidy/dependencies.rs")),
            Some(dependency) if dependency.why.is_empty() => found.push(format!("{package}: why?")),
            Some(_) => {}
        }
    }
    for dependency in DEPENDENCIES {
        if !declared.contains(dependency.package) {
            found.push(format!("{} has a row and is not in Cargo.toml", dependency.package));
        }
    }
    let hashbrown = manifest.lines().find(|line| line.starts_with("hashbrown"));
    if !hashbrown.is_some_and(|line| {
        line.contains("default-features = false") && !line.contains("default-hasher")
    }) {
        found
            .push("hashbrown must not bring a default hasher: its maps would differ by run".into());
    }
    found
}

/// Packages that a file names.
fn used<'a>(tokens: &[Token<'a>]) -> Vec<(&'a str, usize)> {
    let paths = paths(tokens);
    // A module or an import of that name hides the package.
    let mut local: BTreeSet<&str> = paths
        .iter()
        .filter(|path| path.is_use && path.segments.len() > 1)
        .filter_map(|path| path.segments.iter().rfind(|part| **part != "self").copied())
        .collect();
    let modules = tokens.windows(2).filter(|pair| pair[0].text == "mod");
    local.extend(modules.map(|pair| pair[1].text));
    // Unless that import is from it.
    let names_it = |path: &&CodePath<'_>| {
        let (head, last) = (path.segments[0], path.segments.last());
        !local.contains(head) || (path.is_use && path.segments.len() > 1 && last == Some(&head))
    };
    paths.iter().filter(names_it).map(|path| (path.segments[0], path.line)).collect()
}

fn misplaced(source: &Source) -> Vec<Problem> {
    let tokens = source.tokens();
    let mut found = Vec::new();
    for (name, line) in used(&tokens) {
        let dependency = DEPENDENCIES.iter().find(|dependency| dependency.name() == name);
        if let Some(dependency) = dependency
            && !dependency.may_be_used_in(&source.path)
        {
            let (package, users) = (dependency.package, dependency.users.join(", "));
            found.push(source.problem(line, format!("{package} is for {users} only")));
        }
    }
    found
}

#[test]
fn dependencies_have_reasons() {
    let found = manifest_problems(&read("Cargo.toml"));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn dependencies_stay_where_their_reason_is() {
    report(package().iter().flat_map(misplaced).collect());
}

#[test]
fn dependencies_are_used() {
    let sources = package();
    let tokens: Vec<Vec<Token<'_>>> = sources.iter().map(Source::tokens).collect();
    let used: BTreeSet<&str> =
        tokens.iter().flat_map(|tokens| used(tokens)).map(|(name, _)| name).collect();
    for dependency in DEPENDENCIES {
        assert!(used.contains(dependency.name().as_str()), "{} is unused", dependency.package);
    }
    for package in FOUNDATION {
        let is_listed = DEPENDENCIES.iter().any(|dependency| dependency.package == *package);
        assert!(is_listed, "{package} is part of the project's foundation");
    }
}

#[test]
fn manifest_rule_notices() {
    let manifest = read("Cargo.toml");
    let has = |manifest: &str, what: &str| {
        manifest_problems(manifest).iter().any(|problem| problem.contains(what))
    };
    let with = manifest.replace("[dependencies]\n", "[dependencies]\ntokio = \"1\"\n");
    assert!(has(&with, "tokio has no row"));
    let with = format!("{manifest}\n[target.'cfg(unix)'.dependencies.tokio]\nversion = \"1\"\n");
    assert!(has(&with, "tokio has no row"));
    assert!(has(&manifest.replace("slab = \"0.4\"\n", ""), "slab has a row"));
    let with = manifest.replace("\"inline-more\"", "\"default-hasher\"");
    assert!(has(&with, "hashbrown must not"));
}

#[test]
fn placement_rule_notices() {
    let lines = |path: &str, text: &str| -> Vec<usize> {
        misplaced(&Source::new(path, text)).iter().map(|problem| problem.line).collect()
    };
    let text = "use slab::Slab;\nuse log::warn;\nfn f() { libc::open() }";
    assert_eq!(lines("src/tree/x.rs", text), [1, 3]);
    assert_eq!(lines("src/sys/x.rs", text), [0; 0]);
    assert_eq!(lines("src/system/x.rs", text), [1, 3]);
    assert_eq!(lines("src/tree/mod.rs", "mod slab;\npub use slab::Slab;"), [0; 0]);
    assert_eq!(lines("src/auth/x.rs", "use prefetch_index::prefetch_index;"), [1]);
    assert_eq!(lines("src/tree/x.rs", "use super::slab;\nfn f() { slab::g() }"), [0; 0]);
}
