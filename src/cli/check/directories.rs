//! The directories of the record and of the status: whether this user can write them.

use std::path::Path;

use rustix::fs::{Access, access};

use super::finding::Finding;

use crate::cli::environment::files;

pub(super) fn look() -> Vec<Finding> {
    let files = files();
    let of = |check, file: &Path, without: &str| {
        let directory = file.parent().unwrap_or(file);
        match writable(directory) {
            Ok(found) => Finding::ok(check, found),
            Err(found) => Finding::warn(check, found).meaning(without).remedy(
                "check as the daemon's user (root can write everywhere), free the disk, or mount it for writing",
            ),
        }
    };
    vec![
        of(
            "state-directory",
            &files.record_path(),
            "without the record a handover works, but an instance that lives on is not put back",
        ),
        of(
            "runtime-directory",
            &files.status_path(),
            "without it a handover works, but `spot-relay status` and units that wait for a notice see nothing",
        ),
    ]
}

/// Tests the directory, or the nearest existing parent.
fn writable(directory: &Path) -> Result<String, String> {
    let name = directory.display();
    let Some(there) = directory.ancestors().find(|it| it.exists()) else {
        return Err(format!("{name} is not there and cannot be made"));
    };
    match access(there, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) if there == directory && there.is_dir() => Ok(format!("{name} can be written")),
        Ok(()) if there.is_dir() => Ok(format!("{name} is not there yet and can be made")),
        Ok(()) => Err(format!("{} is no directory", there.display())),
        Err(error) => Err(format!("{} cannot be written: {error}", there.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_can_be_made_is_as_good_as_one_that_is_there() {
        let base = std::env::temp_dir().join(format!("spot-relay-directories-{}", std::process::id()));
        std::fs::create_dir_all(&base).unwrap();
        assert!(writable(&base).unwrap().contains("can be written"));
        assert!(writable(&base.join("a/b")).unwrap().contains("can be made"));
        assert!(!base.join("a").exists(), "and is not made");
        std::fs::write(base.join("file"), "").unwrap();
        assert!(writable(&base.join("file/state")).is_err());
        std::fs::remove_dir_all(&base).unwrap();
    }
}
