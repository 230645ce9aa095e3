//! Drivers for the files: segments, Apache's logs, snapshots and their compression.

use std::sync::Arc;

use ringkeeper::base::{Rng, SessionId, Zxid};
use ringkeeper::log::{
    Appender, BLOCK, Batch, Compression, Decoder, Encoder, EntryAt, Expect, Format, Plan,
    SegmentHeader, SnapshotDigest, SnapshotNode, SnapshotReader, SnapshotVisitor, SnapshotWriter,
    put_apache_header, put_apache_record, put_format1_record, scan_apache, scan_segment,
};
use ringkeeper::wire::{AclBytes, PersistedStat, Reader};

use super::harness::{Driver, run};
use super::input::{bytes, input, int, long, path, pick, put_data};
use super::requests::put_acl;
use super::wire::put_entry;

/// Entries with ascending zxids.
fn entries(rng: &mut Rng) -> Vec<(Zxid, Vec<u8>)> {
    let entry = |at: u64, rng: &mut Rng| {
        let (zxid, mut entry) = (Zxid(1 + at as i64), Vec::new());
        put_entry(rng, zxid, &mut entry);
        (zxid, entry)
    };
    (0..=rng.below(12)).map(|at| entry(at, rng)).collect()
}

fn segment(rng: &mut Rng, entries: &[(Zxid, Vec<u8>)]) -> Vec<u8> {
    let header = SegmentHeader::new(rng.next_u64(), 16 * BLOCK as u64);
    let mut file = vec![0; header.size as usize];
    file[..BLOCK].copy_from_slice(&header.encode());
    let mut appender = Appender::new(1, Zxid(0));
    appender.roll(&header);
    let mut staging = vec![0; 4 * BLOCK];
    for part in entries.chunks(1 + rng.below(3) as usize) {
        let mut batch = Batch::new();
        for (zxid, entry) in part {
            batch.entry().extend_from_slice(entry);
            batch.finish_entry(*zxid);
        }
        appender.submit(Arc::new(batch));
        while let Plan::Write(plan) = appender.plan(&mut staging) {
            let at = plan.offset as usize;
            file[at..at + plan.len].copy_from_slice(&staging[..plan.len]);
        }
    }
    file
}

/// The same as releases of old wrote it.
fn segment_of_old(rng: &mut Rng, entries: &[(Zxid, Vec<u8>)]) -> Vec<u8> {
    let (salt, size) = (rng.next_u64(), 16 * BLOCK as u64);
    let header = SegmentHeader { format: Format::One, salt, size };
    let mut file = header.encode().to_vec();
    for (number, part) in (1..).zip(entries.chunks(1 + rng.below(3) as usize)) {
        for (index, (_, entry)) in part.iter().enumerate() {
            put_format1_record(&mut file, &header, number, index + 1 == part.len(), entry);
        }
    }
    file.resize(file.len().max(size as usize), 0);
    file
}

fn segments(rng: &mut Rng) {
    let entries = entries(rng);
    let (seed, is_old) = (rng.next_u64(), rng.chance(1, 3));
    let make = if is_old { segment_of_old } else { segment };
    let (file, is_valid) = input(rng, |_| make(&mut Rng::new(seed), &entries));
    let group = pick(rng, &[None, Some(0), Some(1), Some(2), Some(u64::MAX)]);
    let expect = Expect { group, followed: rng.chance(1, 2), ..Expect::default() };
    let mut found = 0;
    let mut compare = |at: EntryAt, entry: &[u8]| {
        // Even after whole blocks were spliced, a checksum covers every record that is handed out.
        assert!(entries.iter().any(|(zxid, own)| *zxid == at.zxid && own == entry), "{at:?}");
        found += 1;
        Ok::<_, ()>(())
    };
    let scan = scan_segment(&file, expect, &mut compare);
    if is_valid && matches!(group, None | Some(1)) {
        assert_eq!(scan.map(|scan| scan.records), Ok(entries.len() as u64));
        assert_eq!(found, entries.len());
    } else if let Ok(scan) = scan {
        assert!(scan.end <= file.len() as u64, "{scan:?}");
        let group = group.filter(|&group| group <= 2);
        if group.is_some() || expect.group.is_none() {
            // What was cut where the scan says is clean, and holds the same.
            let cut = &file[..scan.end as usize];
            let expect = Expect { group, ..Expect::default() };
            let again = scan_segment(cut, expect, &mut |_, _| Ok::<_, ()>(())).unwrap();
            assert_eq!((again.records, again.end), (scan.records, scan.end));
        }
    }
    // Corruption of what follows the header, under a header that is right.
    let mut file = vec![0; BLOCK];
    file.copy_from_slice(&SegmentHeader::new(1, 1 << 20).encode());
    file.extend(bytes(rng, 300));
    let _ = scan_segment(&file, expect, &mut |_, _| Ok::<_, ()>(()));
}

fn apache_logs(rng: &mut Rng) {
    let entries = entries(rng);
    let (file, is_valid) = input(rng, |rng| {
        let mut out = Vec::new();
        put_apache_header(&mut out);
        entries.iter().for_each(|(_, entry)| put_apache_record(&mut out, entry));
        out.resize(out.len() + rng.below(200) as usize, 0);
        out
    });
    let mut found = Vec::new();
    let scan = scan_apache(&file, rng.chance(1, 2), &mut |at, entry| {
        found.push((at.zxid, entry.to_vec()));
        Ok::<_, ()>(())
    });
    if is_valid {
        assert_eq!(found, entries);
    }
    if let Ok(scan) = scan {
        assert!(scan.end <= file.len() as u64 && scan.records == found.len() as u64, "{scan:?}");
    }
}

#[derive(Default)]
struct Seen {
    sessions: usize,
    acls: usize,
    nodes: usize,
    bytes: usize,
}

impl SnapshotVisitor for Seen {
    fn session(&mut self, _: SessionId, _: i32) -> Result<(), String> {
        self.sessions += 1;
        Ok(())
    }

    fn acl(&mut self, _: i64, acl: AclBytes<'_>) -> Result<(), String> {
        self.acls += 1;
        self.bytes += acl.bytes().len();
        Ok(())
    }

    fn node(&mut self, node: &SnapshotNode<'_>) -> Result<(), String> {
        self.nodes += 1;
        self.bytes += node.path.len() + node.data.map_or(0, <[u8]>::len) + PersistedStat::SIZE;
        Ok(())
    }
}

fn snapshot(rng: &mut Rng) -> Vec<u8> {
    let sessions: Vec<_> = (0..rng.below(4)).map(|id| (SessionId(id as i64), int(rng))).collect();
    let mut lists = vec![Vec::new(); rng.below(4) as usize];
    lists.iter_mut().for_each(|list| {
        while list.is_empty() || list == &[0xff; 4] {
            list.clear();
            put_acl(rng, list);
        }
    });
    let acls: Vec<_> =
        lists.iter().map(|list| (list.len() as i64, AclBytes::parse(list).unwrap())).collect();
    let mut out = Vec::new();
    let mut writer = SnapshotWriter::begin(sessions.into_iter(), acls.into_iter(), &mut out);
    for _ in 0..rng.below(8) {
        let mut data = Vec::new();
        put_data(rng, &mut data);
        let data = Reader::new(&data).buffer("data").unwrap();
        let path = Some(path(rng)).filter(|path| *path != "/").unwrap_or_default();
        let stat = PersistedStat { czxid: long(rng), cversion: int(rng), ..Default::default() };
        writer.node(path, data, long(rng), &stat, &mut out);
    }
    let digest = SnapshotDigest { zxid: Zxid(long(rng)), version: 2, digest: rng.next_u64() };
    // The last zxid never stands alone.
    let (with_digest, with_last) = pick(rng, &[(false, false), (true, false), (true, true)]);
    writer.finish(with_digest.then_some(digest), with_last.then(|| Zxid(long(rng))), &mut out);
    out
}

/// Feeds a file in pieces, and keeps the bytes that were not taken, as a caller must.
fn read_pieces(rng: &mut Rng, file: &[u8], reader: &mut SnapshotReader) -> Option<Seen> {
    let (mut seen, mut held, mut rest) = (Seen::default(), Vec::new(), file);
    let piece = 1 + rng.below(200);
    loop {
        let (now, later) = rest.split_at((1 + rng.below(piece) as usize).min(rest.len()));
        held.extend_from_slice(now);
        rest = later;
        let used = reader.feed(&held, rest.is_empty(), &mut seen).ok()?;
        assert!(used <= held.len());
        held.drain(..used);
        if rest.is_empty() {
            return Some(seen);
        }
    }
}

fn snapshots(rng: &mut Rng) {
    let (file, is_valid) = input(rng, snapshot);
    let (mut whole, mut seen) = (SnapshotReader::new(), Seen::default());
    let result = whole.feed(&file, true, &mut seen);
    if is_valid {
        result.clone().unwrap_or_else(|e| panic!("{e}: {file:x?}"));
        assert!(whole.is_done());
    }
    assert!(seen.bytes <= file.len() && seen.sessions <= file.len() / 12, "more than there is");
    let mut pieces = SnapshotReader::new();
    let in_pieces = read_pieces(rng, &file, &mut pieces);
    if result.is_ok() {
        let other = in_pieces.unwrap_or_else(|| panic!("in pieces it is refused: {file:x?}"));
        assert_eq!((seen.nodes, seen.acls), (other.nodes, other.acls));
        assert_eq!((whole.digest(), whole.last_zxid()), (pieces.digest(), pieces.last_zxid()));
    } else {
        assert!(in_pieces.is_none(), "only in pieces it is accepted: {file:x?}");
    }
    let _ = read_pieces(rng, file.get(16..).unwrap_or(&[]), &mut SnapshotReader::stream());
}

/// Decompresses to the end, an error, or 4 MiB.
fn decompress(kind: Compression, input: &[u8], limit: usize) -> Option<Vec<u8>> {
    let (mut decoder, mut rest, mut out) = (Decoder::new(kind), input, Vec::new());
    while out.len() < 4 << 20 {
        let before = out.len();
        let used = decoder.pull(rest, limit, &mut out).ok()?;
        assert!(used <= rest.len());
        rest = &rest[used..];
        if (used == 0 && out.len() == before) || (rest.is_empty() && kind == Compression::None) {
            break;
        }
    }
    (rest.is_empty() && decoder.finish().is_ok()).then_some(out)
}

fn compression(rng: &mut Rng) {
    let kind = pick(rng, &[Compression::None, Compression::Gzip, Compression::Snappy]);
    let (plain_seed, size) = (rng.next_u64(), rng.below(2_000));
    let plain = || {
        let mut rng = Rng::new(plain_seed);
        let block = bytes(&mut rng, 50);
        block.iter().copied().cycle().take(size as usize).collect::<Vec<u8>>()
    };
    let (packed, is_valid) = input(rng, |_| {
        let (mut encoder, mut out) = (Encoder::new(kind), Vec::new());
        encoder.push(&plain(), &mut out);
        encoder.finish(&mut out);
        out
    });
    let limit = 1 + rng.below(5_000) as usize;
    let unpacked = decompress(kind, &packed, limit);
    if is_valid {
        assert_eq!(unpacked, Some(plain()), "{kind:?} {packed:x?}");
    }
    // And as the other kind.
    let other = pick(rng, &[Compression::Gzip, Compression::Snappy]);
    let _ = decompress(other, &packed, limit);
}

#[test]
fn native_segments() {
    run(Driver { name: "log::native_segments", budget: 1_500, case: segments });
}

#[test]
fn logs_of_apache() {
    run(Driver { name: "log::logs_of_apache", budget: 8_000, case: apache_logs });
}

#[test]
fn snapshot_files() {
    run(Driver { name: "log::snapshot_files", budget: 8_000, case: snapshots });
}

#[test]
fn compressed_streams() {
    run(Driver { name: "log::compressed_streams", budget: 4_000, case: compression });
}
