"""Waiting until a machine's workload serves."""

from __future__ import annotations

import time

from dumont.cli.client import Client
from dumont.cli.errors import FAILED, CliError, Json
from dumont.cli.output import Cli, duration

POLL_SECONDS = 0.5
ENDS_MOST = 5
"""A command that has ended so often will not serve by being started again."""


def until_serving(cli: Cli, client: Client, name: str, wait_seconds: float, *, gated: bool = False) -> Json:
    """The machine's view once its workload is healthy, its states told on the way.

    Raises `CliError` if it keeps ending, or does not serve in time; the machine runs on, and bills.
    """
    began = time.monotonic()
    told = ""
    token = (
        "its files are given only to those who accepted its terms: with your Hugging Face token in "
        f"workspace/.cache/huggingface/token on the machine (`dumont ssh {name}`) it goes on by itself"
    )
    look = f"see `dumont run {name} -- tail .dumont/workload.log`"
    while True:
        machine = _look(client, name)
        workload: Json = (machine.get("heartbeat") or {}).get("workload") or {}
        state, restarts = str(workload.get("state") or "unheard"), int(workload.get("restarts") or 0)
        if state == "healthy" or (state == "running" and not (machine.get("spec") or {}).get("health")):
            return machine
        told = _tell(cli, told, name, state, restarts, time.monotonic() - began)
        if machine and machine.get("state") in ("failed", "destroyed", "destroying"):
            raise CliError(f"{name} is {machine.get('state')}", exit_code=FAILED, code="failed")
        if restarts >= ENDS_MOST and state != "running":
            raise CliError(
                f"what serves on {name} ended {restarts + 1} times: {workload.get('detail') or 'it says no reason'}",
                code="workload_ends",
                safe=f"{name} runs, and bills; its command is started again and again.",
                hint=f"{token}; else {look}" if gated else look,
            )
        if time.monotonic() - began >= wait_seconds:
            raise CliError(
                f"{name} does not serve after {duration(wait_seconds)}: it is {state}",
                code="not_serving_yet",
                safe=f"{name} runs, and bills; it may serve later.",
                hint=f"{look}, or wait on with `dumont ls`",
            )
        time.sleep(POLL_SECONDS)


def _look(client: Client, name: str) -> Json:
    try:
        return client.machine(name)
    except CliError as error:
        if not error.may_pass:
            raise
        return {}  # the API restarts: the machine does not


def _tell(cli: Cli, told: str, name: str, state: str, restarts: int, seconds: float) -> str:
    words = {
        "unheard": "nothing was heard of it yet",
        "none": "its command is not started yet",
        "starting": "its command runs and does not serve yet: it fetches and loads the model",
        "unhealthy": "its command runs and does not serve yet: it fetches and loads the model",
        "exited": f"its command ended ({restarts + 1} times), and is started again",
    }
    text = words.get(state, state)
    if text != told:
        cli.note(f"{seconds:7.2f} s  {name}: {text}")
    return text
