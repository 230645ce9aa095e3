//! Replays the transactions after the snapshot, file by file, and notes what the log needs before
//! it can be appended to.

use crate::base::{Zxid, invariant};
use crate::log::cut_short::{Accepted, CutShort, judge_apache};
use crate::log::{
    Damage, DataFiles, EntryAt, Expect, Party, RecoverError, RecoverErrorKind as Kind, ScanStop,
    SegmentHeader, SegmentScan, Tail, scan_apache, scan_segment,
};

use super::errors::{EntryTrouble, ZXID_LIMIT, advice_restore, plain_error, stopped};
use super::find::{LogFile, Source, read};
use super::tail::{Kept, Mark, UNTOLD_BYTES_MAX};
use super::{Decoded, LogRepair, RecoveryTarget, decode};

/// The number of the group commit that follows a segment's last; `None` if the segment holds none.
fn group_behind(scan: &SegmentScan) -> Option<u64> {
    scan.last_group.map(|group| group.saturating_add(1))
}

/// A number above the numbers of all group commits up to a transaction, and one that the next would
/// not have got by counting: each has a transaction, so counting gives none above its zxid. For
/// instance, up to zxid 5 there are at most five group commits, numbers 1 to 5, and the next one
/// counted would be 6, so 7 tells that numbering began anew. Nor will there be 2^39 of them, and a
/// scan does not look for numbers much farther ahead.
fn group_above(zxid: Zxid) -> u64 {
    zxid.0.unsigned_abs().min(1 << 39) + 2
}

pub(super) struct Replay<'a, F> {
    pub dir: &'a F,
    pub target: &'a mut dyn RecoveryTarget,
    pub snapshot: Option<Zxid>,
    /// The last transaction that was read; `None` while nothing says which one comes first.
    pub last: Option<Zxid>,
    /// The last transaction in the target.
    pub applied: Zxid,
    /// The last transaction that is known to be committed.
    pub committed: Zxid,
    /// Whether the file that is read may hold transactions that are not.
    pub says_what_is_committed: bool,
    /// The transactions that are not in the target.
    pub tail: Kept,
    /// Transactions after the snapshot.
    pub entries: u64,
    /// Transactions that Apache's logs hold twice.
    pub overlaps: u64,
    /// The first segment that is shorter than it was, and of which nothing shows yet that all of it
    /// is there.
    pub unproven: Option<Unproven>,
    pub accepted: Accepted<'a>,
    pub party: Party,
    pub notes: &'a mut Vec<String>,
    pub repair: &'a mut LogRepair,
}

/// A segment that is shorter than it was, which another one follows. A start cuts a segment so and
/// says where it ends, so this word of the start is damaged, or somebody else has cut the segment.
pub(super) struct Unproven {
    file: LogFile,
    header: SegmentHeader,
    cut: CutShort,
    scan: SegmentScan,
}

impl<F: DataFiles> Replay<'_, F> {
    pub fn files(&mut self, logs: &[LogFile]) -> Result<(), RecoverError> {
        // A file is needed unless the next one starts at or before the first needed transaction.
        let from = self.snapshot.map_or(Zxid::ZERO, |s| Zxid(s.0.saturating_add(1)));
        let newest = logs.iter().rev().find(|f| f.first <= from).map(|f| f.first);
        // Copies (log.5.bak) start alike; each may be the incomplete one.
        let skip = newest.and_then(|n| logs.iter().position(|f| f.first == n)).unwrap_or(0);
        let mark = Mark::find(self.dir, logs, skip, self.party)?;
        self.committed = self.committed.max(mark.committed);
        let last_native = logs.iter().rposition(|f| f.source == Source::Native);
        let last_apache = logs.iter().rposition(|f| f.source == Source::Apache);
        let mut group = None;
        for (index, file) in logs.iter().enumerate().skip(skip) {
            self.says_what_is_committed = index >= mark.from;
            match file.source {
                Source::Apache => {
                    group = None;
                    // Its name says where the segment before ended, unless an epoch ended there.
                    if self.next() == Some(file.first) {
                        self.unproven = None;
                    }
                    self.repair.sync.push(file.path.clone());
                    let is_last = index + 1 == logs.len();
                    self.apache(file, last_apache == Some(index), is_last)?;
                }
                Source::Native => {
                    let followed = last_native != Some(index);
                    let accept_cut = false;
                    let expect = Expect { group, followed, accept_cut };
                    group = self.native(file, expect, &logs[..index])?;
                }
            }
        }
        self.judge_unproven()?;
        self.repair.next_group = match group {
            Some(group) => group,
            None => self.group_after(&logs[..skip])?,
        };
        self.notes.extend(self.accepted.unused());
        if self.overlaps > 0 {
            self.notes.push(format!(
                "{} transactions stand in more than one log file (copies such as log.1f.bak \
                 count as logs); each was applied once",
                self.overlaps
            ));
        }
        Ok(())
    }

    /// Where nothing that was scanned holds a group, numbering goes on after the segments that were
    /// not needed: should the snapshot that made them so prove bad one day, they are.
    fn group_after(&self, skipped: &[LogFile]) -> Result<u64, RecoverError> {
        let newest = skipped.iter().rev().find(|file| file.source == Source::Native);
        let Some(file) = newest else { return Ok(1) };
        // Damage there does not matter now, but a good copy may come back.
        let above = group_above(self.last.unwrap_or(Zxid::ZERO));
        Ok(self.scan_again(file)?.and_then(|scan| group_behind(&scan)).unwrap_or(above))
    }

    /// The number of a segment's first group commit if it was given while the segment before was
    /// damaged (see [`Replay::group_after`]), and that is whole again: it ends with the transaction
    /// before the first here, and that one's group commit is whole, so that nothing is missing
    /// between the two, although numbers are.
    fn group_given(
        &self,
        file: &LogFile,
        map: &[u8],
        expect: Expect,
        before: &[LogFile],
    ) -> Result<Option<u64>, RecoverError> {
        let given = Some(group_above(Zxid(file.first.0.saturating_sub(1))));
        if expect.group.is_none()
            || expect.group == given
            || self.first_group(file, before)? != expect.group
        {
            return Ok(None);
        }
        let mut is_first = false;
        let _ = scan_segment(map, Expect { group: given, ..expect }, &mut |at, _| {
            is_first = at.zxid == file.first;
            Err(())
        });
        Ok(given.filter(|_| is_first))
    }

    /// What a segment that others follow holds, for its numbers only; `None` if it is damaged.
    fn scan_again(&self, file: &LogFile) -> Result<Option<SegmentScan>, RecoverError> {
        let map = read(self.dir, &file.path)?;
        let expect = Expect { followed: true, ..Expect::default() };
        Ok(scan_segment(&map, expect, &mut |_, _| Ok::<(), ()>(())).ok())
    }

    /// `newest`: no other log of Apache's follows. `is_last`: nor does one of ours.
    fn apache(&mut self, file: &LogFile, newest: bool, is_last: bool) -> Result<(), RecoverError> {
        let map = read(self.dir, &file.path)?;
        let scan = scan_apache(&map, newest, &mut |at, entry| self.entry(file, at, entry))
            .map_err(|e| stopped(file, e))?;
        let (end, len) = ((scan.tail, scan.end, scan.last_zxid), map.len() as u64);
        self.notes.extend(judge_apache(file, end, len, is_last, &mut self.accepted)?);
        Ok(())
    }

    /// The number of the first group commit of a segment, if what lies before it tells.
    fn first_group(&self, file: &LogFile, before: &[LogFile]) -> Result<Option<u64>, RecoverError> {
        // Our log begins with transaction 1 only where it begins.
        if file.first == Zxid(1) {
            return Ok(Some(1));
        }
        let previous = before.iter().rev().find(|previous| previous.first != file.first);
        let Some(previous) = previous.filter(|previous| previous.source == Source::Native) else {
            return Ok(None);
        };
        let scan = self.scan_again(previous)?;
        let scan = scan.filter(|scan| scan.last_zxid == Some(Zxid(file.first.0.saturating_sub(1))));
        Ok(scan.and_then(|scan| group_behind(&scan)))
    }

    /// Returns the number of the group commit that must follow.
    fn native(
        &mut self,
        file: &LogFile,
        mut expect: Expect,
        before: &[LogFile],
    ) -> Result<Option<u64>, RecoverError> {
        let map = read(self.dir, &file.path)?;
        let header = SegmentHeader::decode(&map).ok();
        let follows = self.next() == Some(file.first);
        let any_cut = header.and_then(|header| CutShort::of(&map, &header));
        let cut = any_cut.filter(|_| !expect.followed);
        expect.accept_cut = cut.is_some();
        let mut scan = match self.scan(file, &map, expect) {
            Ok(scan) => scan,
            // With a first number that is not the expected one, nothing was handed out.
            Err(error) => match self.group_given(file, &map, expect, before)? {
                None => return Err(error),
                given => {
                    expect.group = given;
                    self.notes.push(format!(
                        "{}: group commits are numbered anew from here on, as is done while what \
                         lies before is damaged; it is whole again, and no transaction is missing",
                        file.path.display()
                    ));
                    self.scan(file, &map, expect)?
                }
            },
        };
        if scan.tail == Tail::Torn && scan.records == 0 && expect.group.is_none() {
            // A torn first write, or a damaged one with a single one after it: that depends on
            // the number of the one that can be read.
            expect.group = self.first_group(file, before)?;
            scan = self.scan(file, &map, expect)?;
        }
        if let Some(cut) = cut {
            self.notes.push(cut.judge(file, &scan, &mut self.accepted)?);
        } else if scan.tail == Tail::Torn {
            self.check_torn(file, &scan, before)?;
            self.notes.push(format!(
                "{}: the last block of the log holds an incomplete write, which is cut at offset \
                 {}. A power failure leaves such a write, as does damage to the last block",
                file.path.display(),
                scan.end
            ));
        }
        if expect.followed && scan.records > 0 && !file.spare {
            // With forceSync=no it may never have been.
            self.repair.sync.push(file.path.clone());
        }
        // The name of a segment says what was there before, and the number of its first group how
        // much. An empty segment of a later epoch has no number, and its name says nothing.
        if follows || (scan.records > 0 && expect.group.is_some()) {
            self.unproven = None;
        }
        if let (Some(cut), Some(header), true) = (any_cut, header, expect.followed) {
            // An empty one that was cut says nothing of the one before it.
            let unproven = Unproven { file: file.clone(), header, cut, scan };
            self.unproven.get_or_insert(unproven);
        }
        self.plan_repair(file, header.as_ref(), &scan, expect.followed)?;
        Ok(group_behind(&scan))
    }

    /// The transaction that comes next if no epoch ends before it.
    fn next(&self) -> Option<Zxid> {
        self.last.map(|last| Zxid(last.0.saturating_add(1)))
    }

    /// What is to be done to a segment before the log goes on.
    fn plan_repair(
        &mut self,
        file: &LogFile,
        header: Option<&SegmentHeader>,
        scan: &SegmentScan,
        followed: bool,
    ) -> Result<(), RecoverError> {
        let next = self.next();
        if let Some(next) = next.filter(|next| scan.records == 0 && file.first > *next)
            && next.epoch() == file.first.epoch()
        {
            return Err(self.missed_before(file, next));
        }
        // Also where the log has gone on in another epoch: without this name the next start would
        // have to read the segment before, of which a snapshot may have all.
        let is_unused = scan.records == 0 && next == Some(file.first);
        if is_unused {
            self.repair.unused = Some(file.path.clone());
        } else if scan.records == 0 {
            self.repair.remove.push(file.path.clone());
        } else if file.spare {
            let name = file.path.with_file_name(format!("wal.{}", file.first));
            self.repair.rename.push((file.path.clone(), name));
        }
        // Also where nothing is to be cut: what a killed process wrote and did not sync has been
        // replayed here, so it must be durable before a client sees it.
        if !followed && (scan.records > 0 || is_unused) {
            self.repair.cut = header.map(|header| (file.path.clone(), header.seal(scan.end)));
        }
        Ok(())
    }

    /// Refuses a segment that only empty ones of later epochs follow as if it were the last, which
    /// it is after this start.
    fn judge_unproven(&mut self) -> Result<(), RecoverError> {
        let Some(Unproven { file, header, cut, scan }) = self.unproven.take() else {
            return Ok(());
        };
        self.notes.push(cut.judge(&file, &scan, &mut self.accepted)?);
        // Where one follows that holds something, that one is to be closed.
        if scan.records > 0 && self.repair.cut.is_none() {
            self.repair.cut = Some((file.path, header.seal(scan.end)));
        }
        Ok(())
    }

    /// A segment gets its name when all before it is durable, so the name says what there was.
    fn missed_before(&self, file: &LogFile, next: Zxid) -> RecoverError {
        let what = format!(
            "it was begun for transaction 0x{}, so those from 0x{next} on were there, and they are \
             missing",
            file.first
        );
        let before = self.last;
        RecoverError { before, ..plain_error(Kind::Gap, &file.path, what, advice_restore()) }
    }

    /// Refuses what looks like a torn write and cannot be one: a snapshot holds nothing that was
    /// not durable before.
    fn check_torn(
        &self,
        file: &LogFile,
        scan: &SegmentScan,
        before: &[LogFile],
    ) -> Result<(), RecoverError> {
        // Where Apache went on from the same transaction, what the snapshot holds is in its log.
        let is_continued = before.last().is_some_and(|previous| previous.first == file.first);
        if scan.records == 0 && is_continued {
            return Ok(());
        }
        let last = scan.last_zxid.unwrap_or(Zxid(file.first.0.saturating_sub(1)));
        let Some(snapshot) = self.snapshot.filter(|snapshot| *snapshot > last) else {
            return Ok(());
        };
        let what =
            format!("it ends before transaction 0x{snapshot} of the snapshot, which was durable");
        let damage = Damage { offset: scan.end, what, before: scan.last_zxid, after: None };
        Err(stopped(file, ScanStop::Damage(damage)))
    }

    fn scan(
        &mut self,
        file: &LogFile,
        map: &[u8],
        expect: Expect,
    ) -> Result<SegmentScan, RecoverError> {
        let mut is_first = true;
        let scan = scan_segment(map, expect, &mut |at, entry| {
            if std::mem::take(&mut is_first) && at.zxid != file.first {
                return Err(EntryTrouble::new(
                    Kind::Overlap,
                    format!("its first transaction is 0x{}: the file was renamed", at.zxid),
                ));
            }
            self.entry(file, at, entry)
        });
        scan.map_err(|e| stopped(file, e))
    }

    fn entry(&mut self, file: &LogFile, at: EntryAt, entry: &[u8]) -> Result<(), EntryTrouble> {
        let zxid = at.zxid;
        if zxid < Zxid::ZERO || zxid >= ZXID_LIMIT {
            let what = format!("its zxid 0x{zxid} is out of range");
            return Err(EntryTrouble::new(Kind::ZxidRange, what));
        }
        if self.snapshot.is_some_and(|s| zxid <= s) {
            return Ok(());
        }
        if let Some(last) = self.last {
            if zxid <= last {
                if file.source == Source::Apache {
                    self.overlaps += 1;
                    return Ok(());
                }
                let what = format!("transaction 0x{zxid} follows 0x{last} of an earlier file");
                return Err(EntryTrouble::new(Kind::Overlap, what).before(last));
            }
            if zxid.epoch() == last.epoch() && zxid != last.next() {
                let what = format!("transactions between 0x{last} and 0x{zxid} are missing");
                return Err(EntryTrouble::new(Kind::Gap, what).before(last));
            }
        }
        let decoded = decode(entry).map_err(|e| unusable(zxid, e))?;
        self.last = Some(zxid);
        self.entries += 1;
        if self.says_what_is_committed && zxid > self.committed {
            self.tail.push(zxid, entry);
            let is_untold = file.source == Source::Apache;
            return if is_untold { self.commit_oldest(zxid) } else { Ok(()) };
        }
        invariant!(self.tail.is_empty(), "{zxid:?} is committed, and one before it is not");
        self.hand_out(zxid, entry, decoded)
    }

    /// What of Apache's logs is too much for a tail counts as committed.
    fn commit_oldest(&mut self, untold: Zxid) -> Result<(), EntryTrouble> {
        while let Some(batch) = self.tail.take_first(untold, UNTOLD_BYTES_MAX) {
            for (zxid, entry) in batch.iter() {
                let decoded = decode(entry).map_err(|e| unusable(zxid, e))?;
                self.hand_out(zxid, entry, decoded)?;
            }
        }
        Ok(())
    }

    fn hand_out(
        &mut self,
        zxid: Zxid,
        entry: &[u8],
        decoded: Decoded<'_>,
    ) -> Result<(), EntryTrouble> {
        let Decoded { header, txn, digest } = decoded;
        let taken = self.target.txn(&header, &txn, digest, entry);
        taken.map_err(|e| unusable(zxid, e))?;
        self.applied = zxid;
        Ok(())
    }
}

fn unusable(zxid: Zxid, why: impl std::fmt::Display) -> EntryTrouble {
    EntryTrouble::new(Kind::Entry, format!("transaction 0x{zxid}: {why}"))
}
