//! Differences that are accepted, each with its reason. The README lists the same.

use crate::history::{Action, Identity, Op, Request};
use crate::run::Step;

/// An accepted difference.
pub struct Known {
    /// Short name, counted in the summary.
    pub name: &'static str,
    /// Why the servers differ.
    pub reason: &'static str,
    is_match: fn(&[&Op], &Step, &Step) -> bool,
}

/// All of them. A history ends at the first one that it meets, as the states differ from there.
pub const KNOWN: &[Known] = &[
    Known {
        name: "delete-container-from-client",
        reason: "opcode 20 lets any client of Apache delete any childless node past its parent's \
                 ACL; Ringkeeper refuses it like an unknown opcode",
        is_match: |ops, _, _| has_opcode(ops, 20),
    },
    Known {
        name: "create-session-from-client",
        reason: "Apache answers opcode -10 with a second ConnectResponse, which no client can \
                 read; Ringkeeper refuses it like an unknown opcode",
        is_match: |ops, _, _| has_opcode(ops, -10),
    },
    Known {
        name: "acl-id-outside-bmp",
        reason: "an ACL id with a character outside the BMP comes out of a multi on Apache \
                 with two U+FFFD in its place; Ringkeeper keeps it",
        is_match: |ops, a, b| {
            let repaired = |line: &String| line.replace("\u{fffd}\u{fffd}", "\u{1f600}");
            let is_repaired = |a: &String, b: &String| {
                let a = repaired(a);
                a == *b || same_entries(&a, b)
            };
            has_mangled_identity(ops)
                || a.lines.iter().any(|line| repaired(line) != *line)
                    && a.lines.len() == b.lines.len()
                    && a.lines.iter().zip(&b.lines).all(|(a, b)| is_repaired(a, b))
        },
    },
    Known {
        name: "read-behind-session-end",
        reason: "Apache may carry out reads that come behind the end of their session",
        is_match: is_read_behind_end,
    },
    Known {
        name: "auth-expansion-order",
        reason: "Apache keeps a connection's identities in a hash set, so what `auth` in an ACL \
                 becomes is in no particular order; Ringkeeper keeps the order of the auth packets",
        is_match: |_, a, b| {
            a.lines.len() == b.lines.len()
                && a.lines.iter().zip(&b.lines).all(|(a, b)| a == b || same_entries(a, b))
        },
    },
    Known {
        name: "left-behind-connection",
        reason: "a session went on at another member and has written there; Ringkeeper closes the \
                 connection that it left at once, Apache when that asks for a write",
        is_match: is_left_behind,
    },
];

/// Whether the servers differ in nothing but connections that the second one has closed, and whose
/// sessions other clients have taken over.
fn is_left_behind(ops: &[&Op], a: &Step, b: &Step) -> bool {
    let closed = |slot: &usize| b.lines.contains(&format!("c{slot} closed by the server"));
    let taken = ops.iter().filter_map(|op| match &op.action {
        Action::Connect(connect) | Action::Eager(connect, _) => match connect.identity {
            Identity::Slot(of) if of != op.slot => Some(of),
            _ => None,
        },
        _ => None,
    });
    let gone: Vec<String> = taken.filter(closed).map(|slot| format!("c{slot} ")).collect();
    let is_other = |line: &&String| !gone.iter().any(|of| line.starts_with(of.as_str()));
    !gone.is_empty() && a.lines.iter().filter(is_other).eq(b.lines.iter().filter(is_other))
}

/// Whether the figures of reads differ, after reads that came behind the end of a session: the
/// reference may still carry them out, at a member where nobody else reads.
fn is_read_behind_end(ops: &[&Op], a: &Step, b: &Step) -> bool {
    let is_word = ops.last().is_some_and(|op| matches!(op.action, Action::Word(_)));
    let has_end = |op: &&Op| op.requests().iter().rev().skip(1).any(|request| request.op == -11);
    let others = |step: &Step| -> Vec<String> {
        let lines = step.lines.iter().filter(|line| !line.ends_with("_read_per_namespace"));
        lines.cloned().collect()
    };
    is_word && ops.iter().any(has_end) && others(a) == others(b)
}

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

/// Whether the last step has a request of this kind.
fn has_opcode(ops: &[&Op], code: i32) -> bool {
    ops.last().is_some_and(|op| op.requests().iter().any(|request| request.op == code))
}

/// Whether somebody acted as an identity outside the BMP and made `auth` part of an ACL in a multi:
/// the reference lets that identity neither at the node nor hear of it.
fn has_mangled_identity(ops: &[&Op]) -> bool {
    let mut requests = ops.iter().flat_map(|op| op.requests());
    let is_proof = |request: &Request| request.op == 100 && request.text.contains('\u{1f600}');
    requests.any(is_proof)
        && requests.any(|request| request.op == 14 && request.text.contains(":\"auth\":"))
}

/// The accepted difference that explains this one, at the last of `ops` or in the state after them.
pub fn explain(ops: &[&Op], a: &Step, b: &Step) -> Option<&'static Known> {
    KNOWN.iter().find(|known| (known.is_match)(ops, a, b))
}
