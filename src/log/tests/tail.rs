//! Where the tail of a log begins: random logs of every kind, ended anywhere by a kill or a torn
//! write, with and without a snapshot.

use super::cut::{Files, Seen};
use super::*;

/// A group commit as it was written.
struct Written {
    /// The segments by then, this write not included.
    before: Vec<(String, Vec<u8>)>,
    plan: WritePlan,
    last: i64,
    /// The last transaction that it says to be committed.
    committed: i64,
}

/// A log of 1 to `last`: `older` transactions that say nothing of commits, and then ours.
struct History {
    older: i64,
    base: Vec<(String, Vec<u8>)>,
    groups: Vec<Written>,
    segments: Vec<(String, Vec<u8>)>,
}

const SIZE: usize = 6 * BLOCK;

/// Up to a few transactions in one of Apache's logs, in a segment of format 1, or in none.
fn older(rng: &mut Rng) -> (i64, Vec<(String, Vec<u8>)>) {
    let count = 1 + rng.below(6) as i64;
    match rng.below(3) {
        0 => (0, Vec::new()),
        1 => {
            let mut log = Vec::new();
            put_apache_header(&mut log);
            (1..=count).for_each(|zxid| put_apache_record(&mut log, &entry(zxid, 0)));
            log.resize(log.len() + 8192, 0);
            (count, vec![("log.1".to_owned(), log)])
        }
        _ => {
            let header =
                SegmentHeader { format: Format::One, ..SegmentHeader::new(7, SIZE as u64) };
            let mut segment = header.encode().to_vec();
            for zxid in 1..=count {
                put_format1_record(&mut segment, &header, zxid as u64, true, &entry(zxid, 0));
            }
            segment.resize(SIZE, 0);
            (count, vec![("wal.1".to_owned(), segment)])
        }
    }
}

impl History {
    fn random(rng: &mut Rng) -> History {
        let (older, base) = older(rng);
        let first_group =
            if base.first().is_some_and(|(name, _)| name == "wal.1") { older } else { 0 };
        let mut appender = Appender::new(first_group as u64 + 1, Zxid(older));
        let (mut segments, mut groups) = (base.clone(), Vec::new());
        let (mut next, mut committed, mut said) = (older + 1, older, 0);
        let mut staging = vec![0; 4 * BLOCK];
        for _ in 0..=rng.below(12) {
            let mut batch = Batch::new();
            for _ in 0..=rng.below(4) {
                batch.entry().extend_from_slice(&entry(next, rng.below(1500) as usize));
                batch.finish_entry(Zxid(next));
                next += 1;
            }
            // What a quorum has may lag by several group commits.
            if rng.chance(2, 3) {
                let known = batch.first_zxid().unwrap().0 - 1;
                committed += rng.below((known - committed) as u64 + 1) as i64;
            }
            said = if rng.chance(1, 6) { said } else { committed };
            batch.set_committed(Zxid(said));
            appender.submit(Arc::new(batch));
            if rng.chance(1, 4) {
                appender.ask_roll();
            }
            loop {
                match appender.plan(&mut staging) {
                    Plan::Idle => break,
                    Plan::Stage { len } => staging.resize(len, 0),
                    Plan::Roll { min_size, first_zxid } => {
                        let size = min_size.max(SIZE as u64);
                        let header = SegmentHeader::new(rng.next_u64(), size);
                        appender.roll(&header);
                        let mut segment = header.encode().to_vec();
                        segment.resize(size as usize, 0);
                        segments.push((format!("wal.{first_zxid}"), segment));
                    }
                    Plan::Write(plan) => {
                        let (before, last) = (segments.clone(), plan.last_zxid.0);
                        groups.push(Written { before, plan, last, committed: said });
                        write(&mut segments, &plan, &staging[..plan.len]);
                    }
                }
            }
        }
        History { older, base, groups, segments }
    }

    /// The files after `count` group commits, the next one torn after its first block if asked,
    /// with the last transaction and the last that is said to be committed.
    fn ended(&self, count: usize, torn: bool) -> (Vec<(String, Vec<u8>)>, i64, i64) {
        let whole = &self.groups[..count];
        let last = whole.last().map_or(self.older, |group| group.last);
        let said = whole.iter().map(|group| group.committed).max().unwrap_or(0);
        let Some(next) = self.groups.get(count) else {
            return (self.segments.clone(), last, said);
        };
        let mut files = next.before.clone();
        if !torn || next.plan.len <= BLOCK {
            return (files, last, said);
        }
        let after = self.groups.get(count + 1).map_or(&self.segments, |group| &group.before);
        let (name, _) = files.last().unwrap().clone();
        let written = &after.iter().find(|(other, _)| *other == name).unwrap().1;
        let at = next.plan.offset as usize;
        let (_, content) = files.last_mut().unwrap();
        content[at..at + BLOCK].copy_from_slice(&written[at..at + BLOCK]);
        // All of its records may be in that block.
        let found = scan(content).ok().and_then(|(found, _)| found.last_zxid);
        let last = last.max(found.map_or(0, |zxid| zxid.0));
        let seen = committed_in(content).map_or(0, |zxid| zxid.0);
        assert!(seen <= said.max(next.committed));
        (files, last, said.max(seen))
    }
}

fn write(segments: &mut [(String, Vec<u8>)], plan: &WritePlan, bytes: &[u8]) {
    let (_, segment) = segments.last_mut().unwrap();
    segment[plan.offset as usize..][..plan.len].copy_from_slice(bytes);
}

/// A snapshot whose walk ended when `covered` was applied.
pub(super) fn snapshot(covered: i64) -> Vec<u8> {
    let mut out = Vec::new();
    let none = std::iter::empty();
    let mut writer = SnapshotWriter::begin(none, Vec::new().into_iter(), &mut out);
    writer.node("", Some(b""), -1, &PersistedStat::default(), &mut out);
    writer.finish(None, Some(Zxid(covered)), &mut out);
    out
}

#[test]
fn what_is_committed_is_handed_out_and_the_rest_is_tail() {
    let (mut tails, mut whole, mut covered_more) = (0, 0, 0);
    for seed in 0..600 {
        let mut rng = Rng::new(seed);
        let history = History::random(&mut rng);
        for count in 0..=history.groups.len() {
            let (mut files, last, said) = history.ended(count, rng.chance(1, 2));
            let mut committed = said.max(history.older).min(last);
            let (mut from, mut covered) = (0, 0);
            if rng.chance(1, 2) && last > 0 {
                from = rng.below(last as u64) as i64;
                covered = (from + rng.below(3) as i64).min(last);
                covered_more += u32::from(covered > committed);
                committed = committed.max(covered);
                files.push((format!("snapshot.{from:x}"), snapshot(covered)));
            }
            let is_member = rng.chance(1, 2);
            if is_member && history.base.first().is_some_and(|(name, _)| name == "log.1") {
                // Only a later group commit or a snapshot says that any of it is committed.
                committed = said.min(last).max(covered);
            }
            committed = committed.max(from);
            let named: Vec<_> = files.iter().map(|(name, file)| (&**name, &**file)).collect();
            let mut seen = Seen(Vec::new());
            let party = if is_member { Party::Member } else { Party::Alone };
            let options = RecoverOptions { trust_empty: true, party, ..RecoverOptions::default() };
            let recovered = recover(&Files::new(&named), &options, &mut seen).unwrap();
            let when = format!("seed {seed}, {count} group commits, snapshot at {from}");
            assert_eq!(seen.0, (from + 1..=committed).collect::<Vec<_>>(), "{when}");
            assert_eq!((recovered.committed.0, recovered.last_zxid.0), (committed, last), "{when}");
            let tail: Vec<i64> = recovered
                .tail
                .iter()
                .flat_map(|batch| batch.iter())
                .map(|(zxid, bytes)| {
                    assert_eq!(bytes[..32], entry(zxid.0, 0)[..32]);
                    zxid.0
                })
                .collect();
            assert_eq!(tail, (committed + 1..=last).collect::<Vec<_>>(), "{when}");
            assert_eq!(recovered.entries_replayed as i64, last - from, "{when}");
            tails += u32::from(!tail.is_empty());
            whole += u32::from(tail.is_empty());
        }
        assert!(history.groups.iter().all(|group| group.last > history.older));
        assert!(history.base.len() <= 1);
    }
    assert!(tails > 500 && whole > 500 && covered_more > 50, "{tails} {whole} {covered_more}");
}

/// Transactions 1 to 9 in three segments. The last one says that 2 is committed, so the tail begins
/// in the first one.
#[test]
fn a_tail_may_begin_in_an_earlier_segment() {
    let mut appender = Appender::new(1, Zxid::ZERO);
    let (mut segments, mut staging) = (Vec::new(), vec![0; 4 * BLOCK]);
    for (first, committed) in [(1, 0), (4, 1), (7, 2)] {
        let mut batch = Batch::clone(&batch(first..first + 3, 0));
        batch.set_committed(Zxid(committed));
        appender.submit(Arc::new(batch));
        let header = SegmentHeader::new(9, SIZE as u64);
        appender.roll(&header);
        let mut segment = header.encode().to_vec();
        segment.resize(SIZE, 0);
        segments.push((format!("wal.{first}"), segment));
        let Plan::Write(plan) = appender.plan(&mut staging) else { panic!("it has room") };
        write(&mut segments, &plan, &staging[..plan.len]);
    }
    let named: Vec<_> = segments.iter().map(|(name, file)| (&**name, &**file)).collect();
    let mut seen = Seen(Vec::new());
    let recovered = recover(&Files::new(&named), &RecoverOptions::default(), &mut seen).unwrap();
    assert_eq!((seen.0, recovered.committed), (vec![1, 2], Zxid(2)));
    assert_eq!(recovered.tail.iter().map(|batch| batch.len()).sum::<usize>(), 7);
}

/// Of what an Apache server has logged a member keeps the end as tail, and no more than that.
#[test]
fn a_long_log_of_apaches_is_not_kept_as_a_whole() {
    let mut log = Vec::new();
    put_apache_header(&mut log);
    let size = 1 << 20;
    (1..=80).for_each(|zxid| put_apache_record(&mut log, &entry(zxid, size)));
    log.resize(log.len() + 8192, 0);
    let snapshot = snapshot(2);
    let files = Files::new(&[("log.1", &log), ("snapshot.0", &snapshot)]);
    let mut seen = Seen(Vec::new());
    let options = RecoverOptions { party: Party::Member, ..RecoverOptions::default() };
    let recovered = recover(&files, &options, &mut seen).unwrap();
    assert_eq!(recovered.last_zxid, Zxid(80));
    let kept = recovered.tail.iter().map(|batch| batch.len()).sum::<usize>() as i64;
    assert!((60..=64).contains(&kept), "{kept}");
    assert_eq!(recovered.committed, Zxid(80 - kept));
    assert_eq!(seen.0, (1..=80 - kept).collect::<Vec<_>>());
}
