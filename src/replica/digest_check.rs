//! Compares the tree with the digests that snapshot and log say it had, while transactions are
//! replayed and while the tail that a start found is applied; and with the digests that a leader
//! states with its transactions. What differs is counted and logged, as by Apache's servers.

use crate::base::Zxid;
use crate::log::SnapshotDigest;
use crate::tree::Tree;
use crate::wire::{TxnDigest, TxnHeader, TxnType};

/// See the module's introduction. A check that is off finds nothing.
#[derive(Debug, Default)]
pub struct DigestCheck {
    is_on: bool,
    /// Position of the snapshot that the tree was loaded from.
    snapshot: Zxid,
    /// The snapshot's digest section, to be compared when its zxid is passed.
    section: Option<SnapshotDigest>,
    comparing: bool,
    /// The tree shows no effect of anything later once this transaction is applied.
    exact_after: Option<Zxid>,
    /// A difference at the snapshot's digest section, which the next digest explains or confirms.
    unsure: Option<Difference>,
    mismatches: u64,
    /// A difference of this database was logged: all later ones follow from it.
    is_reported: bool,
}

/// A tree that is not what a digest says it should be.
#[derive(Clone, Copy, Debug)]
struct Difference {
    zxid: Zxid,
    /// The transaction whose effect it shows last; `None` right after loading.
    kind: Option<TxnType>,
    found: u64,
    expected: u64,
}

impl DigestCheck {
    /// A check that begins with an empty tree.
    pub fn new(is_on: bool) -> DigestCheck {
        DigestCheck { is_on, comparing: true, ..DigestCheck::default() }
    }

    /// Positions where the tree differed from what snapshot, log or leader said, in all databases
    /// that this server had since its start or the last [`DigestCheck::reset_count`].
    pub fn mismatches(&self) -> u64 {
        self.mismatches + u64::from(self.unsure.is_some())
    }

    /// Counts from 0 again.
    pub fn reset_count(&mut self) {
        self.mismatches = 0;
    }

    /// The check of the database that takes the place of the one before, whose differences go on
    /// to count.
    pub fn replace(&mut self, mut by: DigestCheck) {
        by.mismatches += self.mismatches();
        *self = by;
    }

    /// The tree was received while its sender's went on. Once `zxid` is applied it shows the state
    /// after one transaction, so it is compared from there on. There is no digest section that says
    /// so: a stream has none.
    pub fn exact_after(&mut self, zxid: Zxid) {
        self.exact_after = Some(zxid);
    }

    /// The tree was loaded from the snapshot at `zxid`, which ends with this digest section.
    pub fn loaded(&mut self, zxid: Zxid, section: Option<SnapshotDigest>, tree: &Tree) {
        // A fuzzy snapshot holds effects of later transactions: comparing starts again where the
        // digest section was written.
        self.snapshot = zxid;
        let is_comparable = |d: &SnapshotDigest| d.version == TxnDigest::VERSION && d.zxid.0 != 0;
        self.section = section.filter(|section| self.is_on && is_comparable(section));
        self.comparing = self.section.is_some_and(|section| section.zxid == zxid);
        if let Some(section) = self.section
            && self.comparing
        {
            self.compare(zxid, None, section.digest, tree);
        }
    }

    /// A transaction was applied, with which its leader has stated this digest.
    pub fn applied(&mut self, header: &TxnHeader, stated: Option<TxnDigest>, tree: &Tree) {
        if !self.is_on {
            return;
        }
        let (zxid, kind) = (header.zxid, Some(header.kind));
        if let Some(section) = self.section
            && section.zxid == zxid
        {
            self.compare(zxid, kind, section.digest, tree);
            self.comparing = true;
        }
        if self.exact_after.is_some_and(|exact| exact <= zxid) {
            self.exact_after = None;
            self.comparing = true;
        }
        if self.comparing
            && let Some(stated) = stated
            && stated.version == TxnDigest::VERSION
        {
            self.compare(zxid, kind, stated.tree_digest, tree);
        }
    }

    /// Nothing more is applied that a start found: a difference that is unsure counts.
    pub fn conclude(&mut self) {
        if let Some(difference) = self.unsure.take() {
            self.report(&difference);
            self.mismatches += 1;
        }
    }

    /// Compares the tree after `zxid` with a digest.
    ///
    /// Apache's snapshot thread reads the position and the digest of its digest section when the
    /// last node is written, while another thread may have applied part or all of the next
    /// transaction and not yet noted its digest (`DataTree.processTxn` changes nodes first and
    /// calls `logZxidDigest` last). Such a snapshot is ahead of its own digest section by one
    /// transaction, so a difference there, be it from the section's digest or from the one of the
    /// transaction at its zxid, means nothing yet: after the next transaction the tree must be
    /// right. Apache itself reports these snapshots as mismatches.
    fn compare(&mut self, zxid: Zxid, kind: Option<TxnType>, expected: u64, tree: &Tree) {
        let found = tree.digest();
        let difference = (found != expected).then_some(Difference { zxid, kind, found, expected });
        if self.section.is_some_and(|section| section.zxid == zxid) {
            self.unsure = self.unsure.or(difference);
            return;
        }
        let unsure = self.unsure.take();
        if let Some(difference) = difference {
            for one in unsure.into_iter().chain([difference]) {
                self.report(&one);
                self.mismatches += 1;
            }
        }
    }

    /// Logs a difference, if it is the first of this database.
    fn report(&mut self, difference: &Difference) {
        if std::mem::replace(&mut self.is_reported, true) {
            return;
        }
        let Difference { zxid, kind, found, expected } = difference;
        let behind = kind.map_or_else(|| "no transaction".to_owned(), |kind| format!("{kind:?}"));
        let section = self.section.map_or_else(|| "none".to_owned(), |d| format!("{:?}", d.zxid));
        log::error!(
            "the tree differs from what the log says it should be after {zxid:?} ({behind}): \
             digest {found}, expected {expected}; the database is of {:?}, its digest section: \
             {section}",
            self.snapshot
        );
    }
}
