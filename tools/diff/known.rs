//! Differences that are accepted, each with its reason. The README lists the same.

use crate::history::{Action, Op};
use crate::run::Step;

/// An accepted difference.
pub struct Known {
    /// Short name, counted in the summary.
    pub name: &'static str,
    /// Why the servers differ.
    pub reason: &'static str,
    is_match: fn(Option<&Op>, &Step, &Step) -> bool,
}

/// All of them. A history ends at the first one that it meets, as the states differ from there.
pub const KNOWN: &[Known] = &[
    Known {
        name: "delete-container-from-client",
        reason: "opcode 20 lets any client of Apache delete any childless node past its parent's \
                 ACL; Ringkeeper refuses it like an unknown opcode",
        is_match: |op, _, _| has_opcode(op, 20),
    },
    Known {
        name: "create-session-from-client",
        reason: "Apache answers opcode -10 with a second ConnectResponse, which no client can \
                 read; Ringkeeper refuses it like an unknown opcode",
        is_match: |op, _, _| has_opcode(op, -10),
    },
    Known {
        name: "acl-id-outside-bmp",
        reason: "an ACL id with a character outside the BMP comes out of a multi on Apache \
                 with two U+FFFD in its place; Ringkeeper keeps it",
        is_match: |_, a, b| {
            let repaired = |line: &String| line.replace("\u{fffd}\u{fffd}", "\u{1f600}");
            a.lines.len() == b.lines.len()
                && a.lines.iter().zip(&b.lines).all(|(a, b)| a == b || repaired(a) == *b)
        },
    },
    Known {
        name: "auth-expansion-order",
        reason: "Apache keeps a connection's identities in a hash set, so what `auth` in an ACL \
                 becomes is in no particular order; Ringkeeper keeps that of the auth packets",
        is_match: |_, a, b| {
            a.lines.len() == b.lines.len()
                && a.lines.iter().zip(&b.lines).all(|(a, b)| a == b || same_entries(a, b))
        },
    },
];

/// Whether two lines differ only in the order of the entries of an ACL.
fn same_entries(a: &str, b: &str) -> bool {
    let parts = |line: &str| {
        let (head, rest) = line.split_once("acl=[")?;
        let (list, tail) = rest.split_once(']')?;
        let mut entries: Vec<String> = list.split(", ").map(str::to_owned).collect();
        entries.sort();
        Some((head.to_owned(), entries, tail.to_owned()))
    };
    parts(a).is_some_and(|of_a| Some(of_a) == parts(b))
}

fn has_opcode(op: Option<&Op>, code: i32) -> bool {
    let Some(op) = op else { return false };
    match &op.action {
        Action::Call(request) => request.op == code,
        Action::Burst(requests) | Action::Expire(requests) | Action::Eager(_, requests) => {
            requests.iter().any(|request| request.op == code)
        }
        _ => false,
    }
}

/// The accepted difference that explains this one; `op` is `None` for the state at the end.
pub fn explain(op: Option<&Op>, a: &Step, b: &Step) -> Option<&'static Known> {
    KNOWN.iter().find(|known| (known.is_match)(op, a, b))
}
