//! Processes, as the kernel shows them: whether one lives, and since when. No signal is sent.

use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

/// The start of a process in kernel ticks after the boot (`starttime` of proc_pid_stat(5)). With the pid it identifies
/// one process of a boot. `None` if the process is dead, or the kernel does not show it (`hidepid`).
pub(crate) fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in parentheses, may hold any letters.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_dead = fields.next().is_none_or(|state| state == "Z" || state == "X");
    fields.nth(18).filter(|_| !is_dead)?.parse().ok()
}

/// Tells whether the process with this pid and this start still lives.
pub(crate) fn lives(pid: u32, started_then: Option<u64>) -> bool {
    match (started(pid), started_then) {
        (Some(now), Some(then)) => now == then,
        // The kernel hides processes of other users here; a signal test still shows whether the pid exists.
        (None, _) => !is_visible() && exists(pid),
        (Some(_), None) => true,
    }
}

/// Tells whether `/proc` shows processes of other users, such as the first one.
fn is_visible() -> bool {
    std::fs::exists("/proc/1/stat").unwrap_or(false)
}

/// The processes of `spot-relay run --dry-run` that the kernel shows to this user.
pub(crate) fn dry_runs() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().map_while(Result::ok);
    let is_dry_run = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let is_ours =
            words.next().is_some_and(|program| program.rsplit(|byte| *byte == b'/').next() == Some(b"spot-relay"));
        let words: Vec<&[u8]> = words.collect();
        is_ours && [&b"run"[..], b"--dry-run"].iter().all(|word| words.contains(word))
    };
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_dry_run).collect()
}

/// Tells whether a process has this pid, including a dead one that nobody has reaped.
pub(super) fn exists(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_some_and(|pid| matches!(test_kill_process(pid), Ok(()) | Err(Errno::PERM)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_pid_and_its_start() {
        let ours = std::process::id();
        let start = started(ours).expect("we live");
        assert!(lives(ours, Some(start)) && !lives(ours, Some(start + 1)));
    }

    #[test]
    fn a_process_that_ended_lives_no_more_reaped_or_not() {
        let mut child = std::process::Command::new("true").spawn().expect("it starts");
        let (pid, start) = (child.id(), started(child.id()));
        let began = std::time::Instant::now();
        // Dead, and a zombie as long as nobody waits for it.
        while lives(pid, start) && began.elapsed().as_secs() < 60 {
            std::thread::yield_now();
        }
        assert!(!lives(pid, start));
        child.wait().expect("it ends");
        assert!(!lives(pid, start));
    }
}
