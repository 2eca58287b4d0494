//! What the process that measures takes from itself: it can read the file it was given, write its answer, and have some memory
//! and time. A flaw in what reads files is worth no more than a wrong answer about that very file.

use std::collections::BTreeMap;

use rustix::process::{Gid, Resource, Rlimit, Uid, setrlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};

/// Address space, in bytes: a file of Windows is held in memory as a whole, next to the program itself.
pub(super) const MEMORY: u64 = 1 << 30;
/// Of the processor; a package of 512 MB takes some 10 to unpack.
pub(super) const CPU_SECONDS: u64 = 60;

/// nobody, nogroup: whom nothing belongs to.
const NOBODY: u32 = 65_534;

/// All that it ever asks of the kernel: to read and write what is open, and to manage its own memory and end.
const ALLOWED: [i64; 27] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_mmap,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_tgkill,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Confines this process, which has one thread, for good. The error is a sentence.
pub(super) fn confine() -> Result<(), String> {
    give_up_rights().map_err(|error| format!("could not give up rights: {error}"))?;
    for (resource, most) in [
        (Resource::As, MEMORY),
        (Resource::Cpu, CPU_SECONDS),
        (Resource::Fsize, 0),
        (Resource::Nofile, 8),
        (Resource::Nproc, 0),
        (Resource::Core, 0),
    ] {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(resource, limit).map_err(|error| format!("could not limit {resource:?}: {error}"))?;
    }
    filter_calls().map_err(|error| format!("could not filter system calls: {error}"))
}

fn give_up_rights() -> rustix::io::Result<()> {
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    }
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none)?;
    rustix::thread::set_no_new_privs(true)
}

fn filter_calls() -> Result<(), Box<dyn std::error::Error>> {
    let arch: TargetArch = std::env::consts::ARCH.try_into()?;
    let rules = BTreeMap::from(ALLOWED.map(|call| (call, Vec::new())));
    let refused = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let program: BpfProgram = SeccompFilter::new(rules, refused, SeccompAction::Allow, arch)?.try_into()?;
    Ok(apply_filter(&program)?)
}
