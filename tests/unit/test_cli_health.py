"""How a machine's agent and workload are shown: in a word in `ls`, in full in `show`, and nothing made up."""

from __future__ import annotations

from typing import Any

import pytest

from dumont.cli.health import gpu_use_text, health_text, workload_text
from tests.unit.cli_world import World, machine

GPU = {"utilization_percent": 97.0, "memory_used_mib": 20480.0, "memory_total_mib": 24564.0, "temperature_c": 71.0}


def heartbeat(age_seconds: float = 2.0, state: str = "healthy", **fields: Any) -> dict[str, Any]:
    view: dict[str, Any] = {"received_at": 0.0, "age_seconds": age_seconds, "sequence": 41}
    view |= {"workload": {"state": state, "restarts": 2, "exit_status": 137}, "readings": {"gpus": [GPU]}}
    return {**view, "agent": {"sha256": "ab" * 32, "python": "3.11.2"}, **fields}


@pytest.mark.parametrize(
    ("view", "text"),
    [
        (machine(heartbeat=heartbeat()), "healthy"),
        (machine(heartbeat=heartbeat(state="none")), "alive"),
        (machine(heartbeat=heartbeat(7.4)), "healthy"),
        (machine(heartbeat=heartbeat(12.2)), "silent 12 s"),
        (machine(heartbeat=heartbeat(500)), "silent 8 min"),
        (machine(heartbeat=heartbeat(12.2), spec={"heartbeat_seconds": 30.0}), "healthy"),
        (machine(), "no agent"),
        (machine(state="failing_over", heartbeat=heartbeat(60)), "–"),
        ({}, "–"),
    ],
)
def test_health_in_a_word(view: dict[str, Any], text: str) -> None:
    assert health_text(view) == text


def test_ls_has_a_column_for_it(api: World) -> None:
    api.says("GET /machines", {"machines": [machine(heartbeat=heartbeat(13))]})
    head, row = api.run("ls").stdout.splitlines()
    assert "HEALTH" in head
    assert "silent 13 s" in row


def test_show_tells_what_the_agent_last_said(api: World) -> None:
    seen = machine(heartbeat=heartbeat(), spec={"run": "python serve.py", "failover": "off"})
    api.says("GET /machines/trainer", {"machine": seen, "instances": []})
    text = api.run("show", "trainer").stdout
    for shown in (
        "healthy, started again 2 times, last ended with status 137",
        "97 %, 20.0 of 24.0 GiB, 71 °C",
        "2.00 s ago (number 41)",
        "abababababab on Python 3.11.2",
        "python serve.py",
        "off: it is not moved by itself",
    ):
        assert shown in text
    assert "network" not in text, "what the agent does not know is left out"


def test_what_is_unknown_is_no_zero() -> None:
    assert gpu_use_text({}) == "–"
    assert gpu_use_text({"utilization_percent": 0.0}) == "0 %"
    assert workload_text({}).startswith("none")
