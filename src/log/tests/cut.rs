//! What is cut short is noticed: every truncation of every kind of log, sealed and not; and what
//! cannot be continued is refused.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::SnapshotVisitor;
use super::*;
use crate::wire::Txn;

/// A directory in memory.
pub(super) struct Files(BTreeMap<PathBuf, Vec<u8>>);

impl Files {
    pub(super) fn new(files: &[(&str, &[u8])]) -> Files {
        Files(
            files
                .iter()
                .map(|(name, bytes)| (Path::new("/d").join(name), bytes.to_vec()))
                .collect(),
        )
    }

    fn recover(&self, accept: Option<&str>) -> Result<(Recovered, Vec<i64>), Box<RecoverError>> {
        let accept_truncated = accept.map(str::to_owned);
        let options =
            RecoverOptions { trust_empty: true, accept_truncated, ..RecoverOptions::default() };
        let mut seen = Seen(Vec::new());
        let mut recovered = recover(self, &options, &mut seen).map_err(Box::new)?;
        recovered.commit_tail(&mut seen).unwrap();
        Ok((recovered, seen.0))
    }

    /// What a start does to the last segment.
    fn repair(&mut self, repair: &LogRepair) {
        let (path, seal) = repair.cut.as_ref().expect("a segment to close");
        let content = self.0.get_mut(path).unwrap();
        seal.put(content);
        content.truncate(seal.end as usize);
    }
}

impl DataFiles for Files {
    type Content = Vec<u8>;
    fn snap_dir(&self) -> &Path {
        Path::new("/d")
    }
    fn log_dir(&self) -> &Path {
        Path::new("/d")
    }
    fn list(&self, _: &Path) -> Result<Vec<PathBuf>, String> {
        Ok(self.0.keys().cloned().collect())
    }
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.get(path).cloned())
    }
    fn take_initialize(&self) -> Result<bool, (PathBuf, String)> {
        Ok(false)
    }
}

/// The transactions.
pub(super) struct Seen(pub(super) Vec<i64>);

impl SnapshotVisitor for Seen {
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

impl RecoveryTarget for Seen {
    fn reset(&mut self) {
        self.0.clear();
    }
    fn snapshot_done(&mut self, _: Zxid, _: Option<SnapshotDigest>) -> Result<(), String> {
        Ok(())
    }
    fn txn(
        &mut self,
        header: &TxnHeader,
        _: &Txn<'_>,
        _: Option<TxnDigest>,
        _: &[u8],
    ) -> Result<(), String> {
        self.0.push(header.zxid.0);
        Ok(())
    }
}

/// A segment of 5 group commits that goes into its second block of records.
fn small() -> Vec<u8> {
    let mut log = Log::new(4, 77, None);
    for first in [1, 20, 40, 60, 80] {
        log.appender.submit(batch(first..if first == 1 { 20 } else { first + 20 }, 0));
        log.flush();
    }
    log.image
}

#[test]
fn every_truncation_of_a_segment_is_refused_until_it_is_accepted() {
    let whole = small();
    let (recovered, all) = Files::new(&[("wal.1", &whole)]).recover(None).unwrap();
    assert_eq!((all.len(), recovered.notes.len()), (99, 1));
    for cut in 0..whole.len() {
        let mut files = Files::new(&[("wal.1", &whole[..cut])]);
        let error = files.recover(None).map(|_| ()).expect_err("a segment that is cut");
        let kind = if cut < BLOCK { RecoverErrorKind::Damage } else { RecoverErrorKind::Truncated };
        assert_eq!(error.kind, kind, "cut at {cut}: {error}");
        // Not every one, as each is a start of its own.
        if cut < BLOCK || cut % 7 > 0 {
            continue;
        }
        let text = error.to_string();
        for part in
            ["wal.1, offset", &format!("has {cut} bytes and had 16384"), "acceptTruncated=wal.1"]
        {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        assert!(files.recover(Some("wal.2")).is_err());
        let (recovered, seen) = files.recover(Some("wal.1")).unwrap();
        assert_eq!(seen, all[..seen.len()], "cut at {cut}");
        let notes = recovered.notes.join("\n");
        assert!(notes.contains("was cut short") && !notes.contains("no effect"), "{notes}");
        files.repair(&recovered.repair);
        let (again, seen_again) = files.recover(None).unwrap();
        assert_eq!((seen_again, again.notes.len()), (seen, 1));
        let (idle, _) = files.recover(Some("wal.1")).unwrap();
        assert!(
            idle.notes.iter().any(|note| note.contains("wal.1 has no effect")),
            "{:?}",
            idle.notes
        );
    }
}

/// What a start has found to be whole cannot be taken for a torn write by the next one.
#[test]
fn nothing_of_a_sealed_segment_can_go() {
    let mut files = Files::new(&[("wal.1", &small())]);
    let (recovered, all) = files.recover(None).unwrap();
    files.repair(&recovered.repair);
    let path = Path::new("/d/wal.1");
    let sealed = files.0[path].clone();
    assert_eq!(files.recover(None).unwrap().1, all);
    for cut in 0..sealed.len() {
        let files = Files::new(&[("wal.1", &sealed[..cut])]);
        assert!(files.recover(None).is_err(), "cut at {cut}");
    }
    for at in (0..36).chain(512..536).chain(BLOCK..sealed.len()) {
        let mut image = sealed.clone();
        image[at] ^= 1 << (at % 8);
        match Files::new(&[("wal.1", &image)]).recover(None) {
            // The zeros after an entry say nothing.
            Ok((_, seen)) => assert_eq!(seen, all, "byte {at}"),
            Err(error) => assert!(error.offset.is_some(), "{error}"),
        }
        let mut image = sealed.clone();
        image[at.max(BLOCK)..].fill(0);
        assert!(Files::new(&[("wal.1", &image)]).recover(None).is_err(), "zeros from {at}");
    }
}

/// Sectors of the last block that are zero may take several small group commits along.
#[test]
fn zeros_in_the_last_block_are_told_of_without_a_claim() {
    let mut log = Log::new(4, 77, None);
    for zxid in 1..=9 {
        log.appender.submit(batch(zxid..zxid + 1, 0));
        log.flush();
    }
    let mut told = 0;
    for at in (BLOCK..2 * BLOCK).step_by(8) {
        let mut image = log.image.clone();
        image[at..2 * BLOCK].fill(0);
        let (recovered, seen) = Files::new(&[("wal.1", &image)]).recover(None).unwrap();
        assert_eq!(seen, (1..=seen.len() as i64).collect::<Vec<_>>());
        let notes = recovered.notes.join("\n");
        assert!(!notes.contains("acknowledged"), "{notes}");
        told += usize::from(notes.contains("the last block of the log holds"));
    }
    assert!(told > 50, "{told}");
}

/// Where the last group commit of a segment begins.
fn last_group_at(segment: &[u8]) -> usize {
    let mut found = 0;
    let _ = scan_segment(segment, Expect::default(), &mut |at, _| {
        found = at.group_at as usize;
        Ok::<(), ()>(())
    });
    found
}

#[test]
fn a_name_says_that_the_segment_before_is_whole() {
    let whole = small();
    let empty = &Log::new(4, 78, None).image[..];
    let files = Files::new(&[("wal.1", &whole), ("wal.64", empty)]);
    assert_eq!(files.recover(None).unwrap().1.len(), 99);
    let mut zeroed = whole.clone();
    zeroed[2 * BLOCK..].fill(0);
    let error = Files::new(&[("wal.1", &zeroed), ("wal.64", empty)]).recover(None).unwrap_err();
    assert!(matches!(error.kind, RecoverErrorKind::Damage | RecoverErrorKind::Gap), "{error}");
    let end = scan(&whole).unwrap().0;
    let mut one_less = whole.clone();
    one_less[last_group_at(&whole)..end.end as usize].fill(0);
    let error = Files::new(&[("wal.1", &one_less), ("wal.64", empty)]).recover(None).unwrap_err();
    assert_eq!(error.kind, RecoverErrorKind::Gap, "{error}");
}

/// The next segment was begun in another epoch, and holds nothing: it does not say where the one
/// before it ended. Without this the start goes well, removes the empty one, and the next start is
/// the one that is refused.
#[test]
fn an_empty_segment_of_a_later_epoch_does_not_vouch_for_one_that_was_cut() {
    let mut files = Files::new(&[("wal.1", &small())]);
    let (recovered, all) = files.recover(None).unwrap();
    files.repair(&recovered.repair);
    let sealed = files.0[Path::new("/d/wal.1")].clone();
    let empty = &Log::new(4, 78, None).image[..];
    let with = |image: &[u8], next: &[u8]| Files::new(&[("wal.1", image), ("wal.100000001", next)]);
    assert_eq!(with(&sealed, empty).recover(None).unwrap().1, all);
    let mut unsealed = sealed.clone();
    unsealed[515] ^= 4;
    let mut shorter = sealed[..last_group_at(&sealed)].to_vec();
    shorter[515] ^= 4;
    for image in [&unsealed, &shorter] {
        let mut files = with(image, empty);
        let error = files.recover(None).map(|_| ()).expect_err("nothing shows that it is whole");
        assert_eq!(error.kind, RecoverErrorKind::Truncated, "{error}");
        let (recovered, seen) = files.recover(Some("wal.1")).unwrap();
        assert_eq!(seen, all[..seen.len()]);
        files.repair(&recovered.repair);
        for path in &recovered.repair.remove {
            files.0.remove(path);
        }
        assert_eq!(files.recover(None).unwrap().1, seen, "the next start has nothing to refuse");
    }
    // Nor does a log that Apache has begun in a later epoch.
    let mut apache = Vec::new();
    put_apache_header(&mut apache);
    put_apache_record(&mut apache, &entry(0x2_0000_0001, 0));
    apache.resize(apache.len() + 8192, 0);
    for image in [&unsealed, &shorter] {
        let files = [("wal.1", &image[..]), ("wal.100000001", empty), ("log.200000001", &apache)];
        let error = Files::new(&files).recover(None).map(|_| ()).expect_err("it says nothing");
        assert_eq!(error.kind, RecoverErrorKind::Truncated, "{error}");
        let (_, seen) = Files::new(&files).recover(Some("wal.1")).unwrap();
        assert_eq!(seen.last(), Some(&0x2_0000_0001));
    }
    // A group commit has a number, which says how many there were before it.
    let mut next = Log::new(4, 78, None);
    let number = scan(&sealed).unwrap().0.last_group.unwrap() + 1;
    next.appender = Appender::new(number, Zxid(99));
    next.appender.roll(&next.header);
    next.appender.submit(batch(0x1_0000_0001..0x1_0000_0003, 0));
    next.flush();
    assert_eq!(with(&unsealed, &next.image).recover(None).unwrap().1.len(), all.len() + 2);
    assert!(with(&shorter, &next.image).recover(None).is_err());
    // Inside a group it shows as well.
    assert!(with(&sealed[..BLOCK + 1000], empty).recover(None).is_err());
}

/// The server was killed before it wrote to `wal.64`, and the log went on in another epoch. That
/// name still says that `wal.1` ends with transaction 63, of which the snapshot has everything, so
/// that damage there keeps nobody from starting, again and again.
#[test]
fn an_empty_segment_goes_on_saying_that_a_snapshot_has_all_of_the_one_before() {
    let mut files = Files::new(&[("wal.1", &small())]);
    let (recovered, all) = files.recover(None).unwrap();
    files.repair(&recovered.repair);
    assert_eq!(all.len(), 0x63);
    let empty = Log::new(4, 78, None).image;
    let mut next = Log::new(4, 79, None);
    next.appender = Appender::new(recovered.repair.next_group, Zxid(0x63));
    next.appender.roll(&next.header);
    next.appender.submit(batch(0x1_0000_0001..0x1_0000_0003, 0));
    next.flush();
    let snapshot = super::tail::snapshot(0x63);
    for (name, image) in
        [("wal.64", &empty), ("wal.100000001", &next.image), ("snapshot.63", &snapshot)]
    {
        files.0.insert(Path::new("/d").join(name), image.clone());
    }
    files.0.get_mut(Path::new("/d/wal.1")).unwrap()[BLOCK + 50] ^= 1;
    for _ in 0..3 {
        let (recovered, seen) = files.recover(None).expect("the snapshot has all of wal.1");
        assert_eq!(seen, [0x1_0000_0001, 0x1_0000_0002]);
        files.repair(&recovered.repair);
        recovered.repair.remove.iter().for_each(|path| assert!(files.0.remove(path).is_some()));
    }
    // Should a leader have had transaction 64 after all, its segment takes the name.
    files.0.insert("/d/wal.100000001".into(), empty);
    let (recovered, seen) = files.recover(None).unwrap();
    assert_eq!(seen, []);
    assert_eq!(recovered.repair.unused.as_deref(), Some(Path::new("/d/wal.64")));
    assert_eq!(recovered.repair.remove, [Path::new("/d/wal.100000001")]);
}

/// One group commit stays of the first segment, and the log has gone on in another epoch: only the
/// seal says that something was there.
#[test]
fn damage_in_what_a_truncation_has_left_is_not_taken_for_nothing() {
    let mut log = Log::new(4, 77, None);
    log.appender.submit(batch(0x1_0000_0001..0x1_0000_0008, 0));
    log.flush();
    let path = Path::new("/d/wal.100000001");
    let mut files = Files::new(&[("wal.100000001", &log.image)]);
    let truncation = plan_truncation(&files, Zxid(0x1_0000_0004)).unwrap();
    files.0.extend(truncation.rewrite);
    let mut next = Log::new(4, 79, None);
    let number = truncation.next_group.expect("what stays demands one");
    next.appender = Appender::new(number, Zxid(0x1_0000_0004));
    next.appender.roll(&next.header);
    next.appender.submit(batch(0x2_0000_0001..0x2_0000_0003, 0));
    next.flush();
    files.0.insert("/d/wal.200000001".into(), next.image);
    let (_, all) = files.recover(None).unwrap();
    assert_eq!(all.len(), 6);
    for at in (0..files.0[path].len()).filter(|at| !(36..512).contains(at)) {
        files.0.get_mut(path).unwrap()[at] ^= 0x10;
        if let Ok((_, seen)) = files.recover(None) {
            assert_eq!(seen, all, "a bit at {at}");
        }
        files.0.get_mut(path).unwrap()[at] ^= 0x10;
    }
}

/// Releases that wrote format 1 cut segments after the last whole group commit, without a seal.
#[test]
fn truncations_of_format_1_are_refused_unless_a_release_of_old_cuts_so() {
    let (header, whole, ends) = format1(4, &[(1, 3), (4, 1), (5, 40), (45, 2)], 0);
    assert_eq!(Files::new(&[("wal.1", &whole)]).recover(None).unwrap().1.len(), 46);
    let mut noted = Vec::new();
    for cut in BLOCK..whole.len() {
        match Files::new(&[("wal.1", &whole[..cut])]).recover(None) {
            Ok((recovered, seen)) => {
                assert!(recovered.notes.join("\n").contains("older release"), "cut at {cut}");
                assert_eq!(seen, (1..=seen.len() as i64).collect::<Vec<_>>());
                noted.push(cut);
            }
            Err(error) => assert_eq!(error.kind, RecoverErrorKind::Truncated, "{error}"),
        }
    }
    assert_eq!(noted, [&[BLOCK][..], &ends].concat());
    // Once this release has closed it, nothing of it can go.
    let mut files = Files::new(&[("wal.1", &whole[..ends[2]])]);
    let repair = files.recover(None).unwrap().0.repair;
    files.repair(&repair);
    let sealed = files.0[Path::new("/d/wal.1")].clone();
    assert_eq!(header.sealed_end(&sealed), Some(ends[2] as u64));
    assert_eq!(files.recover(None).unwrap().1.len(), 44);
    for cut in BLOCK..sealed.len() {
        let files = Files::new(&[("wal.1", &sealed[..cut])]);
        assert!(files.recover(None).is_err(), "cut at {cut}");
    }
}

#[test]
fn truncations_of_apaches_log_are_noticed_or_lose_nothing() {
    let mut whole = apache_log();
    // createSession and create of the sample do not matter here, only where they stand.
    let used = whole.len();
    whole.resize(used + 9000, 0);
    for cut in 16..whole.len() {
        let files = Files::new(&[("log.1", &whole[..cut])]);
        match files.recover(None) {
            Ok((recovered, seen)) => {
                let notes = recovered.notes.join("\n");
                let is_told = notes.contains("ends with its last record");
                assert!(seen == [1, 2] || is_told || cut < 28, "cut at {cut}: {notes}");
                assert!(!notes.contains("never acknowledged"), "{notes}");
            }
            Err(error) => {
                assert_eq!(error.kind, RecoverErrorKind::Truncated, "{error}");
                assert!(cut < used, "cut at {cut}");
                let (recovered, _) = files.recover(Some("log.1")).unwrap();
                assert!(recovered.notes.join("\n").contains("acceptTruncated"));
            }
        }
    }
}

#[test]
fn a_zxid_that_cannot_be_continued_is_refused() {
    for zxid in [i64::MAX, i64::MAX - 5, 0x7fff_ffff_0000_0000] {
        let mut apache = Vec::new();
        put_apache_header(&mut apache);
        put_apache_record(&mut apache, &entry(zxid, 0));
        apache.resize(apache.len() + 9000, 0);
        let mut native = Log::new(4, 3, None);
        native.appender.submit(batch(zxid..zxid.saturating_add(1), 0));
        if zxid == i64::MAX {
            let mut batch = Batch::new();
            batch.entry().extend_from_slice(&entry(zxid, 0));
            batch.finish_entry(Zxid(zxid));
            native.appender.submit(Arc::new(batch));
        }
        native.flush();
        let (_, old, _) = format1(4, &[(zxid, 1)], 0);
        let mut snapshot = Vec::new();
        let none = Vec::new().into_iter();
        let mut writer = SnapshotWriter::begin(std::iter::empty(), none, &mut snapshot);
        writer.node("", Some(b""), -1, &PersistedStat::default(), &mut snapshot);
        writer.finish(None, None, &mut snapshot);
        let files =
            [("log", &apache), ("wal", &native.image), ("wal", &old), ("snapshot", &snapshot)];
        for (kind, bytes) in files {
            let name = format!("{kind}.{zxid:x}");
            let error = Files::new(&[(&name, bytes)]).recover(None).unwrap_err();
            assert_eq!(error.kind, RecoverErrorKind::ZxidRange, "{error}");
            assert!(error.to_string().contains("move this file elsewhere"), "{error}");
            assert_eq!(error.offset.is_some(), kind != "snapshot", "{error}");
        }
    }
    let mut negative = Vec::new();
    put_apache_header(&mut negative);
    put_apache_record(&mut negative, &entry(-5, 0));
    negative.resize(negative.len() + 9000, 0);
    let error = Files::new(&[("log.1", &negative)]).recover(None).unwrap_err();
    assert_eq!(error.kind, RecoverErrorKind::ZxidRange, "{error}");
}
