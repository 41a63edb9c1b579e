"""The control plane is killed in the middle of failovers, and comes back: the market and its machines have gone on."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from dumont.adapters.clock import SystemClock
from dumont.domain.records import InstanceState
from dumont.local.market.server import MarketServer
from tests.end_to_end.cloud import Cloud, clean_environment, free_port, wait_for
from tests.end_to_end.failover_support import Alone, Stage, Trainer

MARKET_KEY = "m" * 64
SECONDS_AWAY = 12.0
"""How long, at most, a control plane that was killed sees nothing: its start on a busy machine, and its first looks."""


class ControlPlane:
    """`dumont local up` on a market that is not its own; it may be killed and started again."""

    def __init__(self, folder: Path, market: MarketServer) -> None:
        self._folder, self._port, self._market = folder, free_port(), market
        self.process = self._start()
        market_port = int(market.url.rsplit(":", 1)[1].split("/")[0])
        self.cloud = Cloud(self.process, folder, self._port, market_port)

    def _start(self) -> subprocess.Popen[str]:
        output = self._folder / "up.log"
        with output.open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dumont.cli.main", "local", "up", "--port", str(self._port),
                 "--data", str(self._folder / "data")],
                env=clean_environment(self._folder) | {"VAST_API_KEY": MARKET_KEY, "VAST_URL": self._market.url},
                stdout=log, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        wait_for(lambda: "\nready " in output.read_text() or process.poll() is not None, seconds=60, why="it is ready")
        assert process.poll() is None, output.read_text()
        return process

    def die(self) -> None:
        """SIGKILL; nothing of it is left but what it wrote down."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait(timeout=10)
        psutil.wait_procs(children, timeout=10)

    def restart(self) -> None:
        """As it was, from its data."""
        self.process = self.cloud.process = self._start()
        self.cloud.__post_init__()  # with a new key, and no connection to the dead one

    def close(self) -> None:
        """End it as Ctrl-C does."""
        self.process.terminate()
        assert self.process.wait(timeout=20) == 0


@contextlib.contextmanager
def control_plane(folder: Path) -> Iterator[ControlPlane]:
    with MarketServer(
        folder=folder / "data/market", clock=SystemClock(), api_keys=[MARKET_KEY], time_scale=0.02, seed=0
    ) as market:
        made = ControlPlane(folder, market)
        try:
            yield made
        finally:
            made.close()


def a_control_plane_that_is_killed_in_the_middle(folder: Path) -> None:
    with control_plane(folder) as plane:
        goes_on(plane)


def goes_on(plane: ControlPlane) -> None:
    """Each failover goes on where the dead control plane left it."""
    trainer = Trainer(plane.cloud, "orphan")
    wanted = trainer.save()
    moments: list[tuple[int, Callable[[], bool]]] = [
        (2, lambda: trainer.view()["state"] == "failing_over"),
        (3, lambda: any(step["name"] == "start restore" for step in trainer.failovers()[0].get("steps", []))),
    ]
    for epoch, moment in moments:
        trainer.befall("hung")
        wait_for(moment, seconds=40, why=f"the failover to epoch {epoch} is under way")
        plane.die()
        assert trainer_state(trainer) is not None, "nobody is there, and the market goes on"
        plane.restart()
        trainer.moved(epoch)
        trainer.is_well(wanted)

    # Our own outage is no death: the machine is where it was, and its workload runs again once we answer.
    served = trainer.serves()
    plane.die()
    wait_for(lambda: time.time() - trainer.beats()[-1].at > 1.0, seconds=20, why="unheard, it stops its workload")
    plane.restart()
    assert trainer.serves(since=time.time()) == served
    assert trainer.view()["epoch"] == 3
    trainer.pays(unseen_seconds=SECONDS_AWAY)
    assert plane.cloud.live() == []


def trainer_state(trainer: Trainer) -> InstanceState | None:
    """What the books say of an instance that is being lost, read from the file itself."""
    return trainer.record(trainer.beats()[-1].instance_id).state


@pytest.mark.parametrize("story", [a_control_plane_that_is_killed_in_the_middle], ids=lambda story: story.__name__)
def test_the_market_has_gone_on_and_so_do_failovers(stage: Stage, story: Alone) -> None:
    stage.outcome(story)
