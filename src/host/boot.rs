//! This boot's id and clock, from the kernel.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::core::model::BootInstant;

/// The time now on `CLOCK_BOOTTIME`, which also counts while the machine sleeps and which nobody can set.
pub(crate) fn now() -> BootInstant {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    BootInstant::since_boot(Duration::new(seconds, nanoseconds))
}

/// The boot's id: it changes at every boot, and stays at a resume. It is empty if the kernel does not give it. Then a
/// restarted daemon cannot tell two boots apart.
pub(crate) fn id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
