"""A process that handles hostile files gives up what it does not need, before it opens one.

Linux lets a normal user do this without help: Landlock (no file is made, changed or run; no
connection), seccomp (only the system calls that decoding needs), and limits. A kernel or a
container may refuse the first two; ``c4c doctor`` says what is in force.

What was open before stays open, so results leave through shared memory or a file that the
parent made::

    confine(memory=2 << 30, seconds=60, output=100 << 20)  # the first thing that a new process does
    import av  # only now: libraries start threads, which would keep what this one gives up

Reading stays possible everywhere: videos may lie anywhere.
"""

from __future__ import annotations

import ctypes
import os
import resource
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

_FILES = 256  # that may be open at once
_SECONDS = 20  # that a process may take to say what is in force


@dataclass(frozen=True, slots=True)
class Confined:
    """What is in force in a process, beside limits.

    Attributes:
        landlock: the version of Landlock's interface; 0 where the kernel refuses it.
        seccomp: whether system calls are filtered.
    """

    landlock: int
    seccomp: bool

    def __str__(self) -> str:
        by = [f"Landlock {self.landlock}"] * bool(self.landlock) + ["seccomp"] * self.seccomp
        if self.seccomp:
            kept = "no network, no writing, no programs"
        elif self.landlock >= _NETWORK:
            kept = "no TCP, no writing, no programs"
        else:
            kept = "no writing, no programs" if self.landlock else "limits alone"
        return f"{kept} ({', '.join(by) or 'Landlock and seccomp are refused here'})"


def confine(memory: int, seconds: int, output: int = 0) -> Confined:
    """Give up, for good, all that handling a file does not need.

    Afterwards this process reads files, computes, starts threads and uses what is already open.
    It cannot make, change, rename or delete a file, run a program, start a process, reach the
    network or another process, or lift a limit; what it prints goes nowhere. Call it before
    anything starts a thread: of the others, Landlock knows nothing.

    Args:
        memory: bytes of address space.
        seconds: of computing, in all its threads together.
        output: bytes that a file already open may grow to.

    Returns:
        What the kernel granted; limits always hold.
    """
    _silence()
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, output),
        (resource.RLIMIT_NOFILE, _FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        now, _ = resource.getrlimit(what)
        most = most if now == resource.RLIM_INFINITY else min(most, now)
        resource.setrlimit(what, (most, most))
    _prctl(_NO_NEW_PRIVILEGES, 1)
    return Confined(_landlock(), _seccomp())


def examine() -> Confined:
    """What the kernel would grant here; asked of a process of its own.

    Raises:
        OSError, subprocess.SubprocessError, ValueError: it cannot be asked.
    """
    import subprocess

    code = (
        "import os, c4c.extract.video.sandbox as s; out = os.dup(1); got = s.confine(1 << 33, 60)\n"
    )
    code += "os.write(out, b'%d %d' % (got.landlock, got.seccomp))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=_SECONDS,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    landlock, seccomp = map(int, done.stdout.split())
    return Confined(landlock, bool(seccomp))


def _silence() -> None:
    """Standard files lead nowhere: a terminal obeys what is written to it."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    if nowhere > 2:
        os.close(nowhere)


# The C library's own functions take care of differences between processors.
_C = ctypes.CDLL(None, use_errno=True)
_NO_NEW_PRIVILEGES = 38  # PR_SET_NO_NEW_PRIVS: without it only root may do what follows


def _prctl(what: int, value: int) -> None:
    _C.prctl(what, ctypes.c_ulong(value), 0, 0, 0)


# Landlock: linux/landlock.h. Its numbers are the same on all processors.
_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_NETWORK = 4  # the version that knows TCP
# Rights on files that exist since each version: all but reading (1 << 2) and listing (1 << 3).
_FILE_RIGHTS = {1: (1 << 13) - 1 - 0b1100, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
_TCP = 0b11  # bind, connect
_SCOPES = 0b11  # abstract sockets, signals: to processes outside; since version 6


def _landlock() -> int:
    """Forbid every right that Landlock knows, reading apart; its version, or 0."""
    call = _C.syscall
    version: int = call(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return 0
    rights = sum(bits for since, bits in _FILE_RIGHTS.items() if since <= version)
    ruleset = struct.pack("3Q", rights, _TCP * (version >= _NETWORK), _SCOPES * (version >= 6))
    # An older kernel takes what comes after its own fields only if it is zero.
    handle = call(_CREATE_RULESET, ruleset, ctypes.c_size_t(len(ruleset)), 0)
    if handle < 0:
        return 0
    granted = call(_RESTRICT_SELF, handle, 0) == 0
    os.close(handle)
    return version if granted else 0


# seccomp: system calls of x86-64 that Python, numpy and decoders make, or may make in another
# version. Any other is answered as a kernel answers that does not know it, so that libraries
# do without it.
_CALLS = {
    # files, none of them opened here: open and openat are looked at below
    "read": 0, "write": 1, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8,
    "pread64": 17, "pwrite64": 18, "readv": 19, "writev": 20, "access": 21, "pipe": 22,
    "select": 23, "dup": 32, "dup2": 33, "fcntl": 72, "fsync": 74, "fdatasync": 75,
    "ftruncate": 77, "getdents": 78, "getcwd": 79, "readlink": 89, "statfs": 137, "fstatfs": 138,
    "readahead": 187, "getdents64": 217, "fadvise64": 221, "epoll_wait": 232, "epoll_ctl": 233,
    "newfstatat": 262, "readlinkat": 267, "faccessat": 269, "pselect6": 270, "ppoll": 271,
    "epoll_pwait": 281, "fallocate": 285, "eventfd2": 290, "epoll_create1": 291, "dup3": 292,
    "pipe2": 293, "preadv": 295, "pwritev": 296, "preadv2": 327, "pwritev2": 328, "statx": 332,
    "close_range": 436, "faccessat2": 439,
    # memory
    "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "mremap": 25, "msync": 26, "mincore": 27,
    "madvise": 28,
    # threads; clone is looked at below
    "sched_yield": 24, "getpriority": 140, "setpriority": 141, "sched_setparam": 142,
    "sched_getparam": 143, "sched_setscheduler": 144, "sched_getscheduler": 145,
    "sched_get_priority_max": 146, "sched_get_priority_min": 147, "gettid": 186, "futex": 202,
    "sched_setaffinity": 203, "sched_getaffinity": 204, "set_tid_address": 218,
    "set_robust_list": 273, "get_robust_list": 274, "getcpu": 309, "membarrier": 324,
    "rseq": 334, "futex_waitv": 449,
    # signals and the end; tgkill is looked at below
    "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "pause": 34, "exit": 60,
    "wait4": 61, "rt_sigpending": 127, "rt_sigtimedwait": 128, "rt_sigsuspend": 130,
    "sigaltstack": 131, "restart_syscall": 219, "exit_group": 231,
    # time
    "nanosleep": 35, "gettimeofday": 96, "times": 100, "time": 201, "clock_gettime": 228,
    "clock_getres": 229, "clock_nanosleep": 230,
    # about itself; prlimit64 is looked at below
    "getpid": 39, "uname": 63, "umask": 95, "getrlimit": 97, "getrusage": 98, "sysinfo": 99,
    "getuid": 102, "getgid": 104, "geteuid": 107, "getegid": 108, "getppid": 110, "getpgrp": 111,
    "getgroups": 115, "getresuid": 118, "getresgid": 120, "getpgid": 121, "getsid": 124,
    "prctl": 157, "arch_prctl": 158, "getrandom": 318,
}  # fmt: skip
_PROCESSOR = 0xC000003E  # x86-64; a process may also call in the manner of 32 bits
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | 0o20000000  # the last: O_TMPFILE
_THREAD = 0x10000  # CLONE_THREAD
# linux/bpf_common.h: load a word, mask it, skip steps if equal (else others), return.
_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_UNKNOWN, _DENIED, _NO_TERMINAL = _REFUSE | 38, _REFUSE | 13, _REFUSE | 25
_ALL = 0xFFFFFFFF

_Step = tuple[int, int, int, int]  # an instruction: code, steps skipped (true, false), operand


def _seccomp() -> bool:
    """Filter the system calls of this process and its threads; whether that worked."""
    if os.uname().machine != "x86_64" or sys.maxsize < 1 << 32:
        return False
    program = b"".join(struct.pack("HBBI", *step) for step in _filter(os.getpid()))
    text = ctypes.create_string_buffer(program, len(program))
    about = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(text))
    # SECCOMP_SET_MODE_FILTER; all threads, and no slower memory, which older kernels add.
    return int(_C.syscall(317, 1, ctypes.c_ulong(1 | 4), about)) == 0


def _filter(pid: int) -> Iterator[_Step]:
    """The program that judges a call; it finds number, processor and arguments at 0, 4, 16, …."""
    yield from ((_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _PROCESSOR), (_RETURN, 0, 0, _UNKNOWN))
    yield (_LOAD, 0, 0, 0)
    for number in _CALLS.values():
        yield from ((_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW))
    yield from ((_EQUAL, 0, 1, 16), (_RETURN, 0, 0, _NO_TERMINAL))  # ioctl
    yield from _only_if(2, (1, _WRITING, 0))  # open
    yield from _only_if(257, (2, _WRITING, 0))  # openat
    yield from _only_if(56, (0, _THREAD, _THREAD))  # clone: no process
    yield from _only_if(234, (0, _ALL, pid))  # tgkill: as in abort()
    yield from _only_if(302, (2, _ALL, 0), (2.5, _ALL, 0))  # prlimit64: only asks
    yield (_RETURN, 0, 0, _UNKNOWN)


def _only_if(number: int, *conditions: tuple[float, int, int]) -> Iterator[_Step]:
    """Allow a call whose arguments (.5: their upper half) are, under a mask, what is given."""
    yield (_EQUAL, 0, 4 * len(conditions) + 1, number)
    for place, mask, value in conditions:
        yield from ((_LOAD, 0, 0, 16 + int(8 * place)), (_AND, 0, 0, mask))
        yield from ((_EQUAL, 1, 0, value), (_RETURN, 0, 0, _DENIED))
    yield (_RETURN, 0, 0, _ALLOW)
