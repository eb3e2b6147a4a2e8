//! A file that a person wrote for this program: a configuration, a template.
//!
//! Invariant: reading never blocks and is bounded, whatever is at the path (a pipe without a writer, a device).

use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// The most bytes of a file that a person writes.
pub(crate) const LARGEST: u64 = 1024 * 1024;

/// Reads the text of a regular file.
///
/// # Errors
/// It cannot be read. If it is no regular file, larger than [`LARGEST`] or not UTF-8, the kind is `InvalidData`.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    read_up_to(path, LARGEST)
}

/// Reads a file of ours, which may be longer.
///
/// # Errors
/// The errors of [`read`], with `largest` instead of [`LARGEST`].
pub(crate) fn read_up_to(path: &Path, largest: u64) -> io::Result<String> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(wrong("it is no regular file"));
    }
    let mut text = String::new();
    file.take(largest + 1).read_to_string(&mut text)?;
    if text.len() as u64 > largest {
        return Err(wrong(format!("it has more than {} KiB", largest / 1024)));
    }
    Ok(text)
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_directories_are_no_files_of_a_persons() {
        for path in ["/dev/zero", "/dev/null", "/proc", "/tmp"] {
            assert!(read(Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_pipe_without_a_writer_is_not_waited_for() {
        let path = std::env::temp_dir().join(format!("spot-relay-pipe-{}", std::process::id()));
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
            .expect("a pipe");
        let error = read(&path).expect_err("no file");
        std::fs::remove_file(&path).expect("it is there");
        assert_eq!(error.to_string(), "it is no regular file");
    }

    #[test]
    fn a_file_that_is_too_large_or_no_text_is_refused() {
        let path = std::env::temp_dir().join(format!("spot-relay-large-{}", std::process::id()));
        let read_of = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("it is written");
            read(&path)
        };
        let largest = usize::try_from(LARGEST).expect("a length");
        assert!(read_of(&vec![b'#'; largest]).is_ok());
        assert_eq!(read_of(&vec![b'#'; largest + 1]).expect_err("too large").to_string(), "it has more than 1024 KiB");
        assert!(read_of(&[0xff, 0xfe]).is_err());
        std::fs::remove_file(&path).expect("it is there");
    }
}
