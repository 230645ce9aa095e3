//! Drills for the log on a simulated disk, without a server: random logs of every format, taken
//! back at every record, with the power failing before every operation.

use std::sync::Arc;

use crate::base::{Rng, SessionId, Xid, Zxid};
use crate::disk::{FatalLogError, Housekeeper, HousekeeperOptions, LogWriter, LogWriterOptions};
use crate::log::{
    BLOCK, Batch, Format, RecoverOptions, Recovered, RecoveryTarget, SegmentHeader, SnapshotDigest,
    SnapshotNode, SnapshotVisitor, put_apache_header, put_apache_record, put_format1_record,
    recover,
};
use crate::wire::{AclBytes, Txn, TxnDigest, TxnHeader, TxnType, put_i32};

use super::files::SimFiles;

/// The transactions that a recovery gives: zxid and what tells two histories apart.
#[derive(Default)]
struct Found(Vec<(i64, i32)>);

impl SnapshotVisitor for Found {
    fn session(&mut self, _: SessionId, _: i32) -> Result<(), String> {
        Ok(())
    }
    fn acl(&mut self, _: i64, _: AclBytes<'_>) -> Result<(), String> {
        Ok(())
    }
    fn node(&mut self, _: &SnapshotNode<'_>) -> Result<(), String> {
        Ok(())
    }
}

impl RecoveryTarget for Found {
    fn reset(&mut self) {
        self.0.clear();
    }
    fn snapshot_done(&mut self, _: Zxid, _: Option<SnapshotDigest>) -> Result<(), String> {
        Ok(())
    }
    fn txn(
        &mut self,
        header: &TxnHeader,
        txn: &Txn<'_>,
        _: Option<TxnDigest>,
        _: &[u8],
    ) -> Result<(), String> {
        let Txn::CreateSession { timeout_ms } = txn else { return Err("another kind".into()) };
        self.0.push((header.zxid.0, *timeout_ms));
        Ok(())
    }
}

fn entry(zxid: i64, history: i32) -> Vec<u8> {
    let mut out = Vec::new();
    let (session, cxid, kind) = (SessionId(zxid), Xid(0), TxnType::CreateSession);
    TxnHeader { session, cxid, zxid: Zxid(zxid), time_ms: 5, kind }.encode_into(&mut out);
    put_i32(&mut out, history);
    out
}

fn batch(zxids: std::ops::RangeInclusive<i64>, history: i32) -> Arc<Batch> {
    let mut batch = Batch::new();
    for zxid in zxids {
        batch.entry().extend_from_slice(&entry(zxid, history));
        batch.finish_entry(Zxid(zxid));
    }
    Arc::new(batch)
}

fn history(to: i64, history: i32) -> Vec<(i64, i32)> {
    (1..=to).map(|zxid| (zxid, history)).collect()
}

fn trusting() -> RecoverOptions {
    RecoverOptions { trust_empty: true, ..RecoverOptions::default() }
}

fn recovered(files: &SimFiles) -> (Recovered, Vec<(i64, i32)>) {
    let mut found = Found::default();
    let mut recovered = recover(files, &trusting(), &mut found).unwrap();
    recovered.commit_tail(&mut found).unwrap();
    (recovered, found.0)
}

fn open(files: &Arc<SimFiles>) -> LogWriter<SimFiles> {
    try_open(files).unwrap()
}

fn try_open(files: &Arc<SimFiles>) -> Result<LogWriter<SimFiles>, FatalLogError> {
    let (recovered, _) = recovered(files);
    let (house, _, _) = Housekeeper::without_thread(
        Arc::clone(files),
        HousekeeperOptions::default(),
        Box::new(|| {}),
    );
    let options = LogWriterOptions {
        segment_size: 3 * BLOCK as u64,
        write_size_max: 2 * BLOCK,
        ..LogWriterOptions::default()
    };
    LogWriter::open(Arc::clone(files), &recovered, options, &house)
}

/// Writes up to `last` in group commits of random sizes, in segments of random lengths.
fn write(writer: &mut LogWriter<SimFiles>, from: i64, last: i64, history: i32, rng: &mut Rng) {
    let mut next = from;
    while next <= last {
        let end = (next + rng.below(6) as i64).min(last);
        writer.submit(batch(next..=end, history));
        while writer.write_sync().unwrap().is_some() {}
        if rng.chance(1, 4) {
            writer.ask_roll();
        }
        next = end + 1;
    }
}

/// A log of `last` transactions: one of Apache's or of an older release, perhaps, then ours.
fn log_of(seed: u64, last: i64) -> Arc<SimFiles> {
    let (files, mut rng) = (Arc::new(SimFiles::new(seed, None)), Rng::new(seed));
    let older = 1 + rng.below(last as u64 - 1) as i64;
    let from = match seed % 3 {
        0 => 1,
        1 => {
            let mut log = Vec::new();
            put_apache_header(&mut log);
            (1..=older).for_each(|zxid| put_apache_record(&mut log, &entry(zxid, 1)));
            log.resize(log.len() + 8192, 0);
            files.disk().plant("log.1", &log).unwrap();
            older + 1
        }
        _ => {
            let size = 16 * BLOCK as u64;
            let header = SegmentHeader { format: Format::One, ..SegmentHeader::new(7, size) };
            let mut segment = header.encode().to_vec();
            let mut group = 1;
            for zxid in 1..=older {
                let is_end = zxid == older || rng.chance(1, 3);
                put_format1_record(&mut segment, &header, group, is_end, &entry(zxid, 1));
                group += u64::from(is_end);
            }
            segment.resize(size as usize, 0);
            files.disk().plant("wal.1", &segment).unwrap();
            older + 1
        }
    };
    write(&mut open(&files), from, last, 1, &mut rng);
    assert_eq!(recovered(&files).1, history(last, 1));
    files
}

/// Takes back what is behind `keep`, with the power failing before operation `crash_in`. Returns
/// whether it did.
fn truncate(files: &Arc<SimFiles>, keep: i64, crash_in: Option<u32>, rng: &mut Rng) -> bool {
    let mut writer = open(files);
    files.disk().crash_in = crash_in;
    let done = writer.truncate(Zxid(keep)).is_ok();
    let is_off = files.disk().is_off();
    assert_eq!(done, !is_off);
    if done && rng.chance(1, 2) {
        // It goes on at once.
        files.disk().crash_in = None;
        assert_eq!(writer.durable(), Zxid(keep));
        write(&mut writer, keep + 1, keep + 3, 2, rng);
    }
    drop(writer);
    files.disk().crash(rng);
    is_off
}

#[test]
fn a_log_is_taken_back_at_every_record_whenever_the_power_fails() {
    let last = 14;
    let (mut before, mut after) = (0, 0);
    for seed in 0..12 {
        for keep in 0..=last {
            // Until the power fails behind the last operation.
            for crash_in in 0.. {
                let files = log_of(seed, last);
                let mut rng = Rng::new(seed << 16 ^ (keep as u64) << 8 ^ u64::from(crash_in));
                let is_off = truncate(&files, keep, Some(crash_in), &mut rng);
                let (_, mut found) = recovered(&files);
                let of_second = found.iter().filter(|(_, history)| *history == 2).count();
                let is_whole = found == history(last, 1);
                if is_whole && keep < last {
                    assert!(is_off, "seed {seed}: it came back to 0x{keep:x}");
                    before += 1;
                } else {
                    let mut wanted = history(keep, 1);
                    wanted.extend((1..=of_second as i64).map(|more| (keep + more, 2)));
                    assert_eq!(found, wanted, "seed {seed} back to {keep} in {crash_in}");
                    assert!(matches!(of_second, 0 | 3), "acknowledged is {of_second}");
                    after += 1;
                }
                // The start that goes on with it is no safer from the power than that was.
                files.disk().crash_in = Some(rng.below(16) as u32);
                drop(try_open(&files));
                files.disk().crash(&mut rng);
                assert_eq!(recovered(&files).1, found, "seed {seed} back to {keep} in {crash_in}");
                // Whatever was left goes on, and stays.
                let next = found.last().map_or(1, |(zxid, _)| zxid + 1);
                write(&mut open(&files), next, next + 4, 3, &mut rng);
                files.disk().crash(&mut rng);
                found.extend((next..=next + 4).map(|zxid| (zxid, 3)));
                assert_eq!(recovered(&files).1, found, "seed {seed} back to {keep} in {crash_in}");
                if !is_off {
                    break;
                }
            }
        }
    }
    assert!(before > 50 && after > 500, "{before} {after}");
}

/// Again and again, with starts in between.
#[test]
fn a_log_is_taken_back_many_times() {
    for seed in 0..30 {
        let (files, mut rng) = (log_of(seed, 14), Rng::new(seed));
        let mut model = history(14, 1);
        for round in 2..12 {
            let keep = rng.below(model.len() as u64 + 1) as usize;
            let mut writer = open(&files);
            writer.truncate(Zxid(keep as i64)).unwrap();
            model.truncate(keep);
            let (next, more) = (keep as i64 + 1, 1 + rng.below(9) as i64);
            write(&mut writer, next, keep as i64 + more, round, &mut rng);
            model.extend((next..next + more).map(|zxid| (zxid, round)));
            drop(writer);
            if rng.chance(1, 2) {
                files.disk().crash(&mut rng);
            }
            assert_eq!(recovered(&files).1, model, "seed {seed}, round {round}");
        }
    }
}
