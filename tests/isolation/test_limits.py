"""Amounts as people write them: read exactly, or refused with what would be right."""

from __future__ import annotations

import os
import string
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_diffbench.isolation.limits import MEMORY_SHARE, Limits, parse, size


def test_nothing_said_is_the_default() -> None:
    """An empty text changes nothing; memory is a share of this machine's."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    assert parse("") == Limits()
    assert Limits().memory_bytes == int(MEMORY_SHARE * machine)


def test_each_limit_is_read_in_its_own_unit() -> None:
    """Bytes with binary or decimal units, seconds with or without theirs, plain numbers of things."""
    found = parse("memory=1.5GiB, disk=20MB,output=512KiB,load=90s,call=0.5,processes=64,files=10,open_files=32")

    assert found == Limits(90, 0.5, 3 * 2**29, 64, 20_000_000, 10, 512 * 1024, 32)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "ram=1GiB",
            "no limit is called 'ram'; they are load, call, memory, processes, disk, files, output, open_files",
        ),
        ("memory", "limit memory=: expected an amount such as memory=8GiB"),
        ("memory=8G", "such as memory=8GiB"),
        ("memory=8s", "such as memory=8GiB"),
        ("memory=-1GiB", "such as memory=8GiB"),
        ("load=1GiB", "such as load=60s"),
        ("processes=8GiB", "such as processes=512"),
        ("processes=0", "nothing could run"),
        ("memory=0.1", "nothing could run"),
        ("load=0", "nothing could run"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(text: str, said: str) -> None:
    """The message names the limit, what was found, and an example."""
    with pytest.raises(ValueError, match="limit") as caught:
        parse(text)

    assert said in str(caught.value)


@given(st.text(alphabet=string.ascii_letters + string.digits + "=,.- ", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text crashes it, and every limit that it gives lets something run."""
    try:
        found = parse(text)
    except ValueError:
        return
    assert all(getattr(found, entry.name) > 0 for entry in fields(Limits))


@given(st.integers(1, 2**50))
def test_a_size_is_shown_to_three_digits(count: int) -> None:
    """What is shown is within half a per cent of what is meant."""
    number, unit = size(count).split()
    factor = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}[unit]

    assert abs(float(number) * factor / count - 1) < 0.006
