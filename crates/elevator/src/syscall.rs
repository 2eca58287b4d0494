//! The `unsafe` of the repository: the few system calls that have no safe wrapper, and below it PAM's own library. Each
//! function is one call, or a few that belong together, and says what it relies on.
#![allow(unsafe_code)]

pub(crate) mod pam;

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

// ---- processes ----

/// Which side of a fork this is.
pub(crate) enum Fork {
    /// The one that forked.
    Parent(rustix::process::Pid),
    /// The new one.
    Child,
}

/// Forks. Only for processes with a single thread: the spawner, a session, a monitor. There the child may go on with the
/// allocator and everything else as it finds it.
pub(crate) fn fork() -> io::Result<Fork> {
    // SAFETY: the callers have one thread, so no lock is held by a thread that the child would lack.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => rustix::process::Pid::from_raw(pid).map(Fork::Parent).ok_or_else(io::Error::last_os_error),
    }
}

/// Forks into a cgroup: the child is in it from its first instruction, and nothing has to be moved, which would make the
/// kernel wait for every processor. Like [`fork`], for processes with a single thread.
pub(crate) fn fork_into(cgroup: BorrowedFd<'_>) -> io::Result<Fork> {
    fork_with(0, Some(cgroup))
}

/// Forks into PID and mount namespaces of their own, of which the child is the first process; and into a cgroup, where there
/// is one.
pub(crate) fn fork_apart(cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    let flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
    fork_with(u64::try_from(flags).map_err(|_| io::ErrorKind::InvalidInput)?, cgroup)
}

fn fork_with(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    // The constant of the same name in `libc` does not fit its type.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let unsigned = |number: i32| u64::try_from(number).map_err(|_| io::ErrorKind::InvalidInput);
    let mut arguments = libc::clone_args {
        flags: if cgroup.is_some() { flags | CLONE_INTO_CGROUP } else { flags },
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: unsigned(libc::SIGCHLD)?,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(Ok(0), |cgroup| unsigned(cgroup.as_raw_fd()))?,
    };
    // SAFETY: without a stack or shared memory of its own this is a fork: the child goes on here with a copy of everything.
    // The callers have one thread, so no lock is held by a thread that the child would lack.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) };
    match i32::try_from(pid) {
        Ok(0) => Ok(Fork::Child),
        Ok(pid) => rustix::process::Pid::from_raw(pid)
            .filter(|_| pid > 0)
            .map(Fork::Parent)
            .ok_or_else(io::Error::last_os_error),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Ends this process at once, without destructors or exit handlers: for forked children.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: `_exit` takes any number and does not return.
    unsafe { libc::_exit(status) }
}

/// Executes the program behind a descriptor; returns only if that failed.
pub(crate) fn execute(file: BorrowedFd<'_>, argv: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect::<Vec<_>>()
    };
    let (argv, environment) = (pointers(argv), pointers(environment));
    // SAFETY: both arrays end with a null pointer, and they and their strings outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

/// Marks every descriptor from `first` on as close-on-exec.
pub(crate) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    let first = libc::c_uint::try_from(first).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: sets a flag on descriptors; touches no memory.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts a copy of a descriptor at exactly this number, open across exec.
pub(crate) fn place(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        // SAFETY: clears a flag on a descriptor that the caller holds.
        let result = unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
        return if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) };
    }
    // SAFETY: the caller is a forked child that is about to execute and owns its descriptor table.
    let result = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A copy of a descriptor, at `least` or the next free number, open across exec.
pub(crate) fn keep_open(fd: BorrowedFd<'_>, least: RawFd) -> io::Result<RawFd> {
    // SAFETY: duplicates a descriptor that the caller holds.
    let number = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, least) };
    if number == -1 { Err(io::Error::last_os_error()) } else { Ok(number) }
}

/// Closes the inherited descriptors of a forked child but these.
pub(crate) fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<libc::c_uint> = keep.iter().filter_map(|fd| libc::c_uint::try_from(*fd).ok()).collect();
    keep.sort_unstable();
    let mut first = 0;
    for fd in keep.into_iter().map(Some).chain([None]) {
        let last = match fd {
            Some(0) => {
                first = 1;
                continue;
            }
            Some(fd) => fd - 1,
            None => libc::c_uint::MAX,
        };
        if first <= last {
            // SAFETY: the caller is a forked child that owns its descriptor table and uses none of the closed ones.
            let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
            if result == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        first = last.saturating_add(2);
    }
    Ok(())
}

/// The parent of a process, as [`rustix::process::getppid`] says it of this one. `None` where the kernel does not tell it of a
/// descriptor (before 6.13).
pub(crate) fn parent_of(process: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    /// `struct pidfd_info` of `linux/pidfd.h` in its first version: what is asked for, the cgroup, then numbers.
    #[repr(C)]
    struct Info {
        mask: u64,
        cgroup: u64,
        pid: u32,
        thread_group: u32,
        parent: u32,
        owners_and_end: [u32; 9],
    }
    const PIDFD_GET_INFO: libc::Ioctl = 0xC040_FF0B;
    const PIDFD_INFO_PID: u64 = 1;
    // SAFETY: a structure of numbers may be all zero.
    let mut info = Info { mask: PIDFD_INFO_PID, ..unsafe { std::mem::zeroed() } };
    // SAFETY: the kernel reads and writes one structure of this layout, whose length is in the request.
    let result = unsafe { libc::ioctl(process.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    if result == 0 {
        return Ok((info.mask & PIDFD_INFO_PID != 0).then_some(info.parent));
    }
    match io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EINVAL)) => Ok(None),
        error => Err(error),
    }
}

// ---- signals ----

/// Every signal as a program expects it at its start: default action, nothing blocked.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL runs no code of ours; numbers that cannot be set are refused by the kernel.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero set is empty and valid; the call only reads it.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Ignores a signal.
pub(crate) fn ignore(signal: i32) {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Blocks these signals in this thread, and in those it starts, and gives a descriptor that reads them.
pub(crate) fn signal_descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised before it is used; the descriptor is fresh and owned by nobody else.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        if libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// Sends any signal number to a process group.
pub(crate) fn signal_group(group: rustix::process::Pid, signal: i32) -> io::Result<()> {
    // SAFETY: touches no memory.
    let result = unsafe { libc::kill(-group.as_raw_nonzero().get(), signal) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

// ---- credentials ----

/// Takes on the identity a program is to run with, for good, and reads it back. The order is groups, group, user: each
/// step still has the right to do the next. Any difference is an error, and the caller must not go on.
pub(crate) fn take_on(uid: libc::uid_t, gid: libc::gid_t, groups: &[libc::gid_t]) -> io::Result<()> {
    let check = |result: libc::c_int| if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) };
    // SAFETY: the pointers lead to live arrays of the stated length.
    unsafe {
        check(libc::setgroups(groups.len(), groups.as_ptr()))?;
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::setresuid(uid, uid, uid))?;
        let (mut users, mut owned_groups) = ([0; 3], [0; 3]);
        let [real, effective, saved] = &mut users;
        check(libc::getresuid(real, effective, saved))?;
        let [real, effective, saved] = &mut owned_groups;
        check(libc::getresgid(real, effective, saved))?;
        let count = libc::getgroups(0, std::ptr::null_mut());
        check(count)?;
        let mut found = vec![0; usize::try_from(count).unwrap_or(0)];
        check(libc::getgroups(count, found.as_mut_ptr()))?;
        let mut wanted = groups.to_vec();
        wanted.sort_unstable();
        found.sort_unstable();
        if users != [uid; 3] || owned_groups != [gid; 3] || found != wanted {
            return Err(io::Error::other("the kernel did not take on the credentials that were set"));
        }
    }
    Ok(())
}

// ---- containment ----

/// Which version of Landlock the kernel has; an error where it has none.
pub(crate) fn landlock_version() -> io::Result<u32> {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_uint = 1;
    // SAFETY: with this flag the kernel wants no structure and reads none.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(version).map_err(|_| io::Error::last_os_error())
}

/// An empty set of rules, which forbids these accesses to files everywhere, and reaching out of itself in these ways
/// (`landlock_ruleset_attr` of `linux/landlock.h`, as from version 6 on).
pub(crate) fn landlock_rules(accesses: u64, scoped: u64) -> io::Result<OwnedFd> {
    // Accesses to files, accesses to the network, scopes.
    let attributes: [u64; 3] = [accesses, 0, scoped];
    // SAFETY: the kernel reads the stated length of a live array.
    let fd = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, attributes.as_ptr(), size_of_val(&attributes), 0)
    };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel made this descriptor for us just now.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Allows these accesses below a folder.
pub(crate) fn landlock_allow(rules: BorrowedFd<'_>, folder: BorrowedFd<'_>, accesses: u64) -> io::Result<()> {
    const LANDLOCK_RULE_PATH_BENEATH: libc::c_int = 1;
    #[repr(C, packed)]
    struct PathBeneath {
        accesses: u64,
        folder: i32,
    }
    let beneath = PathBeneath { accesses, folder: folder.as_raw_fd() };
    // SAFETY: the kernel reads one structure of this layout.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            rules.as_raw_fd(),
            LANDLOCK_RULE_PATH_BENEATH,
            &raw const beneath,
            0,
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts this process under the rules, for good.
pub(crate) fn landlock_restrict(rules: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Puts this process under a filter of system calls, for good. With `listener`, whoever holds the descriptor that comes out
/// answers for the calls that the filter does not decide.
pub(crate) fn filter_calls(program: &[libc::sock_filter], listener: bool) -> io::Result<Option<OwnedFd>> {
    let length = libc::c_ushort::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let flags = match listener {
        // Once the answer is being looked for only a signal that kills ends the waiting: no call is asked about twice.
        true => libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
        false => 0,
    };
    // SAFETY: the kernel reads as many instructions as the length says, of an array that outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    match RawFd::try_from(result) {
        // SAFETY: with the flag the kernel made this descriptor for us just now.
        Ok(fd) if listener && fd >= 0 => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Ok(0) if !listener => Ok(None),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A call that waits for an answer, by its identity. Waits for one.
pub(crate) fn call_asked_about(listener: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: the kernel wants the structure empty and fills it.
    let (result, notification) = unsafe {
        let mut notification: libc::seccomp_notif = std::mem::zeroed();
        let result = libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut notification);
        (result, notification)
    };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(notification.id)
}

/// Answers: the call goes on, or fails with EPERM.
pub(crate) fn answer_call(listener: BorrowedFd<'_>, id: u64, goes_on: bool) -> io::Result<()> {
    let (error, flags) = match goes_on {
        true => (0, u32::try_from(libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE).unwrap_or(1)),
        false => (-libc::EPERM, 0),
    };
    let mut answer = libc::seccomp_notif_resp { id, val: 0, error, flags };
    // SAFETY: the kernel reads one structure.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Adds attributes (`MOUNT_ATTR_…`) to a mount, and with `recursive` to all below it.
pub(crate) fn add_to_mount(mount: BorrowedFd<'_>, attributes: u64, recursive: bool) -> io::Result<()> {
    // `mount_attr` of `linux/mount.h`: to set, to clear, propagation, user namespace.
    let wanted: [u64; 4] = [attributes, 0, 0, 0];
    let below = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the kernel reads the stated length of a live array, and an empty string.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | below,
            wanted.as_ptr(),
            size_of_val(&wanted),
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

// ---- file-system credentials of this thread ----
// Raw calls, so that they change this thread only: a library's wrapper may carry a change to all threads.

/// Sets the user that this thread's file accesses count as, and returns the one before. The kernel reports no failure:
/// ask with `u32::MAX`, which is nobody and changes nothing.
pub(crate) fn set_file_system_user(uid: u32) -> u32 {
    // SAFETY: takes a number; touches no memory.
    let before = unsafe { libc::syscall(libc::SYS_setfsuid, libc::c_ulong::from(uid)) };
    before as u32
}

/// Sets the group that this thread's file accesses count as, and returns the one before; see [`set_file_system_user`].
pub(crate) fn set_file_system_group(gid: u32) -> u32 {
    // SAFETY: takes a number; touches no memory.
    let before = unsafe { libc::syscall(libc::SYS_setfsgid, libc::c_ulong::from(gid)) };
    before as u32
}

/// Whether this thread, with the file-system credentials it has now, may execute what the descriptor leads to. Not emulated
/// where the kernel, or a filter in front of it, lacks the call: an emulation would ask with the real user, who is root.
pub(crate) fn may_execute(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    // SAFETY: the kernel reads one empty string.
    let result = unsafe {
        libc::syscall(
            libc::SYS_faccessat2,
            file.as_raw_fd(),
            c"".as_ptr(),
            libc::X_OK,
            libc::AT_EACCESS | libc::AT_EMPTY_PATH,
        )
    };
    if result == 0 {
        return Ok(());
    }
    Err(rustix::io::Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(rustix::io::Errno::IO))
}

/// Has the disk begin with what was written to a file, and does not wait for it. Nothing is sure before the file is synced, but
/// an error here may be told here only.
pub(crate) fn begin_to_store(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes numbers; touches no memory. Zero and zero are the whole file.
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

// ---- sockets ----

/// A descriptor of the process that connected this socket, which stays its even when the number is used again. `None`
/// where the kernel does not have it (before 6.5).
pub(crate) fn peer_pidfd(socket: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut fd: libc::c_int = -1;
    let mut length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the kernel writes at most `length` bytes to `fd`, which is that long.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut fd).cast(),
            &raw mut length,
        )
    };
    if result == 0 {
        // SAFETY: the kernel made this descriptor for us just now.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        error => Err(error),
    }
}

/// The supplementary groups of the process that connected this socket, as they were then.
pub(crate) fn peer_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<libc::gid_t>> {
    const SO_PEERGROUPS: libc::c_int = 59;
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let room = groups.len() * size_of::<libc::gid_t>();
        let mut length = libc::socklen_t::try_from(room).map_err(|_| io::ErrorKind::InvalidData)?;
        // SAFETY: the kernel writes at most `length` bytes to `groups`, which has as many.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let found = usize::try_from(length).unwrap_or(0) / size_of::<libc::gid_t>();
        match (result, io::Error::last_os_error()) {
            (0, _) => {
                groups.truncate(found);
                return Ok(groups);
            }
            // It says how much room it needs.
            (_, error) if error.raw_os_error() == Some(libc::ERANGE) && found > groups.len() => {
                groups.resize(found, 0);
            }
            (_, error) => return Err(error),
        }
    }
}

/// Gives memory that was freed back to the system; the allocator keeps it for each of the threads that there were.
pub(crate) fn give_memory_back() {
    // SAFETY: it takes no pointers, and locks what it works on.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Has all threads take their memory from two arenas. The allocator would make one for each thread up to eight a processor,
/// and keep what a crowd of clients left behind in each of them.
pub(crate) fn share_arenas() {
    // SAFETY: it takes no pointers; there is one thread yet.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2)
    };
}

/// Names this process, for `ps`.
pub(crate) fn name_process(name: &CStr) {
    // SAFETY: the kernel reads at most 16 bytes of a string that ends with NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}
