//! The lock, so that only one of the daemon and a drill works for this instance at a time.
//!
//! It is flock(2) on a file that names its holder; the kernel releases it when the holder ends. Invariant: only a
//! living process that the file names keeps another daemon out. If the lock cannot be had for another reason, that is
//! reported, and the program works without it. On a full disk a daemon holds the lock without its name.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;

use super::processes;

use crate::core::words::words;

/// The tries before the lock counts as held: a process that checks it holds it for a moment, and so does one that is
/// ending.
const TRIES: u32 = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(25);

words! {
    /// The kind of a process that works for this instance.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Who {
        Daemon = "daemon",
        Drill = "drill",
    }
}

/// The process that has the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub who: Who,
    pub pid: u32,
}

/// The lock, held until this is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// The reason why there is no lock.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("the {} with process id {} has it", .0.who.as_str(), .0.pid)]
    Held(Holder),
    /// The directory cannot be made, the file cannot be written, or an unnamed process has the lock.
    #[error(transparent)]
    Unusable(#[from] io::Error),
}

impl Lock {
    /// Takes the lock. Blocks for up to half a second if another process has it.
    ///
    /// # Errors
    /// Another process has it, or the lock cannot be used.
    pub(crate) fn take(path: &Path, who: Who) -> Result<Lock, LockError> {
        let mut file = open(path)?;
        for tries in 1..=TRIES {
            match file.try_lock() {
                Ok(()) => {
                    // Everybody may read who works here, whatever the umask. A failure is no reason to stop.
                    let _ = file.set_permissions(std::fs::Permissions::from_mode(0o644));
                    return match write_name(&mut file, who) {
                        Err(error) if who == Who::Drill || !is_of_full_disk(&error) => Err(LockError::Unusable(error)),
                        _ => Ok(Lock { _file: file }),
                    };
                }
                Err(TryLockError::WouldBlock) if tries < TRIES => std::thread::sleep(BETWEEN_TRIES),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(LockError::Unusable(error)),
            }
        }
        Err(match read(&mut file).filter(is_alive) {
            Some(holder) => LockError::Held(holder),
            None => LockError::Unusable(io::Error::other("a process that does not say who it is has it")),
        })
    }
}

/// The daemon that has the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LockedDaemon {
    /// `None` where the daemon could not write its name, as on a full disk.
    pub pid: Option<u32>,
}

/// The daemon that has the lock, if any. This changes nothing.
pub(crate) fn daemon(path: &Path) -> Option<LockedDaemon> {
    let no_link = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut file = OpenOptions::new().read(true).custom_flags(no_link).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    let pid = match metadata.is_file() && metadata.len() == 0 {
        true => None,
        false => Some(read(&mut file).filter(|holder| holder.who == Who::Daemon && is_alive(holder))?.pid),
    };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)).then_some(LockedDaemon { pid })
}

/// Writes the holder over the one before, whose place on a full disk is still there. If it cannot, the file is empty.
fn write_name(file: &mut File, who: Who) -> io::Result<()> {
    let name = format!("{} {}\n", who.as_str(), std::process::id());
    let written = file.rewind().and_then(|()| file.write_all(name.as_bytes()));
    file.set_len(if written.is_ok() { name.len() as u64 } else { 0 })?;
    written
}

fn is_of_full_disk(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Opens the file for writing, or else for reading: a process without the right to write can still see that it is held.
fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent().filter(|directory| !directory.is_dir()) {
        std::fs::create_dir_all(directory)?;
        // The directory also holds the status, which everybody may read, whatever the umask.
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    }
    // The directory may belong to a less trusted user than root, who drills, so links are not followed.
    let no_link = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).custom_flags(no_link).open(path);
    let file =
        file.or_else(|error| OpenOptions::new().read(true).custom_flags(no_link).open(path).map_err(|_| error))?;
    // A pipe at this path would block its reader.
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

/// A bound for the length of the text.
const LONGEST: u64 = 64;

/// Reads the holder, such as `daemon 1234`.
fn read(file: &mut File) -> Option<Holder> {
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    let (who, pid) = text.trim().split_once(' ')?;
    let who = Who::ALL.into_iter().find(|one| one.as_str() == who)?;
    Some(Holder { who, pid: pid.parse().ok()? })
}

fn is_alive(holder: &Holder) -> bool {
    processes::exists(holder.pid)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn path(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("spot-relay-lock-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        directory.join("lock")
    }

    #[test]
    fn one_has_it_and_the_other_learns_who() {
        let path = path("two");
        let lock = Lock::take(&path, Who::Drill).expect("nobody has it");
        let us = Holder { who: Who::Drill, pid: std::process::id() };
        let held = Lock::take(&path, Who::Daemon).expect_err("held");
        assert!(matches!(held, LockError::Held(held) if held == us), "{held}");
        assert_eq!(daemon(&path), None, "a drill has it");
        drop(lock);
        let lock = Lock::take(&path, Who::Daemon).expect("nobody has it");
        assert_eq!(daemon(&path), Some(LockedDaemon { pid: Some(us.pid) }));
        drop(lock);
        assert_eq!(daemon(&path), None, "the file names one that has it no more");
        Lock::take(&path, Who::Daemon).expect("free again");
    }

    #[test]
    fn a_daemon_that_could_not_write_its_name_is_seen_and_not_named() {
        let path = path("unnamed");
        let lock = Lock::take(&path, Who::Daemon).expect("nobody has it");
        std::fs::write(&path, "").expect("emptied");
        assert_eq!(daemon(&path), Some(LockedDaemon { pid: None }));
        drop(lock);
        assert_eq!(daemon(&path), None);
    }

    #[test]
    fn whoever_only_looks_keeps_nobody_out() {
        let path = path("look");
        drop(Lock::take(&path, Who::Daemon).expect("nobody has it"));
        let looks = File::open(&path).expect("a file");
        looks.try_lock_shared().expect("shared");
        let taker = std::thread::spawn({
            let path = path.clone();
            move || Lock::take(&path, Who::Daemon).map(drop)
        });
        std::thread::sleep(BETWEEN_TRIES * 2);
        drop(looks);
        taker.join().expect("no panic").expect("taken once the look is over");
    }

    #[test]
    fn a_link_in_its_place_leads_nowhere() {
        let path = path("link");
        drop(Lock::take(&path, Who::Daemon).expect("nobody has it"));
        let elsewhere = path.with_file_name("elsewhere");
        std::fs::write(&elsewhere, "somebody's").expect("written");
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(&elsewhere, &path).expect("linked");
        assert!(matches!(Lock::take(&path, Who::Drill), Err(LockError::Unusable(_))));
        assert_eq!(std::fs::read_to_string(&elsewhere).expect("there"), "somebody's");
    }

    #[test]
    fn a_pipe_in_its_place_holds_nobody_up() {
        let path = path("pipe");
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .expect("a pipe");
        assert!(matches!(Lock::take(&path, Who::Drill), Err(LockError::Unusable(_))));
        let writer = OpenOptions::new().read(true).write(true).open(&path).expect("a writer");
        writer.try_lock().expect("locked");
        assert!(
            matches!(Lock::take(&path, Who::Drill), Err(LockError::Unusable(_))),
            "nor where somebody has locked it"
        );
    }

    #[test]
    fn a_stranger_who_holds_it_is_no_holder() {
        let path = path("stranger");
        drop(Lock::take(&path, Who::Daemon).expect("nobody has it"));
        // No process has so large an id.
        std::fs::write(&path, "daemon 2147483000\n").expect("written");
        let stranger = File::open(&path).expect("a file");
        stranger.try_lock().expect("locked");
        assert!(matches!(Lock::take(&path, Who::Daemon), Err(LockError::Unusable(_))));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told() {
        let path = path("file");
        std::fs::write(path.parent().expect("a directory"), "a file").expect("written");
        assert!(matches!(Lock::take(&path, Who::Daemon), Err(LockError::Unusable(_))));
    }
}
