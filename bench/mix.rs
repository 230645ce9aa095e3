//! What a load consists of: kinds of requests, weights, and the mixes that have a name.
#![forbid(unsafe_code)]

use ringkeeper::wire::OpCode;

use crate::codec::{Shape, Template};

/// Kinds of requests the generator sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Kind {
    Get,
    Exists,
    List,
    Set,
    Create,
    Delete,
    MultiSet,
    MultiCreate,
    Sync,
    Ping,
    /// Creates the keys, each once; used to fill the tree.
    Fill,
}

impl Kind {
    /// Every kind, in the order of its number.
    pub const ALL: [Kind; 11] = [
        Kind::Get,
        Kind::Exists,
        Kind::List,
        Kind::Set,
        Kind::Create,
        Kind::Delete,
        Kind::MultiSet,
        Kind::MultiCreate,
        Kind::Sync,
        Kind::Ping,
        Kind::Fill,
    ];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Get => "get",
            Kind::Exists => "exists",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::Create => "create",
            Kind::Delete => "delete",
            Kind::MultiSet => "multi",
            Kind::MultiCreate => "multicreate",
            Kind::Sync => "sync",
            Kind::Ping => "ping",
            Kind::Fill => "fill",
        }
    }

    /// The request, ready to be patched.
    pub fn template(self, shape: &Shape) -> Template {
        match self {
            Kind::Get => Template::read(OpCode::GetData, shape),
            Kind::Exists => Template::read(OpCode::Exists, shape),
            Kind::List => Template::list(shape),
            Kind::Set => Template::set(shape),
            Kind::Create => Template::create(shape),
            Kind::Delete => Template::delete(shape),
            Kind::MultiSet => Template::multi_set(shape),
            Kind::MultiCreate => Template::multi_create(shape),
            Kind::Sync => Template::sync(shape),
            Kind::Ping => Template::empty(OpCode::Ping),
            Kind::Fill => Template::fill(shape),
        }
    }
}

/// Weighted kinds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mix {
    /// Kinds with their weights; none is zero.
    pub parts: Vec<(Kind, u32)>,
}

/// Named mixes: name, definition, what it stands for.
pub const NAMED: [(&str, &str, &str); 8] = [
    ("mixed", "get:90,set:10", "nine reads to one write"),
    ("half", "get:50,set:50", "reads and writes in equal parts"),
    ("raftkeeper-create", "create:1", "RaftKeeper's benchmark, mode `create`"),
    (
        "raftkeeper-mix",
        "create:1,set:8,get:45,list:45,delete:1",
        "RaftKeeper's benchmark, mode `mix`: per round 1 create, 8 set, 45 get, 45 list of 100 \
         children with 50-byte names, 1 delete",
    ),
    ("keeper-bench-create", "create:1,delete:1", "keeper-bench `create` with remove_factor 0.5"),
    (
        "keeper-bench",
        "create:1,delete:1,set:2,get:2,list:2,multi:2",
        "keeper-bench with each of its request types at the default weight, remove_factor 0.5",
    ),
    (
        "clickhouse",
        "create:17,delete:16,get:34,list:33",
        "the load of ClickHouse's Keeper article: a third writes and deletes, two thirds reads",
    ),
    (
        "clickhouse-inserts",
        "multi:70,get:20,exists:5,list:5",
        "what Keeper sees under inserts: seven requests of ten are multi-writes",
    ),
];

impl Mix {
    /// Reads a named mix or `kind:weight,kind:weight`; a weight of 1 may be left out.
    pub fn parse(text: &str) -> Result<Mix, String> {
        if let Some((_, definition, _)) = NAMED.iter().find(|(name, _, _)| *name == text) {
            return Mix::parse(definition);
        }
        let mut parts = Vec::new();
        for part in text.split(',') {
            let (name, weight) = part.split_once(':').unwrap_or((part, "1"));
            let kind = Kind::ALL.into_iter().find(|k| k.name() == name && *k != Kind::Fill);
            let kind = kind.ok_or_else(|| {
                let kinds = Kind::ALL.iter().filter(|kind| **kind != Kind::Fill);
                let kinds: Vec<_> = kinds.map(|kind| kind.name()).collect();
                let named: Vec<_> = NAMED.iter().map(|(name, _, _)| *name).collect();
                format!(
                    "no request kind `{name}` in mix `{text}`; kinds: {}; named mixes: {}",
                    kinds.join(", "),
                    named.join(", ")
                )
            })?;
            let weight: u32 = weight
                .parse()
                .map_err(|_| format!("weight `{weight}` of `{name}` is not a whole number"))?;
            if weight > 0 {
                parts.push((kind, weight));
            }
        }
        if parts.is_empty() { Err(format!("mix `{text}` is empty")) } else { Ok(Mix { parts }) }
    }

    /// A mix of one kind.
    pub fn only(kind: Kind) -> Mix {
        Mix { parts: vec![(kind, 1)] }
    }

    /// Whether `kind` occurs.
    pub fn has(&self, kind: Kind) -> bool {
        self.parts.iter().any(|(k, _)| *k == kind)
    }

    /// A table of 1024 kinds in the right proportions, for picking with ten random bits.
    pub fn table(&self) -> Vec<Kind> {
        let total: u64 = self.parts.iter().map(|(_, w)| u64::from(*w)).sum();
        let mut table = Vec::with_capacity(1024);
        let mut sum = 0;
        for (kind, weight) in &self.parts {
            sum += u64::from(*weight);
            table.resize((1024 * sum / total) as usize, *kind);
        }
        table
    }
}

impl std::fmt::Display for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, (kind, weight)) in self.parts.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{}:{weight}", kind.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_numbered_as_listed() {
        for (i, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, i);
        }
    }

    #[test]
    fn named_mixes_parse_and_keep_their_proportions() {
        for (name, definition, _) in NAMED {
            assert_eq!(Mix::parse(name), Mix::parse(definition), "{name}");
        }
        let table = Mix::parse("raftkeeper-mix").unwrap().table();
        assert_eq!(table.len(), 1024);
        let share = |kind| table.iter().filter(|k| **k == kind).count();
        assert!((455..=466).contains(&share(Kind::Get)), "{}", share(Kind::Get));
        assert!((9..=12).contains(&share(Kind::Create)), "{}", share(Kind::Create));
    }

    #[test]
    fn bad_mixes_are_refused_with_the_choices() {
        let refusal = Mix::parse("got:1").unwrap_err();
        assert!(refusal.contains("get") && !refusal.contains("fill"), "{refusal}");
        assert!(Mix::parse("get:x").is_err());
        assert!(Mix::parse("get:0").is_err());
        assert!(Mix::parse("fill").is_err());
    }
}
