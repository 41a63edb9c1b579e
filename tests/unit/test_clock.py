"""The clock and the ids of the operating system."""

from __future__ import annotations

import re
import time

from dumont.adapters.clock import SystemClock, SystemIds


def test_now_is_now_and_a_sleep_lasts() -> None:
    clock = SystemClock()
    before = time.time()
    assert before <= clock.now() <= time.time()
    began = time.monotonic()
    clock.sleep(0.01)
    assert time.monotonic() - began >= 0.01
    clock.sleep(-1.0)


def test_ids_are_short_plain_and_never_the_same() -> None:
    ids = SystemIds()
    made = {ids.new("op") for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"op-[a-z2-7]{20}", one) for one in made)
    assert len(ids.random_bytes(32)) == 32
    assert ids.random_bytes(32) != ids.random_bytes(32)
