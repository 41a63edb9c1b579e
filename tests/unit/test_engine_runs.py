"""What a step says of a copy."""

from __future__ import annotations

import pytest

from dumont.operations.engine_runs import extent


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"files": 1, "bytes_total": 4}, "1 file, 4 B in all"),
        ({"files": 3, "bytes_total": 2_500}, "3 files, 2.5 kB in all"),
        ({"files": 202, "bytes_total": 24_003_800}, "202 files, 24.0 MB in all"),
        ({"files": 0, "bytes_total": 0}, "0 files, 0 B in all"),
        ({}, "0 files, ? MB in all"),
    ],
)
def test_a_little_is_not_nothing_and_much_is_readable(result: dict[str, int], told: str) -> None:
    assert extent(result) == told
