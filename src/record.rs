//! The files: the record of the last handover, the status, and the flags that path units watch.
//!
//! Each is written whole or not at all (a new file, renamed over the old one). No record, a broken one or one of another
//! instance is never a reason not to act: reading gives `None` and says why. Nothing here is asynchronous; the daemon
//! writes in a thread of its own, because a disk can hang.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::life::Record;
use crate::model::{Identity, Registration};

/// What `/run/spot-relay/status.json` holds: what the daemon is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    pub since: Timestamp,
    pub state: State,
    /// The same in a sentence.
    pub says: String,
    pub instance: Option<Identity>,
    pub plan: Option<String>,
    pub registrations: Option<Vec<Registration>>,
    pub handover: Option<Record>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Watching,
    HandingOver,
    HandedOver,
    /// Coming into service, or back.
    Arriving,
    /// Lives on, out of its target groups.
    StaysOut,
    /// At its own request.
    Terminating,
}

/// What exists while a notice stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    Notice,
    Drained,
}

impl Flag {
    fn file_name(self) -> &'static str {
        match self {
            Flag::Notice => "notice",
            Flag::Drained => "drained",
        }
    }
}

/// Where the files are.
#[derive(Clone, Debug)]
pub struct Files {
    state: PathBuf,
    runtime: PathBuf,
}

impl Files {
    /// systemd's `STATE_DIRECTORY` and `RUNTIME_DIRECTORY`, else the places of the contract.
    pub fn new(state_directory: Option<&str>, runtime_directory: Option<&str>) -> Files {
        // Each may hold several, separated by colons; the unit asks for one.
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

    /// What the daemon or a drill locks as long as it runs.
    pub fn lock_path(&self) -> PathBuf {
        self.runtime.join("lock")
    }

    /// The record, if it is this instance's; the reason, if there is one that cannot be used.
    ///
    /// # Errors
    /// A sentence for the log: the file is there and cannot be read, is broken, or is another instance's.
    pub fn read_record(&self, identity: &Identity) -> Result<Option<Record>, String> {
        let path = self.record_path();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(format!("the record {} cannot be read: {error}", path.display())),
        };
        let record: Record = serde_json::from_str(&text)
            .map_err(|error| format!("the record {} is broken, and ignored: {error}", path.display()))?;
        if record.incident.instance_id != identity.instance_id {
            let whose = record.incident.instance_id;
            return Err(format!("the record {} is of instance {whose}, and ignored", path.display()));
        }
        Ok(Some(record))
    }

    /// # Errors
    /// The directory cannot be made or written.
    pub fn write_record(&self, record: &Record) -> io::Result<()> {
        write_whole(&self.record_path(), &serde_json::to_vec_pretty(record)?, Sync::ToDisk)
    }

    /// # Errors
    /// The directory cannot be made or written.
    pub fn write_status(&self, status: &Status) -> io::Result<()> {
        write_whole(&self.status_path(), &serde_json::to_vec_pretty(status)?, Sync::Not)
    }

    /// # Errors
    /// The directory cannot be made or written.
    pub fn raise(&self, flag: Flag) -> io::Result<()> {
        write_whole(&self.runtime.join(flag.file_name()), b"", Sync::Not)
    }

    /// # Errors
    /// The flag is there and cannot be removed.
    pub fn lower(&self, flag: Flag) -> io::Result<()> {
        match std::fs::remove_file(self.runtime.join(flag.file_name())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether a file has to outlive the machine's sudden death. What is in the runtime directory does not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sync {
    ToDisk,
    Not,
}

fn write_whole(path: &Path, bytes: &[u8], sync: Sync) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let mut file = std::fs::File::create(&new)?;
    file.write_all(bytes)?;
    if sync == Sync::ToDisk {
        file.sync_data()?;
    }
    drop(file);
    std::fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handover::Known;
    use crate::model::{Action, BootInstant, Incident, InstanceId, LifeCycle, Signal};

    fn files(name: &str) -> Files {
        let directory = std::env::temp_dir().join(format!("spot-relay-record-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        let directory = directory.display().to_string();
        Files::new(Some(&directory), Some(&directory))
    }

    fn identity(id: &str) -> Identity {
        Identity {
            instance_id: InstanceId::new(id),
            region: "eu-west-1".into(),
            availability_zone: "eu-west-1a".into(),
            instance_type: "m5.large".into(),
            private_ip: "10.0.0.1".into(),
            account_id: "1".into(),
            life_cycle: LifeCycle::Spot,
        }
    }

    fn record() -> Record {
        Record {
            incident: Incident {
                instance_id: InstanceId::new("i-us"),
                boot_id: "boot".into(),
                action: Some(Action::Terminate),
                number: 0,
            },
            signal: Signal::Notice,
            terminating: false,
            event: None,
            certain: true,
            survived: false,
            recommended: false,
            launched_first: false,
            closed: None,
            time: None,
            begun_at: Timestamp::UNIX_EPOCH,
            begun: BootInstant::default(),
            deadline: BootInstant::default(),
            known: Known::default(),
            milestones: Vec::new(),
            outcome: None,
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let files = files("whole");
        assert_eq!(files.read_record(&identity("i-us")), Ok(None));
        files.write_record(&record()).expect("written");
        assert_eq!(files.read_record(&identity("i-us")), Ok(Some(record())));
        assert!(!files.state.join("handover.json.new").exists());
    }

    #[test]
    fn a_record_baked_into_an_image_is_ignored() {
        let files = files("baked");
        files.write_record(&record()).expect("written");
        let ignored = files.read_record(&identity("i-other")).expect_err("another's");
        assert!(ignored.contains("i-us"), "{ignored}");
    }

    #[test]
    fn a_broken_record_is_named_and_ignored() {
        let files = files("broken");
        std::fs::create_dir_all(&files.state).expect("a directory");
        std::fs::write(files.record_path(), b"{\"incident\":").expect("written");
        assert!(files.read_record(&identity("i-us")).expect_err("broken").contains("broken"));
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
