"""`dumont gateway token` and `dumont url`."""

from __future__ import annotations

import json

import pytest

from tests.unit.cli_world import World

TOKEN = "dgw_abc_0123"


@pytest.fixture
def gated(api: World) -> World:
    api.says("POST /gateway/trainer/token", {"machine": "trainer", "token": TOKEN, "generation": 0})
    return api


def test_the_token_alone_is_on_stdout(gated: World) -> None:
    done = gated.run("gateway", "token", "trainer")
    assert (done.exit_code, done.stdout) == (0, f"{TOKEN}\n")
    assert json.loads(gated.asked[-1].body) == {}


def test_rotation_and_a_short_life_are_asked_for(gated: World) -> None:
    done = gated.run("gateway", "token", "trainer", "--rotate", "--valid-hours", "2", "--json")
    assert done.exit_code == 0
    assert json.loads(gated.asked[-1].body) == {"rotate": True, "valid_seconds": 7200.0}
    assert json.loads(done.stdout)["token"] == TOKEN


def test_the_url_needs_no_call(api: World) -> None:
    done = api.run("url", "trainer", "8000", DUMONT_URL="https://gpu.example/")
    assert (done.exit_code, done.stdout) == (0, "https://gpu.example/gateway/trainer/8000/\n")
    assert api.asked == []
    assert api.run("url", "trainer", "70000").exit_code == 2
