//! What a worker's thread costs, as the system counts it (mediasoup's `getResourceUsage`).

use std::ffi::c_long;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde::Serialize;

/// Whose usage is asked for. Where the system counts by process only, all workers tell the same.
#[cfg(target_os = "linux")]
const WHO: UsageWho = UsageWho::RUSAGE_THREAD;
#[cfg(not(target_os = "linux"))]
const WHO: UsageWho = UsageWho::RUSAGE_SELF;

/// getrusage(2) of a worker, under mediasoup's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ResourceUsage {
    /// Time spent in the program, in milliseconds.
    pub ru_utime: i64,
    /// Time spent in the kernel, in milliseconds.
    pub ru_stime: i64,
    /// The most memory that the whole process has used, in kilobytes.
    pub ru_maxrss: c_long,
    /// Pages that had to be mapped.
    pub ru_minflt: c_long,
    /// Pages that had to be read from disk.
    pub ru_majflt: c_long,
    /// Blocks read.
    pub ru_inblock: c_long,
    /// Blocks written.
    pub ru_oublock: c_long,
    /// How often the thread waited for something.
    pub ru_nvcsw: c_long,
    /// How often the thread had to make room for another one.
    pub ru_nivcsw: c_long,
}

impl ResourceUsage {
    /// That of the thread that asks; zeros where the system does not tell.
    pub(super) fn of_this_thread() -> Self {
        let Ok(usage) = getrusage(WHO) else { return Self::default() };
        Self {
            ru_utime: usage.user_time().num_milliseconds(),
            ru_stime: usage.system_time().num_milliseconds(),
            ru_maxrss: usage.max_rss(),
            ru_minflt: usage.minor_page_faults(),
            ru_majflt: usage.major_page_faults(),
            ru_inblock: usage.block_reads(),
            ru_oublock: usage.block_writes(),
            ru_nvcsw: usage.voluntary_context_switches(),
            ru_nivcsw: usage.involuntary_context_switches(),
        }
    }
}
