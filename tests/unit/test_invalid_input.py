"""What is wrong with an input is said in words, with the field that it is about."""

from __future__ import annotations

import msgspec
import pytest

from dumont.domain.errors import InvalidInput
from dumont.domain.records import MachineSpec
from dumont.edge.http import decode


@pytest.mark.parametrize(
    ("body", "field", "told"),
    [
        ({"max_price_usd_per_hour": -1}, "max_price_usd_per_hour", "must be > 0.0"),
        ({"race_width": 9}, "race_width", "must be <= 5"),
        ({"sleep_tier": 3}, "sleep_tier", "expected `str`, got `int`"),
        ({"race_width": "many"}, "race_width", "expected `int`, got `str`"),
    ],
)
def test_a_bound_is_told_as_a_person_says_it(body: dict[str, object], field: str, told: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        decode(msgspec.json.encode(body), MachineSpec)
    assert refused.value.field == field
    assert str(refused.value) == told
