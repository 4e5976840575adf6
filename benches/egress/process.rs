//! What this process uses, from /proc.

use std::collections::BTreeMap;
use std::fs;

/// The kernel counts processor time in hundredths of a second (USER_HZ).
pub(crate) const TICKS_PER_SEC: f64 = 100.0;

/// A reading.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Processor time of all threads but those named `publisher`, in ticks. Threads that ended are not in it.
    pub(crate) busy: u64,
    /// The same by the threads' names.
    pub(crate) by_thread: BTreeMap<String, u64>,
    pub(crate) threads: u64,
    pub(crate) resident_kb: u64,
}

impl Usage {
    pub(crate) fn read() -> Self {
        let mut usage = Self::default();
        for task in fs::read_dir("/proc/self/task").expect("Linux") {
            let path = task.expect("a thread").path();
            let Ok(stat) = fs::read_to_string(path.join("stat")) else { continue };
            // The name is in parentheses; user and system time are the 12th and 13th field behind it.
            let Some((before, after)) = stat.rsplit_once(") ") else { continue };
            let name = before.split_once('(').map_or("", |(_, name)| name);
            let ticks: u64 =
                after.split(' ').skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
            *usage.by_thread.entry(name.to_owned()).or_default() += ticks;
            usage.threads += 1;
            usage.busy += if name == "publisher" { 0 } else { ticks };
        }
        let status = fs::read_to_string("/proc/self/status").expect("Linux");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        usage.resident_kb =
            resident.and_then(|size| size.trim().split(' ').next()?.parse().ok()).unwrap_or(0);
        usage
    }
}
