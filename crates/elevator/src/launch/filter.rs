//! Filters of system calls, written out as the kernel runs them (`linux/seccomp.h`, `linux/filter.h`). seccompiler, which
//! confines the elevator itself, neither asks a listener nor knows of x32, a second set of numbers for the same calls.

use std::io;

use libc::sock_filter;

/// How the kernel calls the machine this is built for; where there is none, nothing is contained.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_003e);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xc000_00b7);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
const ARCHITECTURE: Option<u32> = None;

/// On x86-64 calls from here on are those of x32.
const X32: u32 = 0x4000_0000;

/// Where `seccomp_data` has the number of the call, the architecture, and the lower half of each argument (both machines
/// are little-endian).
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// Set-user-ID and set-group-ID.
const SET_ID: u32 = 0o6000;
/// With one of these flags opening takes a mode: `O_CREAT`, `__O_TMPFILE`.
const MAKES: u32 = 0o100 | 0o20_000_000;

/// The bits of a socket's type that are no flags.
const SOCKET_TYPE: u32 = 0xf;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const ASK: u32 = libc::SECCOMP_RET_USER_NOTIF;

const fn fail(errno: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()
}

/// Whether filters can be made for this machine.
pub(crate) fn can_be_made() -> bool {
    ARCHITECTURE.is_some()
}

/// What a contained program may not ask for: calls of foreign architectures, ways around the other rules, and files that
/// give their owner's rights to whoever executes them.
pub(crate) fn contained() -> io::Result<Vec<sock_filter>> {
    let mut filter = Filter::new()?;
    // None but the first makes a ring; but one may be handed in.
    for call in [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register] {
        filter.answer(call, fail(libc::ENOSYS));
    }
    filter.answer(libc::SYS_openat2, fail(libc::ENOSYS));
    // What it opens is on the mount of what it is shown beside the handle, which may be one that can be written to.
    filter.answer(libc::SYS_open_by_handle_at, fail(libc::EPERM));
    // Keys are root's, in no namespace, and a key that is asked for has the kernel start a program outside.
    for call in [libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl] {
        filter.answer(call, fail(libc::EPERM));
    }
    // Through one, somebody outside could hand in a folder of theirs, and with it the whole tree outside. Pairs stay inside, but
    // for those of datagrams: each of them can part from the other, and take a name.
    filter.no_family(libc::SYS_socket, libc::AF_UNIX.unsigned_abs());
    filter.pairs_of_streams_only(libc::SYS_socketpair);
    filter.no_set_id(libc::SYS_fchmod, 1, None);
    filter.no_set_id(libc::SYS_fchmodat, 2, None);
    filter.no_set_id(libc::SYS_fchmodat2, 2, None);
    filter.no_set_id(libc::SYS_openat, 3, Some(2));
    filter.no_set_id(libc::SYS_mknodat, 2, None);
    #[cfg(target_arch = "x86_64")]
    {
        filter.no_set_id(libc::SYS_chmod, 1, None);
        filter.no_set_id(libc::SYS_open, 2, Some(1));
        filter.no_set_id(libc::SYS_creat, 1, None);
        filter.no_set_id(libc::SYS_mknod, 1, None);
    }
    Ok(filter.otherwise_allow())
}

/// For a program that starts no other: whoever listens is asked about each execution, threads may be made, processes not.
pub(crate) fn one_process() -> io::Result<Vec<sock_filter>> {
    let mut filter = Filter::new()?;
    filter.answer(libc::SYS_execve, ASK);
    filter.answer(libc::SYS_execveat, ASK);
    // Its flags lie in memory, where a filter cannot look. Told that there is no such call, libraries take the other.
    filter.answer(libc::SYS_clone3, fail(libc::ENOSYS));
    #[cfg(target_arch = "x86_64")]
    {
        filter.answer(libc::SYS_fork, fail(libc::EPERM));
        filter.answer(libc::SYS_vfork, fail(libc::EPERM));
    }
    filter.only_threads(libc::SYS_clone);
    Ok(filter.otherwise_allow())
}

struct Filter(Vec<sock_filter>);

impl Filter {
    fn new() -> io::Result<Self> {
        let machine = ARCHITECTURE.ok_or(io::ErrorKind::Unsupported)?;
        let mut filter = Self(Vec::new());
        filter.load(MACHINE);
        filter.unless(libc::BPF_JEQ, machine, KILL);
        filter.load(NUMBER);
        if cfg!(target_arch = "x86_64") {
            filter.when(libc::BPF_JGE, X32, &[answer(KILL)]);
        }
        Ok(filter)
    }

    /// One answer to a call, whatever its arguments.
    fn answer(&mut self, call: i64, with: u32) {
        self.when(libc::BPF_JEQ, number(call), &[answer(with)]);
    }

    /// EPERM where the argument that is the mode would set an ID; with `flags`, only where they say that a file is made.
    fn no_set_id(&mut self, call: i64, mode: u32, flags: Option<u32>) {
        let mut steps = Vec::new();
        if let Some(flags) = flags {
            steps.extend([load(argument(flags)), jump(libc::BPF_JSET, MAKES, 1, 0), answer(ALLOW)]);
        }
        steps.extend([
            load(argument(mode)),
            jump(libc::BPF_JSET, SET_ID, 0, 1),
            answer(fail(libc::EPERM)),
            answer(ALLOW),
        ]);
        self.when(libc::BPF_JEQ, number(call), &steps);
    }

    /// EACCES where the first argument is this family of addresses.
    fn no_family(&mut self, call: i64, family: u32) {
        let steps =
            [load(argument(0)), jump(libc::BPF_JEQ, family, 0, 1), answer(fail(libc::EACCES)), answer(ALLOW)];
        self.when(libc::BPF_JEQ, number(call), &steps);
    }

    /// EACCES where it is a pair of sockets of this computer without a connection between them.
    fn pairs_of_streams_only(&mut self, call: i64) {
        let [stream, packets] = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET].map(i32::unsigned_abs);
        let steps = [
            load(argument(0)),
            jump(libc::BPF_JEQ, libc::AF_UNIX.unsigned_abs(), 0, 4),
            load(argument(1)),
            step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, SOCKET_TYPE, 0, 0),
            jump(libc::BPF_JEQ, stream, 1, 0),
            jump(libc::BPF_JEQ, packets, 0, 1),
            answer(ALLOW),
            answer(fail(libc::EACCES)),
        ];
        self.when(libc::BPF_JEQ, number(call), &steps);
    }

    /// EPERM where what is made is no thread.
    fn only_threads(&mut self, call: i64) {
        let steps = [
            load(argument(0)),
            jump(libc::BPF_JSET, libc::CLONE_THREAD.unsigned_abs(), 1, 0),
            answer(fail(libc::EPERM)),
            answer(ALLOW),
        ];
        self.when(libc::BPF_JEQ, number(call), &steps);
    }

    fn otherwise_allow(mut self) -> Vec<sock_filter> {
        self.0.push(answer(ALLOW));
        self.0
    }

    fn load(&mut self, at: u32) {
        self.0.push(load(at));
    }

    /// These steps, each way through which ends with an answer, where the comparison holds.
    fn when(&mut self, comparison: u32, with: u32, steps: &[sock_filter]) {
        let over = u8::try_from(steps.len()).unwrap_or(u8::MAX);
        self.0.push(jump(comparison, with, 0, over));
        self.0.extend_from_slice(steps);
    }

    fn unless(&mut self, comparison: u32, with: u32, told: u32) {
        self.0.push(jump(comparison, with, 1, 0));
        self.0.push(answer(told));
    }
}

fn number(call: i64) -> u32 {
    // No call has a number that is negative, or so large.
    u32::try_from(call).unwrap_or(u32::MAX)
}

fn argument(number: u32) -> u32 {
    ARGUMENTS + 8 * number
}

fn load(at: u32) -> sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0)
}

fn jump(comparison: u32, with: u32, holds: u8, not: u8) -> sock_filter {
    step(libc::BPF_JMP | comparison | libc::BPF_K, with, holds, not)
}

fn answer(with: u32) -> sock_filter {
    step(libc::BPF_RET | libc::BPF_K, with, 0, 0)
}

fn step(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: u16::try_from(code).unwrap_or(0), jt, jf, k }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, reason = "a test may stop at what it did not expect")]
mod tests {
    use super::*;

    /// What the kernel would answer: it runs the same few instructions.
    fn asked(filter: &[sock_filter], machine: u32, call: i64, arguments: [u64; 4]) -> u32 {
        let word = |at: u32| match at {
            NUMBER => number(call),
            MACHINE => machine,
            at => arguments[usize::try_from((at - ARGUMENTS) / 8).unwrap()] as u32,
        };
        let (mut at, mut held) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = filter[at];
            let holds = match u32::from(code) & 0xf0 {
                libc::BPF_JEQ => held == k,
                libc::BPF_JGE => held >= k,
                _ => held & k != 0,
            };
            at += 1;
            match u32::from(code) & 0x07 {
                libc::BPF_RET => return k,
                libc::BPF_LD => held = word(k),
                libc::BPF_ALU => held &= k,
                _ => at += usize::from(if holds { jt } else { jf }),
            }
        }
    }

    const REFUSED: u32 = fail(libc::EPERM);
    const NO_CALL: u32 = fail(libc::ENOSYS);

    #[test]
    fn foreign_architectures_are_killed() {
        let here = ARCHITECTURE.unwrap();
        for filter in [contained().unwrap(), one_process().unwrap()] {
            assert_eq!(asked(&filter, here, libc::SYS_getpid, [0; 4]), ALLOW);
            assert_eq!(asked(&filter, 0x4000_0003, libc::SYS_getpid, [0; 4]), KILL, "i386");
            if cfg!(target_arch = "x86_64") {
                let x32 = i64::from(X32) + libc::SYS_getpid;
                assert_eq!(asked(&filter, here, x32, [0; 4]), KILL, "x32");
            }
        }
    }

    #[test]
    fn nothing_gives_its_owners_rights_away() {
        let (filter, here) = (contained().unwrap(), ARCHITECTURE.unwrap());
        let open = u64::from(MAKES);
        let mut calls = vec![
            (libc::SYS_fchmod, 1, [3, 0, 0, 0]),
            (libc::SYS_fchmodat, 2, [3, 0, 0, 0]),
            (libc::SYS_fchmodat2, 2, [3, 0, 0, 0]),
            (libc::SYS_openat, 3, [3, 0, open, 0]),
            (libc::SYS_openat, 3, [3, 0, 0o100, 0]),
            (libc::SYS_mknodat, 2, [3, 0, 0, 0]),
        ];
        #[cfg(target_arch = "x86_64")]
        calls.extend([
            (libc::SYS_chmod, 1, [0, 0, 0, 0]),
            (libc::SYS_open, 2, [0, 0o101, 0, 0]),
            (libc::SYS_creat, 1, [0, 0, 0, 0]),
            (libc::SYS_mknod, 1, [0, 0, 0, 0]),
        ]);
        for (call, place, arguments) in calls {
            for mode in [0o4755, 0o2755, 0o6000, 0o104_755, 0xffff_0000_0000_0800] {
                let mut with = arguments;
                with[place] = mode;
                assert_eq!(asked(&filter, here, call, with), REFUSED, "{call} {mode:o}");
            }
            let mut with = arguments;
            with[place] = 0o1755;
            assert_eq!(asked(&filter, here, call, with), ALLOW, "{call}");
        }
        assert_eq!(asked(&filter, here, libc::SYS_openat, [3, 0, 0, 0o4755]), ALLOW, "nothing is made");
        let socket =
            |family: i32| asked(&filter, here, libc::SYS_socket, [u64::from(family.unsigned_abs()), 1, 0, 0]);
        assert_eq!(socket(libc::AF_UNIX), fail(libc::EACCES));
        assert_eq!((socket(libc::AF_INET), socket(libc::AF_NETLINK)), (ALLOW, ALLOW));
        for call in [
            libc::SYS_openat2,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
        ] {
            assert_eq!(asked(&filter, here, call, [0; 4]), NO_CALL, "{call}");
        }
        for call in [libc::SYS_open_by_handle_at, libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl]
        {
            assert_eq!(asked(&filter, here, call, [0; 4]), REFUSED, "{call}");
        }
    }

    /// A raw socket of this computer is one of datagrams, too.
    #[test]
    fn pairs_that_can_part_are_not_made() {
        let (filter, here) = (contained().unwrap(), ARCHITECTURE.unwrap());
        let pair = |family: i32, kind: i32| {
            let [family, kind] = [family, kind].map(|argument| u64::from(argument.unsigned_abs()));
            asked(&filter, here, libc::SYS_socketpair, [family, kind, 0, 0])
        };
        for flags in [0, libc::SOCK_CLOEXEC, libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC] {
            for kind in [libc::SOCK_STREAM, libc::SOCK_SEQPACKET] {
                assert_eq!(pair(libc::AF_UNIX, kind | flags), ALLOW, "{kind}");
            }
            for kind in [libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_RDM, 0, 15] {
                assert_eq!(pair(libc::AF_UNIX, kind | flags), fail(libc::EACCES), "{kind}");
            }
        }
        assert_eq!(pair(libc::AF_INET, libc::SOCK_DGRAM), ALLOW, "the kernel makes none");
    }

    #[test]
    fn one_process_has_threads_and_no_children() {
        let (filter, here) = (one_process().unwrap(), ARCHITECTURE.unwrap());
        let clone =
            |flags: i32| asked(&filter, here, libc::SYS_clone, [u64::from(flags.unsigned_abs()), 0, 0, 0]);
        assert_eq!(clone(libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD), ALLOW);
        assert_eq!(clone(libc::SIGCHLD), REFUSED);
        assert_eq!(clone(libc::CLONE_VM | libc::CLONE_VFORK), REFUSED);
        assert_eq!(asked(&filter, here, libc::SYS_clone3, [0; 4]), NO_CALL);
        for call in [libc::SYS_execve, libc::SYS_execveat] {
            assert_eq!(asked(&filter, here, call, [0; 4]), ASK);
        }
        #[cfg(target_arch = "x86_64")]
        for call in [libc::SYS_fork, libc::SYS_vfork] {
            assert_eq!(asked(&filter, here, call, [0; 4]), REFUSED);
        }
    }
}
