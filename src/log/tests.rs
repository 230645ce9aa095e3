//! Append, crash, recover: every truncation, every torn subset, random damage; the snapshot and
//! Apache formats against bytes of a real server.

mod cut;
mod tail;

use std::sync::Arc;

use crate::base::{Rng, SessionId, Xid, Zxid};
use crate::wire::{AclBytes, PersistedStat, TxnDigest, TxnHeader, TxnType, put_i32};

use super::crc_ranges::STRIDE;
use super::scan::committed_in;
use super::segment::SUMMED;
use super::*;

/// An entry of transaction `zxid` that is about `extra` bytes longer than the shortest.
fn entry(zxid: i64, extra: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let kind = TxnType::CreateSession;
    let (session, cxid) = (SessionId(zxid.wrapping_mul(7)), Xid(3));
    TxnHeader { session, cxid, zxid: Zxid(zxid), time_ms: 1_700_000_000_000, kind }
        .encode_into(&mut out);
    put_i32(&mut out, 30_000);
    out.extend((0..extra).map(|i| (i as i64).wrapping_add(zxid) as u8));
    TxnDigest { version: 2, tree_digest: zxid as u64 }.encode_into(&mut out);
    out
}

fn batch(zxids: std::ops::Range<i64>, extra: usize) -> Arc<Batch> {
    let mut batch = Batch::new();
    for zxid in zxids {
        batch.entry().extend_from_slice(&entry(zxid, extra));
        batch.finish_entry(Zxid(zxid));
    }
    Arc::new(batch)
}

/// A segment image and its history: what each write changed, and what was durable after it.
struct Log {
    header: SegmentHeader,
    image: Vec<u8>,
    /// Image before each write, the write's place, and the last zxid it made durable.
    writes: Vec<(Vec<u8>, WritePlan)>,
    appender: Appender,
    staging: Vec<u8>,
}

impl Log {
    fn new(blocks: usize, salt: u64, former: Option<Vec<u8>>) -> Log {
        let header = SegmentHeader::new(salt, (blocks * BLOCK) as u64);
        let mut image = former.unwrap_or_else(|| vec![0; blocks * BLOCK]);
        image[..BLOCK].copy_from_slice(&header.encode());
        let mut appender = Appender::new(1, Zxid::ZERO);
        appender.roll(&header);
        Log { header, image, writes: Vec::new(), appender, staging: vec![0xaa; 8 * BLOCK] }
    }

    /// Writes all that is pending; panics when the segment is full.
    fn flush(&mut self) {
        loop {
            match self.appender.plan(&mut self.staging) {
                Plan::Idle => return,
                Plan::Write(plan) => {
                    self.writes.push((self.image.clone(), plan));
                    let at = plan.offset as usize;
                    self.image[at..at + plan.len].copy_from_slice(&self.staging[..plan.len]);
                }
                Plan::Stage { len } => self.staging.resize(len, 0xaa),
                Plan::Roll { .. } => panic!("the test's segment is full"),
            }
        }
    }
}

fn scan(bytes: &[u8]) -> Result<(SegmentScan, Vec<i64>), Damage> {
    let mut seen = Vec::new();
    let mut on_entry = |at: EntryAt, bytes: &[u8]| {
        assert_eq!(entry_zxid(bytes), Some(at.zxid));
        assert_eq!(bytes[..32], entry(at.zxid.0, 0)[..32], "content of {:?}", at.zxid);
        seen.push(at.zxid.0);
        Ok::<(), ()>(())
    };
    match scan_segment(bytes, Expect::default(), &mut on_entry) {
        Ok(scan) => Ok((scan, seen)),
        Err(ScanStop::Damage(damage)) => Err(damage),
        Err(ScanStop::Refused(..)) => panic!("nothing was refused"),
    }
}

/// A log of many writes of all sizes: within a block, over several, ending at block borders.
fn sample(former: Option<Vec<u8>>, salt: u64) -> Log {
    sample_of(24, former, salt)
}

fn sample_of(rounds: usize, former: Option<Vec<u8>>, salt: u64) -> Log {
    let mut log = Log::new(64, salt, former);
    let mut rng = Rng::new(5);
    let mut zxid = 1;
    for round in 0..rounds {
        let count = 1 + rng.below(4) as i64;
        let extra = [0, 100, 1500, 3900, 4016, 4032, 9000][round % 7];
        log.appender.submit(batch(zxid..zxid + count, extra));
        zxid += count;
        log.flush();
    }
    log
}

#[test]
fn what_was_appended_is_scanned() {
    let log = sample(None, 9);
    let (scan, seen) = scan(&log.image).unwrap();
    let last = log.writes.last().unwrap().1;
    assert_eq!(scan.tail, Tail::Clean);
    assert_eq!(scan.last_zxid, Some(last.last_zxid));
    assert_eq!(scan.last_group, Some(log.writes.len() as u64));
    assert_eq!(seen, (1..=last.last_zxid.0).collect::<Vec<_>>());
}

#[test]
fn golden_record_bytes() {
    let mut log = Log::new(3, 0x0102_0304_0506_0708, None);
    log.appender.submit(batch(1..2, 0));
    log.flush();
    let bytes = entry(1, 0);
    assert_eq!(bytes.len(), 48);
    let (head, rest) = log.image[BLOCK..].split_at(32);
    let salt = log.header.salt;
    assert_eq!(head[..8], (salt ^ 4096).to_le_bytes());
    assert_eq!(head[8..16], 1u64.to_le_bytes());
    assert_eq!(head[16..24], [0; 8]);
    assert_eq!(head[24..28], 7u32.to_le_bytes());
    let seed = crc32c::crc32c(&salt.to_le_bytes());
    assert_eq!(head[28..], crc32c::crc32c_append(seed, &head[..28]).to_le_bytes());
    assert_eq!(rest[4..8], 48u32.to_le_bytes());
    assert_eq!(rest[8..56], bytes[..]);
    assert!(rest[56..].iter().all(|&b| b == 0));
    let place = [1u64.to_le_bytes(), 4096u64.to_le_bytes()].concat();
    let crc = crc32c::crc32c_append(crc32c::crc32c_append(seed, &place), &rest[4..56]);
    assert_eq!(rest[..4], crc.to_le_bytes());
    assert_eq!(log.image[8..12], 2u32.to_le_bytes());
    assert_eq!(log.image[..8], *b"RKWAL\0\0\x01");
}

#[test]
fn every_truncation_loses_at_most_what_lies_behind_it() {
    let log = sample_of(8, None, 9);
    for cut in 0..16 * BLOCK {
        match scan(&log.image[..cut]) {
            Ok((scan, seen)) => {
                assert!(scan.end as usize <= cut.max(BLOCK));
                assert_eq!(seen, (1..=seen.len() as i64).collect::<Vec<_>>());
            }
            Err(damage) => assert!(cut < BLOCK, "cut {cut}: {damage:?}"),
        }
    }
}

/// Whichever blocks of the last write reached the disk: all earlier writes are there, the torn
/// one is cut or whole, and it is never called damage.
#[test]
fn any_subset_of_the_last_write_is_cut_cleanly() {
    let former = sample(None, 1).image;
    for former in [None, Some(former)] {
        let log = sample(former, 2);
        for (index, (before, plan)) in log.writes.iter().enumerate() {
            let after = log.writes.get(index + 1).map_or(&log.image, |(image, _)| image);
            let acked = match index {
                0 => 0,
                _ => log.writes[index - 1].1.last_zxid.0,
            };
            // Sectors of 512 bytes; all subsets if few, many seeded ones else.
            let sectors = plan.len / 512;
            let mut rng = Rng::new(index as u64);
            for try_ in 0..1u64 << sectors.min(8) {
                let subset = if sectors <= 8 { try_ } else { rng.next_u64() & rng.next_u64() };
                let mut image = before.clone();
                for sector in 0..sectors {
                    if subset >> (sector % 64) & 1 == 1 {
                        let at = plan.offset as usize + sector * 512;
                        image[at..at + 512].copy_from_slice(&after[at..at + 512]);
                    }
                }
                let (scan, seen) = scan(&image)
                    .unwrap_or_else(|d| panic!("write {index}, subset {subset:x}: {d:?}"));
                let last = seen.last().copied().unwrap_or(0);
                assert!(
                    last == acked || last == plan.last_zxid.0,
                    "write {index}, subset {subset:x}: {last} of {acked}"
                );
                assert_eq!(scan.end % 8, 0);
            }
        }
    }
}

/// Damage anywhere but in the last write is reported; in the last write it may be taken for a
/// torn write, but then only that write is missing.
#[test]
fn random_damage_never_loses_an_earlier_write_silently() {
    let former = sample(None, 1).image;
    for former in [None, Some(former)] {
        let log = sample(former, 2);
        let (_, last) = log.writes.last().unwrap();
        let acked_before_last = log.writes[log.writes.len() - 2].1.last_zxid.0;
        let used = last.offset as usize + last.len;
        for seed in 0..2000 {
            let mut rng = Rng::new(seed);
            let mut image = log.image.clone();
            let at = rng.below(used as u64) as usize;
            match rng.below(3) {
                0 => image[at] ^= 1 << rng.below(8),
                1 => image[at..used].iter_mut().take(512).for_each(|b| *b = 0),
                _ => {
                    let n = (rng.below(64) as usize).min(used - at);
                    rng.fill(&mut image[at..at + n]);
                }
            }
            match scan(&image) {
                Ok((_, seen)) => {
                    let got = seen.last().copied().unwrap_or(0);
                    assert!(got >= acked_before_last, "seed {seed}: only {got} of the log left");
                }
                Err(damage) => assert!(damage.offset as usize <= used, "seed {seed}"),
            }
        }
    }
}

#[test]
fn a_recycled_segment_ends_where_its_new_life_ends() {
    let former = sample(None, 1);
    let mut log = Log::new(64, 2, Some(former.image));
    let (empty, seen) = scan(&log.image).unwrap();
    assert_eq!((empty.tail, empty.records, seen.len()), (Tail::Clean, 0, 0));
    log.appender.submit(batch(1..3, 10));
    log.flush();
    let (scan, seen) = scan(&log.image).unwrap();
    assert_eq!((scan.tail, seen), (Tail::Clean, vec![1, 2]));
}

#[test]
fn a_followed_segment_must_be_whole() {
    let mut log = sample(None, 9);
    let (before, plan) = log.writes.last().unwrap();
    assert!(plan.records > 0);
    log.image = before.clone();
    let last_group = log.writes.len() as u64 - 1;
    let expect = Expect { group: Some(1), followed: true, ..Expect::default() };
    let keep = &mut |_: EntryAt, _: &[u8]| Ok::<(), ()>(());
    let clean = scan_segment(&log.image, expect, keep).unwrap();
    assert_eq!(clean.last_group, Some(last_group));
    log.image[clean.end as usize + 20] = 1;
    log.image[clean.end as usize + 2] = 1;
    assert!(matches!(scan_segment(&log.image, expect, keep), Err(ScanStop::Damage(_))));
    let gap = Expect { group: Some(2), ..Expect::default() };
    assert!(matches!(scan_segment(&log.image, gap, keep), Err(ScanStop::Damage(_))));
}

#[test]
fn segments_fill_up_and_large_records_get_their_own() {
    let header = SegmentHeader::new(3, 3 * BLOCK as u64);
    let mut appender = Appender::new(1, Zxid::ZERO);
    let mut staging = vec![0; 4 * BLOCK];
    appender.submit(batch(1..2, 5 * BLOCK + 3990));
    let Plan::Roll { min_size, first_zxid } = appender.plan(&mut staging) else {
        panic!("a first segment");
    };
    assert_eq!((min_size, first_zxid), (7 * BLOCK as u64, Zxid(1)));
    appender.roll(&SegmentHeader::new(3, min_size));
    let Plan::Stage { len } = appender.plan(&mut staging) else { panic!("too small") };
    staging.resize(len, 0);
    assert!(matches!(appender.plan(&mut staging), Plan::Write(_)));
    assert_eq!(appender.plan(&mut staging), Plan::Idle);
    // Of records of 80 bytes two blocks take 102 and the head of their group commit.
    appender.submit(batch(2..105, 24));
    assert!(matches!(appender.plan(&mut staging), Plan::Roll { .. }));
    appender.roll(&header);
    let Plan::Write(plan) = appender.plan(&mut staging) else { panic!("a write") };
    assert_eq!((plan.offset, plan.len, plan.records), (4096, 8192, 102));
    assert!(matches!(appender.plan(&mut staging), Plan::Roll { first_zxid: Zxid(104), .. }));
    assert_eq!(appender.pending_bytes(), 72);
}

/// A segment of format 1: group commits of some transactions each, given as the first one and how
/// many there are, and where each group commit ends.
fn format1(
    blocks: usize,
    groups: &[(i64, i64)],
    extra: usize,
) -> (SegmentHeader, Vec<u8>, Vec<usize>) {
    let size = (blocks * BLOCK) as u64;
    let header = SegmentHeader { format: Format::One, salt: 7, size };
    let (mut image, mut ends) = (header.encode().to_vec(), Vec::new());
    for (number, &(first, count)) in (1..).zip(groups) {
        for zxid in (first..=i64::MAX).take(count as usize) {
            let end = zxid == first.saturating_add(count - 1);
            put_format1_record(&mut image, &header, number, end, &entry(zxid, extra));
        }
        ends.push(image.len());
    }
    assert!(image.len() < size as usize);
    image.resize(size as usize, 0);
    (header, image, ends)
}

#[test]
fn format_1_is_read_and_its_damage_noticed() {
    let groups: Vec<(i64, i64)> = (0..30).map(|index| (index * 3 + 1, 3)).collect();
    let (_, whole, ends) = format1(8, &groups, 100);
    let (found, seen) = scan(&whole).unwrap();
    assert_eq!(
        (found.tail, found.last_group, found.end as usize),
        (Tail::Clean, Some(30), ends[29])
    );
    assert_eq!(seen, (1..=90).collect::<Vec<_>>());
    for seed in 0..2000 {
        let mut rng = Rng::new(seed);
        let mut image = whole.clone();
        let at = BLOCK + rng.below((ends[29] - BLOCK) as u64) as usize;
        match rng.below(2) {
            0 => image[at] ^= 1 << rng.below(8),
            _ => image[at..ends[29]].iter_mut().take(512).for_each(|byte| *byte = 0),
        }
        // The last group commit may be taken for torn, and the last two where both are hit.
        let whole_groups = ends.iter().filter(|end| **end <= at).count();
        match scan(&image) {
            Ok((found, seen)) => {
                // The zeros after an entry say nothing.
                let is_cut = seen.len() < 90;
                assert!(!is_cut || whole_groups >= 28, "seed {seed}: damage at {at} was cut");
                assert!(found.end as usize >= ends[27] && seen.len() >= 84, "seed {seed}");
            }
            Err(damage) => assert!(damage.offset as usize >= BLOCK, "seed {seed}"),
        }
    }
}

/// What a scan of format 1 sums up of bytes that look like records wherever one may stand.
#[test]
fn stale_bytes_cost_one_pass_however_long_they_claim_to_be() {
    let groups: Vec<(i64, i64)> = (1..40).map(|zxid| (zxid, 1)).collect();
    let (_, mut image, ends) = format1(512, &groups, 0);
    let end = *ends.last().unwrap();
    let len = (image.len() / 2) as u32;
    for (index, at) in (end + 16..image.len() - 16).step_by(16).enumerate() {
        // A length word, then a group number, as clients may put them into their data; here with
        // the next number, here with one that might follow.
        image[at + 4..at + 8].copy_from_slice(&len.to_le_bytes());
        let group = groups.len() as u64 + 2 + index as u64 % 3;
        image[at + 8..at + 16].copy_from_slice(&group.to_le_bytes());
    }
    let before = SUMMED.get();
    let (found, _) = scan(&image).unwrap();
    let summed = SUMMED.get() - before;
    assert_eq!((found.tail, found.end as usize), (Tail::Clean, end));
    let most = (1 + end + image.len() + image.len() / 16 * 2 * STRIDE) as u64;
    assert!(summed <= most, "{summed} bytes summed up of {} there are", image.len());
}

/// Who knows the format and not the salt cannot make a scan sum up anything.
#[test]
fn stale_bytes_of_format_2_are_not_even_summed_up() {
    let former = sample(None, 1);
    let former_end = scan(&former.image).unwrap().0.end as usize;
    let mut log = Log::new(64, 2, Some(former.image));
    log.appender.submit(batch(1..3, 10));
    log.flush();
    let end = scan(&log.image).unwrap().0.end as usize;
    assert!(former_end > end + 20 * BLOCK, "there is a former life");
    // Heads for every place, right but for the salt.
    let forged = SegmentHeader::new(3, log.header.size);
    for at in (former_end.next_multiple_of(8)..log.image.len() - 32).step_by(8) {
        let stamp = forged.salt ^ at as u64;
        log.image[at..at + 8].copy_from_slice(&stamp.to_le_bytes());
    }
    let before = SUMMED.get();
    let (found, seen) = scan(&log.image).unwrap();
    assert_eq!((found.tail, found.end as usize, seen), (Tail::Clean, end, vec![1, 2]));
    assert!(SUMMED.get() - before < 2 * (end - BLOCK) as u64, "only the log is");
}

/// Nobody needs to know what number the first group commit must have.
#[test]
fn damage_in_the_first_of_two_group_commits_is_noticed_without_a_number() {
    let mut log = Log::new(8, 2, None);
    for first in [1, 5] {
        log.appender.submit(batch(first..first + 4, 900));
        log.flush();
    }
    let second = log.writes[1].1.offset as usize;
    for at in BLOCK..second {
        let mut image = log.image.clone();
        image[at] ^= 1 << (at % 8);
        let is_padding = scan(&image).is_ok_and(|(_, seen)| seen.len() == 8);
        assert!(is_padding || scan(&image).is_err(), "byte {at}");
    }
}

/// What was committed when a group commit was written is in it.
#[test]
fn a_group_commit_says_what_was_committed() {
    let mut log = Log::new(8, 2, None);
    for (zxid, committed) in [(1, 0), (2, 1), (3, 1)] {
        let mut batch = Batch::clone(&batch(zxid..zxid + 1, 0));
        batch.set_committed(Zxid(committed));
        log.appender.submit(Arc::new(batch));
        log.flush();
        assert_eq!(scan(&log.image).unwrap().0.committed, Zxid(committed));
        assert_eq!(committed_in(&log.image), Some(Zxid(committed)));
    }
}

#[test]
fn a_torn_record_of_apache_costs_one_pass_whatever_a_client_wrote_into_it() {
    let mut image = apache_log();
    let torn = image.len();
    image.resize(1 << 18, 0);
    // The head of a record whose data a client has chosen, and whose last bytes never came.
    image[torn..torn + 12].copy_from_slice(&[0, 0, 0, 0, 1, 2, 3, 4, 0, 7, 0, 0]);
    for at in (torn + 12..(1 << 17) - 16).step_by(16) {
        image[at + 4..at + 12].copy_from_slice(&[1, 2, 3, 4, 0, 1, 0, 0]);
    }
    image[1 << 17..].fill(0x42);
    let before = SUMMED.get();
    let (found, seen) = scan_log(&image, true).unwrap();
    let summed = SUMMED.get() - before;
    assert_eq!((found.tail, found.end as usize, seen), (Tail::Torn, torn, vec![1, 2]));
    let most = (image.len() + image.len() / 16 * 2 * STRIDE) as u64;
    assert!(summed <= most, "{summed} bytes summed up of {} there are", image.len());
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits
        .chunks(2)
        .map(|d| u8::from_str_radix(std::str::from_utf8(d).unwrap(), 16).unwrap())
        .collect()
}

/// Written by Apache ZooKeeper 3.10, standalone (createSession, create /p).
fn apache_log() -> Vec<u8> {
    unhex(
        "5a4b4c47 00000002 0000000000000000
         00000000c6820af2 00000030 0100003a0e8b0000 00000000 0000000000000001 000001a1fb59e659
         fffffff6 00007530 00000002 0000000051c6d660 42
         00000000ac260be6 00000056 0100003a0e8b0000 00000001 0000000000000002 000001a1fb59e66d
         00000001 000000022f70 00000000 00000001 0000001f 00000005776f726c64 00000006616e796f6e65
         00 00000001 00000002 000000011c85b7ea 42",
    )
}

fn scan_log(bytes: &[u8], newest: bool) -> Result<(ApacheScan, Vec<i64>), Damage> {
    let mut seen = Vec::new();
    let scan = scan_apache(bytes, newest, &mut |at, _| {
        seen.push(at.zxid.0);
        Ok::<(), ()>(())
    });
    match scan {
        Ok(scan) => Ok((scan, seen)),
        Err(ScanStop::Damage(damage)) => Err(damage),
        Err(ScanStop::Refused(..)) => panic!("nothing was refused"),
    }
}

#[test]
fn apache_logs_are_read_and_written() {
    let bytes = apache_log();
    let mut padded = bytes.clone();
    padded.resize(65_536, 0);
    for image in [&bytes, &padded] {
        let (scan, seen) = scan_log(image, true).unwrap();
        assert_eq!((scan.tail, scan.end), (Tail::Clean, bytes.len() as u64));
        assert_eq!(seen, [1, 2]);
    }
    let mut out = Vec::new();
    put_apache_header(&mut out);
    put_apache_record(&mut out, &bytes[28..28 + 0x30]);
    assert_eq!(out, bytes[..out.len()]);
    assert_eq!(scan_log(&[], true).unwrap().0.tail, Tail::Clean);
    assert!(scan_log(&[], false).is_err());
    assert_eq!(scan_log(&bytes[..9], true).unwrap().0.tail, Tail::Torn);
}

#[test]
fn apache_tails_are_cut_and_damage_is_refused() {
    let bytes = apache_log();
    for cut in 16..bytes.len() {
        let mut image = bytes[..cut].to_vec();
        for padding in [0, 5000] {
            image.resize(cut + padding, 0);
            let (_, seen) = scan_log(&image, true).unwrap();
            assert!(seen == [1, 2] || seen == [1] || seen.is_empty(), "cut {cut}");
        }
    }
    let first_end = 16 + 12 + 0x30 + 1;
    for at in 16..first_end {
        for bit in 0..8 {
            let mut image = bytes.clone();
            image[at] ^= 1 << bit;
            let damage = scan_log(&image, true).expect_err("a damaged record before a whole one");
            assert_eq!((damage.offset, damage.after), (16, Some(Zxid(2))), "byte {at}");
        }
    }
}

#[derive(Default, PartialEq, Debug)]
struct Content {
    sessions: Vec<(SessionId, i32)>,
    acls: Vec<(i64, Vec<u8>)>,
    nodes: Vec<(String, Option<Vec<u8>>, i64, PersistedStat)>,
}

impl SnapshotVisitor for Content {
    fn session(&mut self, id: SessionId, timeout_ms: i32) -> Result<(), String> {
        self.sessions.push((id, timeout_ms));
        Ok(())
    }
    fn acl(&mut self, id: i64, acl: AclBytes<'_>) -> Result<(), String> {
        self.acls.push((id, acl.bytes().to_vec()));
        Ok(())
    }
    fn node(&mut self, n: &SnapshotNode<'_>) -> Result<(), String> {
        self.nodes.push((n.path.to_owned(), n.data.map(<[u8]>::to_vec), n.acl, n.stat));
        Ok(())
    }
}

fn read_snapshot(bytes: &[u8]) -> Result<(Content, SnapshotReader), SnapshotError> {
    let (mut content, mut reader) = (Content::default(), SnapshotReader::new());
    let used = reader.feed(bytes, true, &mut content)?;
    assert_eq!(used, bytes.len());
    assert!(reader.is_done());
    Ok((content, reader))
}

fn write_snapshot(content: &Content, digest: bool, last: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let acls: Vec<_> =
        content.acls.iter().map(|(id, acl)| (*id, AclBytes::parse(acl).unwrap())).collect();
    let sessions = content.sessions.iter().copied();
    let mut writer = SnapshotWriter::begin(sessions, acls.into_iter(), &mut out);
    // Pieces go to the disk as they come; the sum must not depend on it.
    let mut file = std::mem::take(&mut out);
    for (path, data, acl, stat) in &content.nodes {
        writer.node(path, data.as_deref(), *acl, stat, &mut out);
        file.append(&mut out);
    }
    let section = SnapshotDigest { zxid: Zxid(0), version: 2, digest: 0 };
    writer.finish(digest.then_some(section), last.then_some(Zxid(0)), &mut out);
    file.append(&mut out);
    file
}

/// `snapshot.0` as a fresh Apache ZooKeeper 3.10 writes it, seals included.
#[test]
fn a_fresh_snapshot_has_apaches_bytes() {
    let open = crate::wire::ACL_OPEN_BYTES;
    let mut readonly = open.to_vec();
    readonly[7] = 1;
    let zero = PersistedStat::default();
    let node = |path: &str, acl, stat| (path.to_owned(), Some(Vec::new()), acl, stat);
    let content = Content {
        sessions: vec![],
        acls: vec![(1, readonly)],
        nodes: vec![
            node("", -1, zero),
            node("/zookeeper", -1, zero),
            node("/zookeeper/config", 1, PersistedStat { aversion: -1, ..zero }),
            node("/zookeeper/quota", -1, zero),
        ],
    };
    let bytes = write_snapshot(&content, true, true);
    assert_eq!(bytes.len(), 478);
    let seals = "00000001 2f | 00000000b8a23b49 000000012f |
        0000000000000000 00000002 0000000000000000 0000000095b93d59 000000012f |
        0000000000000000 00000000bde83f6d 000000012f";
    // The decimal digits of "|" are none, so the separators vanish with the blanks.
    let seals = unhex(seals);
    assert_eq!(bytes[bytes.len() - seals.len()..], seals[..]);
    assert_eq!(read_snapshot(&bytes).unwrap().0, content);
}

fn rich() -> Content {
    let mut rng = Rng::new(4);
    let mut content = Content {
        sessions: vec![(SessionId(0x0100_0000_0000_0001), 30_000), (SessionId(-5), 4_000)],
        acls: vec![(1, crate::wire::ACL_OPEN_BYTES.to_vec())],
        nodes: vec![(String::new(), None, -1, PersistedStat::default())],
    };
    for i in 0..3000 {
        let mut data = vec![0; rng.below(300) as usize];
        rng.fill(&mut data);
        let stat = PersistedStat { czxid: i, ephemeral_owner: -i, ..Default::default() };
        content.nodes.push((format!("/n{i}/ü"), (i % 5 != 0).then_some(data), i % 2, stat));
    }
    content
}

#[test]
fn snapshots_round_trip_in_pieces_and_with_all_sections() {
    let content = rich();
    for (digest, last) in [(false, false), (true, false), (false, true), (true, true)] {
        let bytes = write_snapshot(&content, digest, last);
        let (got, reader) = read_snapshot(&bytes).unwrap();
        assert_eq!(got, content);
        assert_eq!((reader.digest().is_some(), reader.last_zxid().is_some()), (digest, last));
        let (mut got, mut reader) = (Content::default(), SnapshotReader::new());
        let mut rng = Rng::new(8);
        let (mut at, mut end) = (0, 0);
        while !reader.is_done() {
            end = (end + 1 + rng.below(5000) as usize).min(bytes.len());
            at += reader.feed(&bytes[at..end], end == bytes.len(), &mut got).unwrap();
        }
        assert_eq!((at, got == content), (bytes.len(), true));
    }
}

#[test]
fn damaged_snapshots_are_noticed() {
    let bytes = write_snapshot(&rich(), true, true);
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut image = bytes.clone();
        let at = rng.below(image.len() as u64 - 5) as usize;
        image[at] ^= 1 << rng.below(8);
        // The text after an inner seal is not compared, as in Apache's reader; the seal of the
        // next section covers it, and the last one is left out above.
        let magic_tail = (4..16).contains(&at);
        assert!(read_snapshot(&image).is_err(), "seed {seed}, byte {at}, header {magic_tail}");
        let cut = rng.below(bytes.len() as u64) as usize;
        // Cut exactly at a section's border it is a whole, older-style file.
        let whole = [54, 21].contains(&(bytes.len() - cut));
        assert_eq!(read_snapshot(&bytes[..cut]).is_ok(), whole, "cut at {cut}");
    }
}

#[test]
fn compressed_streams_round_trip() {
    let plain = write_snapshot(&rich(), true, true);
    for kind in [Compression::None, Compression::Gzip, Compression::Snappy] {
        let (mut encoder, mut packed) = (Encoder::new(kind), Vec::new());
        for chunk in plain.chunks(10_007) {
            encoder.push(chunk, &mut packed);
        }
        encoder.finish(&mut packed);
        let decode = |packed: &[u8]| -> Result<Vec<u8>, CompressError> {
            let (mut decoder, mut out) = (Decoder::new(kind), Vec::new());
            let mut at = 0;
            loop {
                let before = out.len();
                let used = decoder.pull(&packed[at..], 4096, &mut out)?;
                at += used;
                if used == 0 && out.len() == before {
                    break;
                }
            }
            decoder.finish()?;
            if at < packed.len() { Err(CompressError::Truncated) } else { Ok(out) }
        };
        assert_eq!(decode(&packed).as_deref(), Ok(&plain[..]), "{kind:?}");
        if kind == Compression::Gzip {
            assert!(packed.len() < plain.len());
        }
        if kind != Compression::None {
            assert!(decode(&packed[..packed.len() - 1]).is_err());
            for seed in 0..200 {
                let mut rng = Rng::new(seed);
                let mut image = packed.clone();
                let at = rng.below(image.len() as u64) as usize;
                image[at] ^= 1 << rng.below(8);
                // Never a panic; what comes out is checked by the snapshot's own seals.
                let _ = decode(&image);
            }
        }
    }
}
