//! The files: the record of the last handover, the status, and the flags that path units watch.
//!
//! Each file is written completely or not at all (a new file is renamed over the old one). A missing or broken record,
//! or that of another instance, never stops the daemon: reading returns `None` or the reason. Nothing here is
//! asynchronous; the daemon writes on a thread, because a disk can hang. Everybody may read the runtime directory,
//! whatever the daemon's umask: it holds no secret.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::text_file;
use crate::core::duty::DutyReport;
use crate::core::incident::Incident;
use crate::core::life::Standing;
use crate::core::model::{BootInstant, Identity, Registration};
use crate::core::words::words;

/// The content of `/run/spot-relay/status.json`: the daemon's present state. Only `spot-relay status` reads this file;
/// other programs read that command's `--json` output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    /// The process's start in kernel ticks after the boot. The pid alone may belong to another process by now.
    pub process_started: Option<u64>,
    pub since: Moment,
    /// The time of this status. It is written at every change, and every few seconds without one.
    pub written: Moment,
    /// The time at which the daemon ended, if it could still write it.
    pub ended: Option<Timestamp>,
    /// The time between two looks at the metadata.
    pub interval: Duration,
    /// The last look that showed whether there is a notice.
    pub last_good_look: Option<Moment>,
    /// The trouble with the metadata, if any: its start and its reason.
    pub trouble: Option<MetadataTrouble>,
    /// The credentials; `None` before they were loaded.
    #[serde(default)]
    pub credentials: Option<CredentialsStatus>,
    pub state: Standing,
    /// The state as a sentence.
    pub says: String,
    pub instance: Option<Identity>,
    pub owner: Option<OwnerStatus>,
    /// The effect of a notice, in a sentence.
    pub on_a_notice: Option<String>,
    pub registrations: Option<Vec<Registration>>,
    /// The running handover, or the last one.
    pub handover: Option<Incident>,
    /// The duties of the running handover.
    pub duties: Vec<DutyReport>,
}

/// One moment on both clocks: the wall clock for people, the boot clock for ages, because nobody can set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    pub at: Timestamp,
    pub boot: BootInstant,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataTrouble {
    pub since: Moment,
    pub why: String,
}

/// The state of the credentials for AWS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialsStatus {
    /// The time of expiry; `None` if they never expire, or there are none.
    pub expires: Option<Timestamp>,
    /// The reason why calls to AWS fail, or soon will.
    pub trouble: Option<String>,
}

/// The owner, in the words of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerStatus {
    pub kind: String,
    pub id: Option<String>,
}

/// A limit far above the size of any record or status.
const LARGEST: u64 = 16 * 1024 * 1024;

words! {
    /// The flags that exist while there is a notice, each with the name of its file.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Flag {
        Notice = "notice",
        Drained = "drained",
    }
}

/// The directories of the files.
#[derive(Clone, Debug)]
pub struct Files {
    state: PathBuf,
    runtime: PathBuf,
}

impl Files {
    /// Uses systemd's `STATE_DIRECTORY` and `RUNTIME_DIRECTORY`, else the documented defaults.
    pub fn new(state_directory: Option<&str>, runtime_directory: Option<&str>) -> Files {
        // Each may name several directories, separated by colons; our unit sets one.
        let first = |value: Option<&str>, default: &str| {
            let directory = value.and_then(|value| value.split(':').find(|part| !part.is_empty()));
            PathBuf::from(directory.unwrap_or(default))
        };
        Files {
            state: first(state_directory, "/var/lib/spot-relay"),
            runtime: first(runtime_directory, "/run/spot-relay"),
        }
    }

    pub fn record_path(&self) -> PathBuf {
        self.state.join("handover.json")
    }

    pub fn status_path(&self) -> PathBuf {
        self.runtime.join("status.json")
    }

    /// The file that the daemon or a drill locks while it runs.
    pub fn lock_path(&self) -> PathBuf {
        self.runtime.join("lock")
    }

    /// Reads the record; `None` if there is none.
    ///
    /// # Errors
    /// A sentence for the log: the record cannot be read, is broken, or belongs to another instance.
    pub fn read_record(&self, identity: &Identity) -> Result<Option<Incident>, String> {
        let path = self.record_path();
        // A process may have been killed before it renamed the new file. If that file is complete it counts.
        let new = text_file::read_up_to(&new_of(&path), LARGEST).ok().and_then(|text| Incident::read(&text).ok());
        if let Some(new) = new.filter(|new| new.id.instance_id == identity.instance_id) {
            return Ok(Some(new));
        }
        let text = match text_file::read_up_to(&path, LARGEST) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("the record {} cannot be read: {error}", path.display())),
        };
        let record = Incident::read(&text)
            .map_err(|error| format!("the record {} is broken, and ignored: {error}", path.display()))?;
        if record.id.instance_id != identity.instance_id {
            let whose = record.id.instance_id;
            return Err(format!("the record {} is of instance {whose}, and ignored", path.display()));
        }
        Ok(Some(record))
    }

    /// Reads the record of any instance, for people; `None` if it cannot be read.
    pub fn read_any_record(&self) -> Option<Incident> {
        Incident::read(&text_file::read_up_to(&self.record_path(), LARGEST).ok()?).ok()
    }

    /// Reads the status; `None` if there is none.
    ///
    /// # Errors
    /// The status exists, but cannot be read or is broken.
    pub fn read_status(&self) -> io::Result<Option<Status>> {
        match text_file::read_up_to(&self.status_path(), LARGEST) {
            Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// # Errors
    /// The directory cannot be made or written.
    pub fn write_record(&self, record: &Incident) -> io::Result<()> {
        write_whole(&self.record_path(), &serde_json::to_vec_pretty(record)?, Directory::State)
    }

    /// # Errors
    /// The directory cannot be made or written.
    pub fn write_status(&self, status: &Status) -> io::Result<()> {
        write_whole(&self.status_path(), &serde_json::to_vec_pretty(status)?, Directory::Runtime)
    }

    /// Makes the flag's file. An existing one stays as it is, because path units watch it.
    ///
    /// # Errors
    /// The directory cannot be made or written.
    pub fn raise(&self, flag: Flag) -> io::Result<()> {
        if std::fs::symlink_metadata(self.runtime.join(flag.as_str())).is_ok_and(|data| data.is_file()) {
            return Ok(());
        }
        write_whole(&self.runtime.join(flag.as_str()), b"", Directory::Runtime)
    }

    /// # Errors
    /// The flag's file exists, but cannot be removed.
    pub fn lower(&self, flag: Flag) -> io::Result<()> {
        match std::fs::remove_file(self.runtime.join(flag.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The directory to which a file is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Directory {
    /// Its files have to survive a crash of the machine.
    State,
    /// Its files need not survive. Everybody may read them: path units of any user, `spot-relay status` without root.
    Runtime,
}

fn write_whole(path: &Path, bytes: &[u8], place: Directory) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        make_directory(directory, place)?;
    }
    let new = new_of(path);
    // A process that died may have left it, perhaps as another user: a drill runs as root.
    let _ = std::fs::remove_file(&new);
    let mut file = File::create_new(&new)?;
    if let Some(owner) = path.parent().and_then(|directory| std::fs::metadata(directory).ok()) {
        // The daemon has to read and overwrite what root's drill writes.
        let _ = fchown(&file, Some(owner.uid()), Some(owner.gid()));
    }
    if place == Directory::Runtime {
        file.set_permissions(Permissions::from_mode(0o644))?;
    }
    file.write_all(bytes)?;
    if place == Directory::State {
        file.sync_data()?;
    }
    drop(file);
    std::fs::rename(&new, path)?;
    match (place, path.parent()) {
        // The new name survives a crash only after the directory is synced.
        (Directory::State, Some(directory)) => File::open(directory)?.sync_all(),
        _ => Ok(()),
    }
}

/// The path of the new file before it replaces the old one.
fn new_of(path: &Path) -> PathBuf {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    PathBuf::from(new)
}

/// Makes the directory if it is missing. Under systemd both exist already.
fn make_directory(directory: &Path, place: Directory) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    match place {
        Directory::State => Ok(()),
        Directory::Runtime => std::fs::set_permissions(directory, Permissions::from_mode(0o755)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::handover::tests::identity_of;
    use crate::core::incident::Start;
    use crate::core::model::{Action, BootInstant, IncidentId, InstanceId, Signal};

    fn files(name: &str) -> Files {
        let directory = std::env::temp_dir().join(format!("spot-relay-record-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        let directory = directory.display().to_string();
        Files::new(Some(&directory), Some(&directory))
    }

    fn record() -> Incident {
        let (instance_id, boot_id) = (InstanceId::new("i-us"), "boot".into());
        let id = IncidentId { instance_id, boot_id, action: Some(Action::Terminate), number: 0 };
        Incident::new(id, Signal::Notice, BootInstant::default(), Start::default())
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let files = files("whole");
        assert_eq!(files.read_record(&identity_of("i-us")), Ok(None));
        files.write_record(&record()).expect("written");
        assert_eq!(files.read_record(&identity_of("i-us")), Ok(Some(record())));
        assert!(!files.state.join("handover.json.new").exists());
    }

    #[test]
    fn a_record_baked_into_an_image_is_ignored() {
        let files = files("baked");
        files.write_record(&record()).expect("written");
        let ignored = files.read_record(&identity_of("i-other")).expect_err("another's");
        assert!(ignored.contains("i-us"), "{ignored}");
    }

    #[test]
    fn a_broken_record_is_named_and_ignored() {
        let files = files("broken");
        std::fs::create_dir_all(&files.state).expect("a directory");
        std::fs::write(files.record_path(), b"{\"incident\":").expect("written");
        assert!(files.read_record(&identity_of("i-us")).expect_err("broken").contains("broken"));
    }

    #[test]
    fn a_pipe_or_a_flood_in_the_place_of_a_file_is_not_waited_for() {
        let files = files("pipes");
        for directory in [&files.state, &files.runtime] {
            std::fs::create_dir_all(directory).expect("a directory");
        }
        for path in [files.record_path(), files.status_path()] {
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
                .expect("a pipe");
        }
        assert!(files.read_record(&identity_of("i-us")).expect_err("a pipe").contains("regular"));
        assert_eq!(files.read_any_record(), None);
        assert!(files.read_status().is_err());
        std::fs::remove_file(files.record_path()).expect("removed");
        let flood = File::create(files.record_path()).expect("made");
        flood.set_len(10 << 30).expect("a sparse file");
        assert!(files.read_record(&identity_of("i-us")).expect_err("a flood").contains("more than"));
        std::fs::remove_file(files.record_path()).expect("removed");
    }

    #[test]
    fn what_is_in_the_runtime_directory_everybody_may_read() {
        let files = files("modes");
        files.raise(Flag::Notice).expect("raised");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&files.runtime), mode(&files.runtime.join("notice"))), (0o755, 0o644));
    }

    #[test]
    fn a_flag_that_stands_is_not_written_again() {
        let files = files("stands");
        files.raise(Flag::Notice).expect("raised");
        let inode = || std::fs::metadata(files.runtime.join("notice")).expect("there").ino();
        let before = inode();
        files.raise(Flag::Notice).expect("raised again");
        assert_eq!(inode(), before);
    }

    #[test]
    fn what_a_dead_process_left_half_written_is_in_nobodys_way_and_leads_nowhere() {
        let files = files("left");
        std::fs::create_dir_all(&files.state).expect("a directory");
        let elsewhere = files.state.join("elsewhere");
        std::fs::write(&elsewhere, "somebody's").expect("written");
        std::os::unix::fs::symlink(&elsewhere, files.state.join("handover.json.new")).expect("linked");
        files.write_record(&record()).expect("written");
        assert_eq!(files.read_record(&identity_of("i-us")), Ok(Some(record())));
        assert_eq!(std::fs::read_to_string(&elsewhere).expect("still there"), "somebody's");
    }

    #[test]
    fn a_record_that_a_killed_process_wrote_whole_and_did_not_rename_is_read() {
        let files = files("killed");
        let new = new_of(&files.record_path());
        for old in [false, true] {
            let mut newer = record();
            newer.id.number = 7;
            if old {
                files.write_record(&record()).expect("written");
            }
            std::fs::create_dir_all(&files.state).expect("a directory");
            let whole = serde_json::to_vec_pretty(&newer).expect("it is written");
            std::fs::write(&new, &whole).expect("written");
            assert_eq!(files.read_record(&identity_of("i-us")), Ok(Some(newer)), "old {old}");
            // In part it is nothing.
            std::fs::write(&new, &whole[..whole.len() - 9]).expect("written");
            assert_eq!(files.read_record(&identity_of("i-us")), Ok(old.then(record)), "old {old}");
        }
    }

    #[test]
    fn a_flag_that_is_not_there_can_be_lowered() {
        let files = files("flags");
        files.raise(Flag::Drained).expect("raised");
        assert!(files.runtime.join("drained").exists());
        files.lower(Flag::Drained).expect("lowered");
        files.lower(Flag::Drained).expect("lowered again");
    }
}
