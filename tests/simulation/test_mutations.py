"""The simulation finds deliberate defects: the short form of `make mutation-check`.

For some of the defects, drawn by the code, so that each change of it meets others: as many as a minute has room for.
Each is looked for in the seed that has shown it at the least cost, and, since a change of the code may have shifted
what that seed shows, in fresh ones.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator

import pytest

from tests.simulation.defects import DEFECTS
from tests.simulation.fresh import first_seed
from tests.simulation.mutation import is_expected, one_life
from tests.simulation.mutations import LIST, as_markdown, kept

FIRST_SEED = first_seed()
SEEDS_IN_ALL = 80
"""To be expected, if no recorded seed shows its defect any more."""
OFTEN = [name for name, record in kept().items() if record.often]


def _drawn() -> Iterator[str]:
    begin, room = FIRST_SEED % max(1, len(OFTEN)), float(SEEDS_IN_ALL)
    for name in OFTEN[begin:] + OFTEN[:begin]:
        room -= kept()[name].runs_a_catch
        if room < 0:
            return
        yield name


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Defective code logs what it should not: nothing that anybody is to read."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(level)


@pytest.mark.parametrize("name", list(_drawn()))
def test_a_deliberate_defect_is_caught_by_an_invariant_that_it_names(name: str) -> None:
    defect, record = DEFECTS[name], kept()[name]
    said: dict[int, str | None] = {}
    for seed in itertools.chain([record.seed], range(FIRST_SEED, FIRST_SEED + record.tries)):
        with defect.applied():
            said[seed], _ = one_life(seed)
        if is_expected(said[seed] or "", defect.invariants):
            break
    else:
        pytest.fail(f"{name} ({defect.says}) breaks none of {defect.invariants} in {len(said)} seeds, but: {said}")
    without, _ = one_life(seed)
    assert without is None, f"seed {seed} breaks an invariant without any defect"


def test_each_defect_has_been_caught_and_the_list_says_so() -> None:
    assert list(kept()) == list(DEFECTS), "make mutation-check ARGS='--new --write' looks for what is new"
    assert LIST.read_text() == as_markdown(kept()), "make mutation-check ARGS='--new --write' writes it"
