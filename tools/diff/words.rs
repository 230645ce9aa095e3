//! Four-letter words: asked on a connection of their own, compared by shape.

use crate::decode::{Normalizer, without_ports};
use crate::link::{Link, PATIENCE};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Words whose answers are compared.
pub const WORDS: [&str; 22] = [
    "ruok",
    "isro",
    "srvr",
    "stat",
    "cons",
    "conf",
    "dump",
    "envi",
    "mntr",
    "wchs",
    "wchc",
    "wchp",
    "dirs",
    "gtmk",
    "crst",
    "srst",
    "hash",
    "RUOK",
    "abcd",
    "ruok\n",
    "srvr extra",
    "kill",
];

/// Sends a word and reads until the server closes.
pub fn ask(address: SocketAddr, word: &str) -> io::Result<Vec<u8>> {
    ask_within(PATIENCE, address, word)
}

/// As [`ask`], but gives up earlier.
pub fn ask_within(patience: Duration, address: SocketAddr, word: &str) -> io::Result<Vec<u8>> {
    let mut link = Link::open(address, patience)?;
    link.send(word.as_bytes());
    Ok(link.read_all())
}

/// The parts of an answer that must be equal, line by line.
pub fn shape(word: &str, answer: &[u8], normalizer: &mut Normalizer) -> Vec<String> {
    let text = String::from_utf8_lossy(answer);
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    match word.trim() {
        // Keys, not values; and the JVM's own keys cannot be asked of another server.
        "mntr" | "envi" => {
            // On the README's list: zk_<node>_quota_<figure>_per_namespace.
            let is_quota = |key: &str| key.contains("_quota_") && key.ends_with("_per_namespace");
            // The same, of members.
            let is_of_member = |key: &str| {
                key.ends_with("_zookeeper_write_per_namespace")
                    || key.contains("_learner_handler_qp_")
                    || key.ends_with("_ack_latency")
            };
            let is_compared = |key: &&str| !key.is_empty() && !is_quota(key) && !is_of_member(key);
            lines =
                lines.iter().map(|l| key_of(l)).filter(is_compared).map(str::to_owned).collect();
            lines.sort();
        }
        "conf" => lines = lines.iter().map(|line| setting(line)).collect(),
        "dump" => lines = dump(&lines, normalizer),
        "wchc" | "wchp" | "wchs" => lines = watches(word, &lines, normalizer),
        "hash" => lines.truncate(0),
        "srvr" | "srvr extra" | "stat" | "cons" => {
            lines = lines.iter().map(|line| status(line, normalizer)).collect();
            // Connections come in no particular order, and closed ones linger for a moment.
            let (mut clients, rest): (Vec<_>, Vec<_>) =
                lines.into_iter().partition(|line| line.starts_with(" /"));
            clients.sort();
            clients.dedup();
            lines = rest;
            lines.extend(clients);
        }
        _ => lines = lines.iter().map(|line| digits(line)).collect(),
    }
    lines.into_iter().map(|line| format!("{word:?}: {line}")).collect()
}

fn key_of(line: &str) -> &str {
    line.split(['\t', '=']).next().unwrap_or_default()
}

fn setting(line: &str) -> String {
    let name = key_of(line);
    let own = ["dataDir", "dataLogDir", "dataDirSize", "dataLogSize", "clientPort"];
    // The leader is asked on both sides, which may be another one.
    let of_member = ["serverId", "quorumPort", "electionPort"];
    if own.contains(&name) || of_member.contains(&name) {
        return format!("{name}=...");
    }
    if name.starts_with("server.") { without_ports(line) } else { line.to_owned() }
}

fn status(line: &str, normalizer: &mut Normalizer) -> String {
    if line.starts_with("Zookeeper version: ") {
        return "Zookeeper version: ...".to_owned();
    }
    if let Some(zxid) = line.strip_prefix("Zxid: 0x") {
        let zxid = i64::from_str_radix(zxid, 16).map(|zxid| normalizer.zxid(zxid));
        return format!("Zxid: {}", zxid.unwrap_or_else(|_| line.to_owned()));
    }
    if line.starts_with("Mode: ") || line.starts_with("Node count: ") {
        return line.to_owned();
    }
    if line.starts_with(" /") {
        return client(line);
    }
    // The reference hands a request on before it counts it, so that it may be done by then: its
    // figure is negative for a moment.
    digits(&line.replace("Outstanding: -", "Outstanding: "))
}

/// The names of a connection's fields; values depend on timing.
fn client(line: &str) -> String {
    let (peer, fields) = line.split_once('(').unwrap_or((line, ""));
    let names: Vec<_> = fields.split(',').map(|f| f.split('=').next().unwrap_or(f)).collect();
    let peer = digits(peer);
    let end = fields.rsplit(|c: char| c.is_ascii_alphanumeric()).next().unwrap_or_default();
    // lcxid appears only once a request with a positive xid was seen, which depends on the slot.
    let names: Vec<_> = names.into_iter().filter(|name| *name != "lcxid").collect();
    format!("{peer}({}{end}", names.join(","))
}

/// Ephemerals by session; expiry times and buckets depend on timing.
fn dump(lines: &[String], normalizer: &mut Normalizer) -> Vec<String> {
    let heads = lines.iter().filter(|l| l.ends_with("dump:") || l.contains("Ephemerals ("));
    let mut out: Vec<String> = heads.map(|line| digits(line)).collect();
    let at = lines.iter().position(|line| line.starts_with("Sessions with Ephemerals"));
    let block = lines.iter().skip(at.map_or(lines.len(), |at| at + 1));
    let block: Vec<String> = block
        .take_while(|line| line.starts_with("0x") || line.starts_with('\t'))
        .cloned()
        .collect();
    out.extend(without_empty(groups(&block, normalizer)));
    out
}

/// The reference goes on listing and counting connections whose last watch has fired, and sessions
/// whose last ephemeral is gone: on the README's list.
fn without_empty(mut groups: Vec<String>) -> Vec<String> {
    groups.retain(|group| !group.ends_with(' '));
    groups
}

fn watches(word: &str, lines: &[String], normalizer: &mut Normalizer) -> Vec<String> {
    if word == "wchs" {
        let number = |line: &String| match line.split_once(" connections ") {
            Some((_, rest)) => format!("N connections {rest}"),
            None => line.clone(),
        };
        return lines.iter().map(number).collect();
    }
    without_empty(groups(lines, normalizer))
}

/// Blocks of a head line and indented lines, each and all of them in sorted order.
fn groups(lines: &[String], normalizer: &mut Normalizer) -> Vec<String> {
    let mut blocks: Vec<(String, Vec<String>)> = Vec::new();
    for line in lines {
        match (line.strip_prefix('\t'), blocks.last_mut()) {
            (Some(item), Some((_, items))) => items.push(ids(item, normalizer)),
            _ => blocks.push((ids(line, normalizer), Vec::new())),
        }
    }
    blocks.iter_mut().for_each(|(_, items)| items.sort());
    blocks.sort();
    blocks.into_iter().map(|(head, items)| format!("{head} {}", items.join(" "))).collect()
}

fn ids(text: &str, normalizer: &mut Normalizer) -> String {
    // A watch on no path at all, which nothing fires; Java prints it like this.
    let text = if text == "null" { "" } else { text };
    let id = text.strip_prefix("0x").map(|rest| rest.trim_end_matches(':'));
    match id.map(|id| u64::from_str_radix(id, 16)) {
        Some(Ok(id)) => normalizer.session(id.cast_signed()),
        _ => text.to_owned(),
    }
}

/// Numbers as `N`.
fn digits(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '0'..='9' if out.ends_with('N') => {}
            '0'..='9' => out.push('N'),
            _ => out.push(c),
        }
    }
    out.replace("N.N", "N")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_keep_names_and_drop_numbers() {
        let mut n = Normalizer::new(0x10, 0);
        let lines = shape("srvr", b"Latency min/avg/max: 0/1.25/3\nZxid: 0x12\nMode: x\n", &mut n);
        assert_eq!(lines[0], "\"srvr\": Latency min/avg/max: N/N/N");
        assert_eq!(lines[1], "\"srvr\": Zxid: z+2");
        let early = shape("srvr", b"Outstanding: -1\n", &mut n);
        assert_eq!(early, shape("srvr", b"Outstanding: 0\n", &mut n));
        let cons = shape("cons", b" /1.2.3.4:5[1](queued=0,recved=6,sent=6)\n\n", &mut n);
        assert_eq!(
            cons.last().map(String::as_str),
            Some("\"cons\":  /N.N:N[N](queued,recved,sent)")
        );
    }
}
