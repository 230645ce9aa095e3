//! Whether the open directories and the segment that is being written still have their names.
//!
//! A cleaner of `/tmp`, or a person, can remove them under a running server. Writes go on to
//! succeed, into files that nobody will ever find. So device and inode of what is open are compared
//! with a fresh look-up of the path, about once a second and before every message that claims that
//! something is safe; once they differ nothing is acknowledged any more.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::base::Zxid;

/// What the kernel knows a file by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    device: u64,
    inode: u64,
}

impl From<&Metadata> for Identity {
    fn from(found: &Metadata) -> Identity {
        Identity { device: found.dev(), inode: found.ino() }
    }
}

/// Something that is open and that its path should lead to.
#[derive(Debug)]
struct Named {
    path: PathBuf,
    identity: Identity,
}

/// What has become of a name.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Fate {
    /// There is nothing of that name.
    Missing,
    /// There is something else.
    Replaced,
    /// It cannot be looked up.
    Unknown(String),
}

impl Named {
    fn new(path: &Path, file: &File) -> io::Result<Named> {
        Ok(Named { path: path.to_owned(), identity: Identity::from(&file.metadata()?) })
    }

    fn fate(&self) -> Option<Fate> {
        match fs::metadata(&self.path) {
            Ok(found) if Identity::from(&found) == self.identity => None,
            Ok(_) => Some(Fate::Replaced),
            Err(e)
                if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Some(Fate::Missing)
            }
            Err(e) => Some(Fate::Unknown(e.to_string())),
        }
    }
}

/// Which of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    /// `dataDir/version-2` and `dataLogDir/version-2`, where they are the same.
    Both,
    SnapDir,
    LogDir,
    /// The segment that begins with this transaction.
    Segment(Zxid),
}

/// Something that is open and that its path does not lead to any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Absence {
    what: What,
    path: PathBuf,
    fate: Fate,
    /// Everything up to here was acknowledged.
    acknowledged: Zxid,
    snap_dir: PathBuf,
    log_dir: PathBuf,
}

impl Absence {
    /// Whether it is certain. What cannot be looked up may be there.
    pub fn is_certain(&self) -> bool {
        !matches!(self.fate, Fate::Unknown(_))
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.what {
            What::Both => "the directory of the log and the snapshots",
            What::SnapDir => "the directory of the snapshots",
            What::LogDir => "the directory of the log",
            What::Segment(_) => "the log segment that is being written",
        };
        write!(f, "{kind}, {}, ", self.path.display())?;
        match &self.fate {
            Fate::Missing => {
                write!(f, "is gone: it was removed or renamed while this server ran. ")?;
            }
            Fate::Replaced => write!(
                f,
                "is another one than this server opened: it was removed or renamed while this \
                 server ran, and made anew. "
            )?,
            Fate::Unknown(error) => {
                write!(f, "cannot be looked up ({error}), so it may be gone. ")?;
            }
        }
        let (last, snap_dir) = (self.acknowledged, self.snap_dir.display());
        match self.what {
            What::Both => write!(f, "Every transaction up to 0x{last} may be lost")?,
            What::LogDir => write!(
                f,
                "Every transaction up to 0x{last} that no snapshot in {snap_dir} holds may be lost"
            )?,
            What::SnapDir => write!(
                f,
                "Every transaction before those in {} may be lost; the log holds up to 0x{last}",
                self.log_dir.display()
            )?,
            What::Segment(first) => write!(
                f,
                "The transactions from 0x{first} to 0x{last} that no snapshot in {snap_dir} holds \
                 may be lost"
            )?,
        }
        write!(
            f,
            ". Keep cleaners such as systemd-tmpfiles away from it. If it was renamed, give it its \
             name back; otherwise restore a backup before the next start, which would go on \
             without what is lost"
        )
    }
}

/// See the module's introduction.
#[derive(Debug)]
pub(super) struct Presence {
    snap_dir: Named,
    log_dir: Named,
    segment: Mutex<Option<(Zxid, Named)>>,
    acknowledged: AtomicI64,
    is_lost: AtomicBool,
}

impl Presence {
    /// For two directories that are open, which may be the same.
    pub fn new(snap: (&Path, &File), log: (&Path, &File)) -> io::Result<Presence> {
        Ok(Presence {
            snap_dir: Named::new(snap.0, snap.1)?,
            log_dir: Named::new(log.0, log.1)?,
            segment: Mutex::new(None),
            acknowledged: AtomicI64::new(0),
            is_lost: AtomicBool::new(false),
        })
    }

    /// From here on this segment is written, which begins with transaction `first`.
    pub fn segment(&self, path: &Path, file: &File, first: Zxid) -> io::Result<()> {
        let named = Named::new(path, file)?;
        *self.segment.lock().unwrap_or_else(PoisonError::into_inner) = Some((first, named));
        Ok(())
    }

    /// No segment is written now.
    pub fn no_segment(&self) {
        *self.segment.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether what was written up to `zxid` may be acknowledged, which then happens.
    pub fn may_acknowledge(&self, zxid: Zxid) -> bool {
        let may = !self.is_lost.load(Ordering::Relaxed);
        if may {
            self.acknowledged.store(zxid.0, Ordering::Relaxed);
        }
        may
    }

    /// Looks everything up. What is certainly gone is so for good: nothing is acknowledged any
    /// more.
    pub fn look(&self) -> Option<Absence> {
        let is_same = self.snap_dir.identity == self.log_dir.identity;
        let snap = if is_same { What::Both } else { What::SnapDir };
        let found = self
            .absence(snap, &self.snap_dir)
            .or_else(|| self.absence(What::LogDir, &self.log_dir))
            .or_else(|| {
                let segment = self.segment.lock().unwrap_or_else(PoisonError::into_inner);
                let (first, named) = segment.as_ref()?;
                self.absence(What::Segment(*first), named)
            });
        if found.as_ref().is_some_and(Absence::is_certain) {
            self.is_lost.store(true, Ordering::Relaxed);
        }
        found
    }

    fn absence(&self, what: What, named: &Named) -> Option<Absence> {
        Some(Absence {
            what,
            path: named.path.clone(),
            fate: named.fate()?,
            acknowledged: Zxid(self.acknowledged.load(Ordering::Relaxed)),
            snap_dir: self.snap_dir.path.clone(),
            log_dir: self.log_dir.path.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene {
        home: tempfile::TempDir,
        presence: Presence,
    }

    impl Scene {
        fn new(snap: &str, log: &str) -> Scene {
            let home = tempfile::tempdir().unwrap();
            let [snap, log] = [snap, log].map(|name| home.path().join(name));
            for dir in [&snap, &log] {
                fs::create_dir_all(dir).unwrap();
            }
            let [snap_file, log_file] = [&snap, &log].map(|dir| File::open(dir).unwrap());
            let presence = Presence::new((&snap, &snap_file), (&log, &log_file)).unwrap();
            let segment = log.join("wal.5");
            let file = File::create(&segment).unwrap();
            presence.segment(&segment, &file, Zxid(5)).unwrap();
            assert!(presence.may_acknowledge(Zxid(0x20)));
            Scene { home, presence }
        }

        fn says(&self, parts: &[&str]) {
            let text = self.presence.look().unwrap().to_string();
            for part in parts {
                assert!(text.contains(part), "no {part:?} in: {text}");
            }
            assert!(!self.presence.may_acknowledge(Zxid(0x21)));
        }
    }

    #[test]
    fn what_is_there_is_there() {
        for (snap, log) in [("a", "a"), ("a", "b")] {
            let scene = Scene::new(snap, log);
            assert_eq!(scene.presence.look(), None);
            assert!(scene.presence.may_acknowledge(Zxid(0x21)));
        }
    }

    #[test]
    fn a_directory_that_is_gone_takes_everything_along() {
        let scene = Scene::new("a", "a");
        fs::remove_dir_all(scene.home.path().join("a")).unwrap();
        scene.says(&["a, is gone", "Every transaction up to 0x20 may be lost"]);
    }

    #[test]
    fn a_directory_made_anew_is_another_one() {
        let scene = Scene::new("a", "b");
        let dir = scene.home.path().join("b");
        fs::rename(&dir, scene.home.path().join("c")).unwrap();
        fs::create_dir(&dir).unwrap();
        scene.says(&["directory of the log, ", "made anew", "up to 0x20 that no snapshot in "]);
        // It stays so: acknowledgements would follow that nobody knows the place of.
        fs::remove_dir(&dir).unwrap();
        fs::rename(scene.home.path().join("c"), &dir).unwrap();
        assert_eq!(scene.presence.look(), None);
        assert!(!scene.presence.may_acknowledge(Zxid(0x22)));
    }

    #[test]
    fn without_snapshots_what_the_log_begins_behind_is_lost() {
        let scene = Scene::new("a", "b");
        fs::remove_dir_all(scene.home.path().join("a")).unwrap();
        scene.says(&["directory of the snapshots, ", "Every transaction before those in "]);
    }

    #[test]
    fn a_segment_that_is_gone_names_its_transactions() {
        let scene = Scene::new("a", "a");
        fs::remove_file(scene.home.path().join("a/wal.5")).unwrap();
        scene.says(&["wal.5, is gone", "The transactions from 0x5 to 0x20 that no snapshot"]);
    }
}
