//! What the kernel knows of this process, for `/metrics`.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{SysconfVar, sysconf};

use crate::clock;

/// Figures of one moment; `None` where `/proc` is not mounted or says something else.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// User and system time of all threads since the start, seconds.
    pub cpu_s: Option<f64>,
    /// Memory in RAM, bytes.
    pub resident_bytes: Option<u64>,
    /// Addresses in use, bytes: with the files that are mapped.
    pub virtual_bytes: Option<u64>,
    pub open_fds: Option<usize>,
    pub max_fds: Option<u64>,
    /// Seconds since 1970; `None` also while the clock is not set.
    pub started_unix_s: Option<f64>,
}

impl Process {
    /// As it is now. Reads a few files of `/proc`: some ten microseconds.
    #[must_use]
    pub fn now() -> Self {
        let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let mut pages = pages.split_whitespace().map(str::parse::<u64>);
        let page_bytes = setting(SysconfVar::PAGE_SIZE);
        let mut bytes = || Some(pages.next()?.ok()?.saturating_mul(page_bytes?));
        Self {
            virtual_bytes: bytes(),
            resident_bytes: bytes(),
            cpu_s: getrusage(UsageWho::RUSAGE_SELF).ok().map(|usage| {
                let spent = usage.user_time() + usage.system_time();
                spent.num_microseconds() as f64 / 1e6
            }),
            // One of them is that of this look.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1)),
            max_fds: getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| soft),
            started_unix_s: started_unix_s().filter(|_| clock::is_set()),
        }
    }
}

/// From when the kernel started and how long after it this process did, so that every look finds the same.
fn started_unix_s() -> Option<f64> {
    let machine = fs::read_to_string("/proc/stat").ok()?;
    let machine_s: u64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    let ticks = start_ticks(&fs::read_to_string("/proc/self/stat").ok()?)?;
    Some(machine_s as f64 + ticks as f64 / setting(SysconfVar::CLK_TCK)? as f64)
}

/// Field 22 of `/proc/self/stat`. Field 2 is a name in parentheses, which may hold anything.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, from_third) = stat.rsplit_once(')')?;
    from_third.split_whitespace().nth(22 - 3)?.parse().ok()
}

fn setting(name: SysconfVar) -> Option<u64> {
    u64::try_from(sysconf(name).ok()??).ok().filter(|value| *value > 0)
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_name_with_parentheses_hides_no_field() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 9 0 31415 100 200 18446744073709551615";
        assert_eq!(start_ticks(stat), Some(31415));
        assert_eq!(start_ticks("7 (a"), None);
        assert_eq!(start_ticks("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_is_told_plausibly() {
        let process = Process::now();
        let (resident, addresses) = (process.resident_bytes.unwrap(), process.virtual_bytes.unwrap());
        assert!(resident > 100_000 && addresses > resident, "{process:?}");
        assert!(process.cpu_s.unwrap() >= 0.0);
        let open = u64::try_from(process.open_fds.unwrap()).unwrap();
        assert!(open >= 1 && open <= process.max_fds.unwrap(), "{process:?}");
        if let Some(started_s) = process.started_unix_s {
            let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
            assert!(started_s < now_s + 2.0 && started_s > now_s - 86_400.0, "{started_s} of {now_s}");
        }
    }
}
