"""The system calls that a candidate may not make: a seccomp filter, assembled here, loaded by the process itself.

A list of what is denied, not of what is allowed: torch, CUDA drivers and compilers use hundreds of calls, and what they
will use next year is unknown. What is denied reaches outside the sandbox, or has no business in a diffusion pipeline
and a history of kernel holes. bubblewrap and Landlock decide on files; this decides on the rest.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DENIED: Final[Mapping[str, tuple[int | None, int | None]]] = {
    # other processes: their memory, descriptors, scheduling
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "process_mrelease": (448, 448),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "perf_event_open": (298, 241),
    "sched_setaffinity": (203, 122),  # the core it is timed on is not its choice
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
    "ioprio_set": (251, 30),
    "migrate_pages": (256, 238),
    "move_pages": (279, 239),
    # a group of its own would escape being stopped and killed as one
    "setsid": (112, 157),
    "setpgid": (109, 154),
    # what outlives the process, or is shared beside the file system
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    # namespaces and mounts
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "open_by_handle_at": (304, 265),  # opens files that no path of the sandbox leads to
    "name_to_handle_at": (303, 264),
    "fanotify_init": (300, 262),
    # the machine
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "iopl": (172, None),
    "ioperm": (173, None),
    # rarely used, often broken
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "lookup_dcookie": (212, 18),
    "nfsservctl": (180, 42),
    "uselib": (134, None),
    "ustat": (136, None),
    "sysfs": (139, None),
}
"""Names to numbers on x86-64 and aarch64; None where that architecture has no such call."""

METADATA: Final[Mapping[str, tuple[int | None, int | None]]] = {
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchown": (93, 55),
    "fchownat": (260, 54),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "utimensat": (280, 88),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "setxattrat": (463, 463),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "removexattrat": (466, 466),
}
"""What Landlock does not look at: modes, owners, times and attributes of all files that the user owns."""


@dataclass(frozen=True)
class Architecture:
    """What differs between processors: the column in `DENIED`, and the calls whose arguments are looked at."""

    column: int
    audit: int
    clone: int
    clone3: int
    socket: int
    ioctl: int
    prlimit64: int
    setpriority: int
    foreign_numbers_from: int | None = None
    """The first number of another table in the same architecture (x86-64's x32)."""


ARCHITECTURES: Final[Mapping[str, Architecture]] = {
    "x86_64": Architecture(0, 0xC000003E, 56, 435, 41, 16, 302, 141, 0x40000000),
    "aarch64": Architecture(1, 0xC00000B7, 220, 435, 198, 29, 261, 140),
}
"""By `os.uname().machine`."""

_NEW_NAMESPACES: Final = 0x7E020000
_SIBLING: Final = 0x8000
"""CLONE_PARENT: such a process has another parent than what started it, and nobody who counts descendants sees it."""
_TERMINAL_INPUT: Final = (0x5412, 0x541C)
"""TIOCSTI and TIOCLINUX type into the terminal that the harness was started from."""

_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _JUMP_IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2


def program(machine: str, *, owner: bool = False) -> bytes:
    """The filter for one architecture, as the kernel takes it; KeyError for one that is not known.

    `owner`: of a process that has its user's own id. What it would do to the `METADATA` of its user's files is not
    done, and said to have been, for compilers and copies do it to their own files in passing.
    """
    arch = ARCHITECTURES[machine]
    code = [_op(_LOAD, _ARCHITECTURE), _op(_JUMP_IF_EQUAL, arch.audit, 1, 0), _op(_RETURN, _KILL)]
    code.append(_op(_LOAD, _NUMBER))
    if arch.foreign_numbers_from is not None:
        code += _when(_JUMP_IF_AT_LEAST, arch.foreign_numbers_from, errno.EPERM)
    # its flags lie in memory, where no filter can look; glibc falls back to clone
    code += _when(_JUMP_IF_EQUAL, arch.clone3, errno.ENOSYS)
    code += _when(_JUMP_IF_EQUAL, arch.socket, errno.EAFNOSUPPORT)  # socketpair is another call
    for numbers in DENIED.values():
        if (number := numbers[arch.column]) is not None:
            code += _when(_JUMP_IF_EQUAL, number, errno.EPERM)
    for numbers in METADATA.values() if owner else ():
        if (number := numbers[arch.column]) is not None:
            code += _when(_JUMP_IF_EQUAL, number, 0)
    others = [_op(_JUMP_IF_EQUAL, 0, 1, 0), _op(_RETURN, _FAIL | errno.EPERM)]  # 0: the caller itself
    code += _looked_at(arch.prlimit64, _FIRST_ARGUMENT, others)
    code += _looked_at(arch.setpriority, _FIRST_ARGUMENT, others)  # a process (0), not all of a user's
    code += _looked_at(arch.setpriority, _SECOND_ARGUMENT, others)
    code += _looked_at(arch.clone, _FIRST_ARGUMENT, _when(_JUMP_IF_ANY_BIT, _NEW_NAMESPACES | _SIBLING, errno.EPERM))
    typed = (_when(_JUMP_IF_EQUAL, request, errno.EPERM) for request in _TERMINAL_INPUT)
    code += _looked_at(arch.ioctl, _SECOND_ARGUMENT, [op for ops in typed for op in ops])
    return b"".join([*code, _op(_RETURN, _ALLOW)])


def load(machine: str | None = None, *, owner: bool = False) -> None:
    """Confine this process, and whatever it starts, for good; OSError where the kernel refuses."""
    filter_ = program(machine or os.uname().machine, owner=owner)
    instructions = ctypes.create_string_buffer(filter_, len(filter_))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

    whole = Program(len(filter_) // 8, ctypes.addressof(instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(whole))):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "the kernel refused the seccomp filter")


def _op(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _when(jump: int, value: int, error: int) -> list[bytes]:
    return [_op(jump, value, 0, 1), _op(_RETURN, _FAIL | error)]


def _looked_at(number: int, argument: int, checks: Iterable[bytes]) -> list[bytes]:
    """Checks of one call's argument (its low half), skipped for every other call; the number is loaded again after."""
    inside = [_op(_LOAD, argument), *checks, _op(_LOAD, _NUMBER)]
    return [_op(_JUMP_IF_EQUAL, number, 0, len(inside)), *inside]
