//! What the worker forbids itself before it loads anything: the network, other programs, and more than its share of files.
//!
//! The limit of memory, and that it dies with the device's process, are set by who starts it.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

/// Families of sockets that lead out of the machine. Those that are left are needed by drivers.
const FAMILIES: [i32; 4] = [libc::AF_INET, libc::AF_INET6, libc::AF_PACKET, libc::AF_VSOCK];
/// Calls that no library that computes has a use for.
const FORBIDDEN: [libc::c_long; 14] = [
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_reboot,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
];

/// Raises the fence; says what could not be forbidden here.
pub fn raise() -> Vec<String> {
    let mut loose = Vec::new();
    // SAFETY: a constant text. It was started by the number of a descriptor, which tells nobody who looks at processes.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"fl-worker".as_ptr()) };
    // SAFETY: numbers only; from here on no program it might start gains rights.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        loose.push(format!("new privileges: {}", std::io::Error::last_os_error()));
    }
    if let Err(why) =
        filter().and_then(|filter| seccompiler::apply_filter_all_threads(&filter).map_err(|e| e.to_string()))
    {
        loose.push(format!("system calls: {why}"));
    }
    loose
}

fn filter() -> Result<BpfProgram, String> {
    let words = |error: seccompiler::BackendError| error.to_string();
    let family = |family: i32| {
        let family = u64::from(family.unsigned_abs());
        let is = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family).map_err(words)?;
        SeccompRule::new(vec![is]).map_err(words)
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = FORBIDDEN.iter().map(|&call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_socket, FAMILIES.into_iter().map(family).collect::<Result<_, String>>()?);
    let forbidden = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into().map_err(words)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, forbidden, architecture).map_err(words)?;
    filter.try_into().map_err(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_the_fence_there_is_no_network_and_no_other_program() {
        // For the thread that asks for it, and not for the other tests.
        let filter = filter().unwrap();
        let behind = std::thread::spawn(move || {
            seccompiler::apply_filter(&filter).unwrap();
            let socket = |family| {
                // SAFETY: numbers only; what it opens is closed with the process.
                let made = unsafe { libc::socket(family, libc::SOCK_STREAM, 0) };
                if made < 0 { std::io::Error::last_os_error().raw_os_error() } else { None }
            };
            // SAFETY: a path, and lists of arguments and of variables that are empty.
            unsafe { libc::execve(c"/bin/true".as_ptr(), [std::ptr::null()].as_ptr(), [std::ptr::null()].as_ptr()) };
            let executed = std::io::Error::last_os_error().raw_os_error();
            (socket(libc::AF_INET), socket(libc::AF_INET6), socket(libc::AF_UNIX), executed)
        });
        let refused = Some(libc::EPERM);
        assert_eq!(behind.join().unwrap(), (refused, refused, None, refused));
    }
}
