//! This boot, as the kernel tells it: its id and its clock. Invariant: this is the one place that reads the boot clock.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::core::model::BootInstant;

/// Now on `CLOCK_BOOTTIME`, which counts on while the machine sleeps and which nobody can set.
pub(crate) fn now() -> BootInstant {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    BootInstant::since_boot(Duration::new(seconds, nanoseconds))
}

/// The boot's id: another one after every boot, the same one after a resume. Empty where the kernel does not tell, and
/// then a restart of the daemon cannot tell two boots apart.
pub(crate) fn id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}
