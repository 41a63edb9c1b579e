"""Histories in which users run jobs: each ends once, its outputs verified before its host goes, and none is stuck."""

from __future__ import annotations

import os

import pytest

from tests.simulation.explain import explain
from tests.simulation.history import run

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "260")) // 4
FIRST_SEED = int(os.environ.get("SIMULATION_FIRST_SEED", "77100000"))
BATCH = 13
ONCE_BROKEN = (11, 24, 135, 291, 2254)
"""Seeds that found something (FOUND.md): they run for ever, in histories as they were then."""


@pytest.mark.parametrize("seed", ONCE_BROKEN)
def test_no_seed_with_jobs_that_once_broke_an_invariant_breaks_it_again(seed: int) -> None:
    run(seed, jobs=True, era=1)


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + max(SEEDS, 1), BATCH))
def test_no_seed_with_jobs_breaks_an_invariant(first: int) -> None:
    for seed in range(first, min(first + BATCH, FIRST_SEED + max(SEEDS, 1))):
        try:
            run(seed, jobs=True)
        except BaseException as error:
            error.add_note(explain(seed, jobs=True))
            raise
