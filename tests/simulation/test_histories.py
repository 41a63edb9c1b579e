"""Hundreds of short lives with faults: the invariants hold after each event, and in the end all is accounted for."""

from __future__ import annotations

import os
import random

import pytest

from tests.simulation.history import run

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "500"))
FIRST_SEED = int(os.environ.get("SIMULATION_FIRST_SEED") or random.SystemRandom().randrange(10**9))
BATCH = 20


@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + SEEDS, BATCH))
def test_no_seed_breaks_an_invariant(first: int) -> None:
    for seed in range(first, min(first + BATCH, FIRST_SEED + SEEDS)):
        try:
            run(seed)
        except BaseException as error:
            error.add_note(f"replay it: SIMULATION_FIRST_SEED={seed} SIMULATION_SEEDS=1 make simulate")
            raise
