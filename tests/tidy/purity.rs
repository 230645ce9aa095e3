//! The purity rule: what decides is handed time, bytes and randomness, so that a simulation
//! replays it exactly. Tests inside a pure module may do as they like.

use super::layers::{module_of, row};
use super::source::{CodePath, Problem, Source, package, paths, report};

/// A pure module may name this all the same, for a reason.
struct Exception {
    module: &'static str,
    path: &'static [&'static str],
    #[expect(dead_code, reason = "for the reader")]
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[Exception {
    module: "metrics",
    path: &["std", "sync", "atomic"],
    reason: "figures that other threads contribute; nothing decides by them",
}];

/// These may have state of their own, of each thread. It serves the simulator, and a release has
/// none of it.
const THREAD_LOCALS: &[&str] = &["src/base/mark.rs", "src/base/mutation.rs"];

/// What to do instead, if a pure module may not name this path.
fn objection(path: &CodePath<'_>) -> Option<&'static str> {
    let mut segments = path.segments.clone();
    if matches!(segments[0], "core" | "alloc") {
        segments[0] = "std";
    }
    Some(match segments.as_slice() {
        ["std", "fs" | "io", ..] => "take byte slices; files belong to `disk` and `sys`",
        ["std", "thread" | "process" | "env", ..] => "threads and processes belong to `server`",
        ["std", "net", "IpAddr" | "Ipv4Addr" | "Ipv6Addr" | "SocketAddr", ..] => return None,
        ["std", "net", ..] => "addresses only; sockets belong to `sys`",
        ["std", "time", "Duration", ..] => return None,
        ["std", "time", ..] => "take `base::Now`; clocks belong to `sys`",
        ["std", "sync", "Arc", ..] => return None,
        ["std", "sync", ..] => "one owner, no locks; share by `Arc` or hand over",
        ["std", "collections" | "hash", .., "HashMap" | "HashSet" | "RandomState" | "*"]
        | ["std", "collections", "HashMap" | "HashSet" | "hash_map" | "hash_set", ..] => {
            "`base::FixedMap` or `BTreeMap`: their order depends on the history only"
        }
        ["hashbrown", .., "DefaultHashBuilder"] => "`base::FixedHasher` or a seeded hasher",
        ["std", "*"] | ["std"] => "name the module that you need",
        ["libc" | "io_uring" | "rustix" | "memmap2" | "crossbeam_channel", ..] => {
            "the kernel and other threads belong to `sys`, `disk` and `server`"
        }
        _ => return None,
    })
}

fn impurities(source: &Source) -> Vec<Problem> {
    let Some((module, _)) = module_of(&source.path) else { return Vec::new() };
    if !row(module).is_some_and(|row| row.is_pure) {
        return Vec::new();
    }
    let tokens = source.shipped_tokens();
    let mut found = Vec::new();
    for path in paths(&tokens) {
        let is_excepted = EXCEPTIONS.iter().any(|exception| {
            exception.module == module && path.segments.starts_with(exception.path)
        });
        if let Some(instead) = objection(&path).filter(|_| !is_excepted) {
            let named = path.segments.join("::");
            found
                .push(source.problem(path.line, format!("`{module}` is pure: {named}: {instead}")));
        }
    }
    for pair in tokens.windows(2) {
        let [name, mark] = [pair[0].text, pair[1].text];
        let is_printing = matches!(name, "print" | "println" | "eprint" | "eprintln");
        let is_shared = name == "thread_local" && !THREAD_LOCALS.contains(&&*source.path);
        if mark == "!" && (is_printing || is_shared) {
            let what = format!("`{module}` is pure: {name}!: return it, or use the `log` crate");
            found.push(source.problem(pair[0].line, what));
        }
    }
    found
}

#[test]
fn pure_modules_are_pure() {
    report(package().iter().flat_map(impurities).collect());
}

#[test]
fn purity_rule_notices() {
    let lines = |path: &str, text: &str| -> Vec<usize> {
        impurities(&Source::new(path, text)).iter().map(|problem| problem.line).collect()
    };
    let bad = [
        "use std::fs;",
        "use std::{collections::BTreeMap, io::Write};",
        "use std::collections::{self, HashMap};",
        "use std::collections::hash_map::Entry;",
        "use std::collections::*;",
        "use std::net::TcpStream;",
        "use std::time::{Duration, Instant};",
        "use std::time;",
        "use std::sync::{Arc, Mutex};",
        "use core::sync::atomic::AtomicU64;",
        "fn f() { std::thread::yield_now(); }",
        "fn f() -> ::std::env::Args { }",
        "use libc;",
        "use hashbrown::DefaultHashBuilder as B;",
        "fn f() { println!(); }",
        "thread_local! { }",
    ];
    for text in bad {
        assert_eq!(lines("src/tree/x.rs", text), [1], "{text}");
        assert_eq!(lines("src/sys/x.rs", text), [0; 0], "{text}");
    }
    let good = "use std::net::{IpAddr, SocketAddr};\nuse std::sync::Arc;\n\
                use std::time::Duration;\nuse std::fmt::Write;\n\
                fn f() { log::warn!(\"std::fs\"); }\n\
                #[cfg(test)]\nmod tests { use std::fs; }";
    assert_eq!(lines("src/tree/x.rs", good), [0; 0]);
    assert_eq!(lines("src/base/mark.rs", "thread_local! { }"), [0; 0]);
    assert_eq!(lines("src/metrics/x.rs", "use std::sync::atomic::AtomicU64;"), [0; 0]);
}
