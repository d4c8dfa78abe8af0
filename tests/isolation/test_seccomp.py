"""The filter of system calls: the right numbers, and each of them decided as it should be."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import struct
import subprocess
import sys
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_diffbench.isolation.seccomp import ARCHITECTURES, DENIED, METADATA, program

ALLOW: Final = 0x7FFF0000
KILL: Final = 0x80000000
FAIL: Final = 0x00050000
MACHINES: Final = sorted(ARCHITECTURES)
UNKNOWN: Final = -1
SPECIAL: Final = ("clone", "clone3", "socket", "ioctl", "prlimit64", "setpriority")


def _decides(
    machine: str, number: int, arguments: tuple[int, ...] = (), audit: int | None = None, *, owner: bool = False
) -> int:
    """What the kernel's virtual machine would return for a call: the instructions that are used, interpreted."""
    first, second = (*arguments, 0, 0)[:2]
    audit = audit if audit is not None else ARCHITECTURES[machine].audit
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, audit, 0, first, second, 0, 0, 0, 0)
    code = list(struct.iter_unpack("=HBBI", program(machine, owner=owner)))
    accumulator, position = 0, 0
    while True:
        operation, if_true, if_false, value = code[position]
        position += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x06:
            return int(value)
        else:
            taken = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[operation]
            position += if_true if taken else if_false


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_are_those_of_libseccomp(machine: str) -> None:
    """A wrong number denies nothing, or something harmless: libseccomp knows them all."""
    found = ctypes.util.find_library("seccomp") or "libseccomp.so.2"
    try:
        resolve = ctypes.CDLL(found).seccomp_syscall_resolve_name_arch
    except OSError:
        pytest.skip("libseccomp is not installed")
    arch = ARCHITECTURES[machine]
    resolve.argtypes = [ctypes.c_uint32, ctypes.c_char_p]
    known = {name: resolve(arch.audit, name.encode()) for name in (*DENIED, *METADATA, *SPECIAL)}

    ours = {name: numbers[arch.column] for name, numbers in {**DENIED, **METADATA}.items()}
    ours |= {name: getattr(arch, name) for name in SPECIAL}
    older = {name for name, number in known.items() if number == UNKNOWN}  # than the call
    wrong = {name: (number, known[name]) for name, number in ours.items() if number not in (None, known[name])}
    assert {name: found for name, found in wrong.items() if name not in older} == {}
    # None: the architecture has no such call, which libseccomp tells by a negative number
    assert all(known[name] < 0 for name, number in ours.items() if number is None)


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_denied_is_denied_and_nothing_else(machine: str) -> None:
    """Every number up to 600: those listed fail, clone3 is said not to exist, the rest goes through."""
    arch = ARCHITECTURES[machine]
    denied = {numbers[arch.column] for numbers in DENIED.values()}
    expected = dict.fromkeys(denied - {None}, FAIL | errno.EPERM)
    expected |= {arch.clone3: FAIL | errno.ENOSYS, arch.socket: FAIL | errno.EAFNOSUPPORT}

    for number in range(600):
        assert _decides(machine, number) == expected.get(number, ALLOW), number


@pytest.mark.parametrize("machine", MACHINES)
def test_limits_of_others_are_not_its_to_set(machine: str) -> None:
    """Its own are: libraries lower them."""
    prlimit64 = ARCHITECTURES[machine].prlimit64

    assert _decides(machine, prlimit64, (0,)) == ALLOW
    assert _decides(machine, prlimit64, (4711,)) == FAIL | errno.EPERM


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [((0, 0), True), ((0, 4711), False), ((1, 0), False), ((2, 0), False), ((2, 1000), False)],
    ids=["itself", "another process", "its group", "its user's processes", "a user's processes"],
)
def test_only_its_own_priority_is_its_to_set(machine: str, arguments: tuple[int, int], allowed: bool) -> None:  # noqa: FBT001 (a column)
    """`nice` works; who has the harness's user id would slow the harness by naming its user."""
    found = _decides(machine, ARCHITECTURES[machine].setpriority, arguments)

    assert found == (ALLOW if allowed else FAIL | errno.EPERM)


@pytest.mark.parametrize("machine", MACHINES)
def test_a_user_does_nothing_to_its_own_files_metadata(machine: str) -> None:
    """Where the solution has the harness's user id Landlock would let it change modes and times of all its files."""
    column = ARCHITECTURES[machine].column
    numbers = [found[column] for found in METADATA.values() if found[column] is not None]

    assert {_decides(machine, number, owner=True) for number in numbers if number} == {FAIL}
    assert {_decides(machine, number) for number in numbers if number} == {ALLOW}


@pytest.mark.parametrize("machine", MACHINES)
def test_no_new_namespace_by_clone(machine: str) -> None:
    """A thread or a fork is fine, each flag of a namespace alone is not; nor is a sibling, which no tree shows."""
    clone = ARCHITECTURES[machine].clone
    for flag in (0x8000, 0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert _decides(machine, clone, (flag | 17,)) == FAIL | errno.EPERM
    assert _decides(machine, clone, (17,)) == ALLOW
    assert _decides(machine, clone, (0x003D0F00,)) == ALLOW  # pthread_create's


@pytest.mark.parametrize("machine", MACHINES)
@given(request=st.integers(0, 2**32 - 1))
def test_only_typing_into_terminals_is_denied_of_ioctl(machine: str, request: int) -> None:
    """TIOCSTI and TIOCLINUX fail, whatever the descriptor; GPUs need the others."""
    ioctl = ARCHITECTURES[machine].ioctl

    assert _decides(machine, ioctl, (1, request)) == (FAIL | errno.EPERM if request in (0x5412, 0x541C) else ALLOW)


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_another_architecture_end_the_process(machine: str) -> None:
    """Numbers mean something else there: 32-bit calls are no way around, nor is x32."""
    assert _decides(machine, 1, audit=0x40000003) == KILL
    if ARCHITECTURES[machine].foreign_numbers_from is not None:
        assert _decides(machine, 0x40000000 | 101) == FAIL | errno.EPERM


def test_the_kernel_takes_it() -> None:
    """Loaded for real: what is denied fails as it should, what is not works, and children inherit it."""
    script = """
import os, socket, subprocess, sys
from pytest_diffbench.isolation import seccomp
seccomp.load()
def error(call, *arguments):
    try:
        call(*arguments)
    except OSError as found:
        return found.errno
    return 0
code = "import socket\\ntry: socket.socket()\\nexcept OSError as e: print(e.errno)"
inherited = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
print(error(socket.socket), error(os.setpgid, 0, 0), error(socket.socketpair), inherited)
"""
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert said.stdout.split() == [str(errno.EAFNOSUPPORT), str(errno.EPERM), "0", str(errno.EAFNOSUPPORT)]
