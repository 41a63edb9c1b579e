"""`make simulate`: what breaks is told at once, and the rest is run all the same."""

from __future__ import annotations

import time

import pytest

from tests.simulation.defects import DEFECTS
from tests.simulation.many import Run, run_all, run_batch
from tests.simulation.mutations import kept

SURE = max(kept(), key=lambda name: kept()[name].catches / kept()[name].runs)
"""The defect that nearly every seed shows."""


def test_a_batch_says_which_seeds_break_something_and_runs_the_others_too() -> None:
    seed = kept()[SURE].seed
    with DEFECTS[SURE].applied():
        broken, _, _ = run_batch([seed, seed + 1], jobs=False)
    assert seed in broken
    broken, events, cpu_seconds = run_batch([seed], jobs=False)
    assert broken == {}
    assert events > 1000
    assert cpu_seconds > 0


def test_each_seed_is_run_once_in_processes_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    run = run_all(1, 3, count=2, jobs=False)
    assert (run.done, run.broken) == (3, {})
    assert "broken" not in capsys.readouterr().out


def test_whoever_waits_is_told_how_long_it_takes() -> None:
    run = Run(seeds=10_000, began=time.monotonic() - 100.0)
    assert run.told() == "0 of 10,000 seeds"
    run.done = 2_500
    assert run.told() == "2,500 of 10,000 seeds, 25.0 a second, 300 s left"
    run.broken[7] = "invariant 2: …"
    assert run.told().endswith(", 1 broken")
