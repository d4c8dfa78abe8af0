"""What of the file system a process may touch: Landlock rules that it lays on itself, and cannot take off again.

The kernel's own interface, by ctypes: three system calls, and what their bits mean in each version ("ABI") of it
(Linux, Documentation/userspace-api/landlock.rst).
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from enum import IntFlag
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38


class Access(IntFlag):
    """Rights on files and what lies beneath a folder."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    READ_FILE = 1 << 2
    READ_DIR = 1 << 3
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14
    IOCTL_DEV = 1 << 15


READ: Final = Access.EXECUTE | Access.READ_FILE | Access.READ_DIR
LIST: Final = Access.READ_DIR
DEVICE: Final = Access.READ_FILE | Access.WRITE_FILE | Access.IOCTL_DEV
WRITE: Final = ~Access.IOCTL_DEV & ~Access.MAKE_CHAR & ~Access.MAKE_BLOCK
FILES: Final = Access.READ_FILE | Access.WRITE_FILE | Access.MAKE_REG | Access.REMOVE_FILE | Access.TRUNCATE
_OF_A_FILE: Final = Access.EXECUTE | Access.WRITE_FILE | Access.READ_FILE | Access.TRUNCATE | Access.IOCTL_DEV

_SINCE: Final = {2: Access.REFER, 3: Access.TRUNCATE, 5: Access.IOCTL_DEV}
"""Rights that came with a later version."""
NETWORK_SINCE: Final = 4
SCOPES_SINCE: Final = 6
"""From here on a process can be kept from signalling others, and from their abstract sockets."""


def version() -> int:
    """The kernel's version of the interface; 0 where it has none, or it is switched off."""
    try:
        return _call(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_ASK_VERSION))
    except OSError:
        return 0


def handled(abi: int) -> Access:
    """Every right that this version can withhold."""
    later = Access(0)
    for since, access in _SINCE.items():
        if since > abi:
            later |= access
    return ~Access(0) & ~later


def restrict(rules: Iterable[tuple[str, Access]]) -> None:
    """Allow these rights on these paths and beneath them, and nothing else on any file, port or signal, for good.

    Paths that do not exist are left out. OSError where the kernel refuses.
    """
    abi = version()
    rights = handled(abi)
    attributes = struct.pack("=QQQ", rights, 3, 3)  # bind and connect; abstract sockets and signals
    known = 24 if abi >= SCOPES_SINCE else 16 if abi >= NETWORK_SINCE else 8
    ruleset = _call(_CREATE_RULESET, attributes[:known], ctypes.c_size_t(known), ctypes.c_uint32(0))
    try:
        for path, access in rules:
            _allow(ruleset, path, access & rights)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "the kernel refused no_new_privs")
        _call(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, access: Access) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            access &= _OF_A_FILE
        rule = struct.pack("=Qi", access, descriptor)
        _call(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH_BENEATH), rule, ctypes.c_uint32(0))
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return int(result)
