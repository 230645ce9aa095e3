//! Drills for the epoch files on a simulated disk: the power fails before every operation.

use crate::base::{Epoch, Rng, Zxid};
use crate::disk::write_epochs;
use crate::log::{EpochFile, Epochs, Party, find_epochs};

use super::files::SimFiles;

fn epochs(accepted: i32, current: i32) -> Epochs {
    Epochs { accepted: Epoch(accepted), current: Epoch(current) }
}

/// A member promises epochs and follows their leaders. Whenever the power fails, it finds what it
/// had before the write under way or what it was to have then, and once mended the files stay.
#[test]
fn epochs_are_the_old_or_the_new_ones_whenever_the_power_fails() {
    let (mut old, mut new) = (0, 0);
    for seed in 0..200 {
        let mut rng = Rng::new(seed);
        let files = SimFiles::new(seed, None);
        let mut now = epochs(1, 1);
        write_epochs(&files, &[(EpochFile::Accepted, Epoch(1)), (EpochFile::Current, Epoch(1))])
            .unwrap();
        for _ in 0..20 {
            let (file, next) = if now.accepted > now.current && rng.chance(1, 2) {
                (EpochFile::Current, Epochs { current: now.accepted, ..now })
            } else {
                (EpochFile::Accepted, Epochs { accepted: Epoch(now.accepted.0 + 1), ..now })
            };
            let epoch = if file == EpochFile::Current { next.current } else { next.accepted };
            files.disk().crash_in = Some(rng.below(7) as u32);
            let done = write_epochs(&files, &[(file, epoch)]).is_ok();
            files.disk().crash(&mut rng);
            // The last transaction is of the epoch that is followed.
            let last = Zxid::new(now.current, 9);
            let found = find_epochs(&files, last, Party::Member).unwrap();
            assert_eq!(found.write, [], "seed {seed}");
            let found = found.epochs.unwrap();
            assert!(found == next || !done && found == now, "seed {seed}: {found:?} of {next:?}");
            old += u32::from(found == now);
            new += u32::from(found == next);
            now = found;
        }
    }
    assert!(old > 100 && new > 100, "{old} {new}");
}

/// The leader's snapshot is there, the epoch that goes with it is not.
#[test]
fn a_crash_between_a_snapshot_and_its_epoch_is_mended() {
    for crash_in in 0..6 {
        let (files, mut rng) = (SimFiles::new(1, None), Rng::new(u64::from(crash_in)));
        write_epochs(&files, &[(EpochFile::Accepted, Epoch(4)), (EpochFile::Current, Epoch(2))])
            .unwrap();
        files.disk().crash_in = Some(crash_in);
        let _ = write_epochs(&files, &[(EpochFile::Current, Epoch(4))]);
        files.disk().crash(&mut rng);
        let last = Zxid::new(Epoch(4), 1);
        let found = find_epochs(&files, last, Party::Member).unwrap();
        assert_eq!(found.epochs, Some(epochs(4, 4)), "crash in {crash_in}");
        write_epochs(&files, &found.write).unwrap();
        files.disk().crash(&mut rng);
        let again = find_epochs(&files, last, Party::Member).unwrap();
        assert_eq!((again.epochs, again.write), (Some(epochs(4, 4)), Vec::new()));
    }
}
