"""schemathesis against the functions of a local cloud, by the document that `dumont openapi` prints.

`python -m tests.end_to_end.api_fuzz` (make schemathesis) asks for minutes, with other questions each time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from dumont.agent import tokens
from dumont.edge import wiring
from dumont.settings import read
from tests.end_to_end.cloud import Cloud, local_cloud

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "openapi.json"

# The gateway's and v1's answers are a machine's, or 503 while there is none. The sweep lasts as long as it is told to,
# and Slack's and the market's requests are none without their signatures: all have tests of their own.
OTHERS = "^/(gateway|v1|slack|provider-webhook|heartbeat-check)"
AGENTS = "/heartbeat"
LARGE = "^/(provision|jobs|search|advisor)$"
"""Whose bodies have so many fields that each boundary of each takes longer than all the others together."""


class Fuzzed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a run: how many requests, of how many operations, and each failure in words."""

    requests: int
    operations: int
    failures: list[str]
    said: str


@contextlib.contextmanager
def furnished_cloud(folder: Path) -> Iterator[Cloud]:
    """A cloud in which everything that can be asked for is there: a machine, a snapshot of it, its costs, a budget.

    Then the market takes no more money, so that of the machines that are asked for none is made.
    """
    without_limits = {"DUMONT_CHANGES_PER_MINUTE": "0", "DUMONT_WRONG_KEYS_PER_MINUTE": "0"}
    with local_cloud(folder, environment=without_limits) as cloud:
        assert cloud.ended(cloud.up("trainer"))["state"] == "succeeded"
        copied = cloud.http.post("/snapshot", json={"name": "trainer"})
        assert cloud.ended(copied.json()["operation"])["state"] == "succeeded"
        assert cloud.http.post("/budgets", json={"machine": "trainer", "usd_per_day": 5}).status_code == 200
        assert cloud.market.post("/credit", json={"credit_usd": 0.0}).status_code == 200
        yield cloud


def agent_token(cloud: Cloud) -> str:
    """The token of the agent of the machine that serves."""
    machine = cloud.machine("trainer")
    data = cloud.folder / "data"
    own = {
        "DUMONT_STORE": f"sqlite:{data / 'store.sqlite3'}",
        "DUMONT_TOKEN_KEY_FILE": str(data / "token-key"),
    }
    secret = wiring.build(read(own)).agent_secret()
    return tokens.make(secret, "trainer", machine["epoch"], machine["instance_id"])


def fuzz(cloud: Cloud, *options: str, key: str = "", document: Path = DOCUMENT) -> Fuzzed:
    """One run of schemathesis, which asks with the cloud's own key unless told otherwise."""
    folder = Path(tempfile.mkdtemp(dir=cloud.folder))
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "schemathesis.toml")]
    command += ["run", str(document), "--url", f"http://127.0.0.1:{cloud.port}", "--no-color"]
    command += ["-H", f"Authorization: Bearer {key or cloud.key}", "--generation-database", "none"]
    command += ["--report", "json", "--report-dir", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=3600)
    reports = list(folder.glob("*.json"))
    assert reports, done.stdout + done.stderr
    found = json.loads(reports[0].read_text())
    said = re.sub(r"dmt_\w+", "dmt_…", done.stdout + done.stderr)
    failures = [f"{failed['title']}: {', '.join(failed['operations'])}" for failed in found["failures"]]
    failures += [json.dumps(error)[:1000] for error in found["errors"]]
    return Fuzzed(
        requests=found["test_cases"]["generated"],
        operations=found["operations"]["tested"],
        failures=failures,
        said=said,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """A long run; the exit status says whether anything was found."""
    parser = argparse.ArgumentParser(prog="make schemathesis", description=main.__doc__)
    parser.add_argument("--examples", type=int, default=50, help="of each operation")
    parser.add_argument("--seed", type=int, help="what was asked once, again")
    chosen = parser.parse_args(arguments)
    options = ["--phases", "examples,coverage,fuzzing,stateful", "-n", str(chosen.examples), "--continue-on-failure"]
    if chosen.seed is not None:
        options += ["--seed", str(chosen.seed)]
    with tempfile.TemporaryDirectory() as folder, furnished_cloud(Path(folder)) as cloud:
        heard = fuzz(cloud, "--include-path", AGENTS, *options, key=agent_token(cloud))
        asked = fuzz(cloud, "--exclude-path-regex", f"{OTHERS}|^{AGENTS}$", *options)
    for run in (heard, asked):
        print(run.said)
    for run in (heard, asked):
        print(f"{run.requests} requests to {run.operations} operations: {'; '.join(run.failures) or 'all well'}")
    return 1 if heard.failures or asked.failures else 0


if __name__ == "__main__":
    sys.exit(main())
