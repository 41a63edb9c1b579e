"""Many machines that fall silent at once are our own fault until somebody says otherwise."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.end_to_end.cloud import Cloud, local_cloud, wait_for
from tests.end_to_end.failover_support import Alone, Stage, Trainer

NAMES = ("east", "west", "north", "south")


def alerts(cloud: Cloud) -> set[str]:
    """The machines of which the log says, as an alert, that they are not moved since too many are silent."""
    lines = [json.loads(line) for line in (cloud.folder / "data/log.jsonl").read_text().splitlines()]
    return {
        line["machine"] for line in lines if line["severity"] == "ERROR" and "fell silent at once" in line["message"]
    }


def many_that_die_at_once(folder: Path) -> None:
    with local_cloud(folder) as cloud, ThreadPoolExecutor(len(NAMES)) as pool:
        trainers = list(pool.map(lambda name: Trainer(cloud, name, {"race_width": 1}), NAMES))
        east, west, north, south = trainers
        wanted = dict(zip((east.name, west.name, north.name), pool.map(Trainer.save, (east, west, north)), strict=True))
        dead = [trainer.befall("hung") for trainer in (east, west, north)]
        wait_for(lambda: alerts(cloud) == {"east", "west", "north"}, seconds=40, why="all three are alerted of")
        for trainer, instance_id in zip((east, west, north), dead, strict=True):
            seen = trainer.view()
            assert (seen["state"], seen["epoch"], seen["instance_id"]) == ("running", 1, instance_id)
            (op,) = trainer.failovers()
            assert (op["state"], op["phase"]) == ("running", "start"), "looked at, and left as it is"
        assert len(cloud.live()) == len(NAMES)

        told = cloud.cli("failover", "east")
        assert told.returncode == 0, told.stdout + told.stderr
        east.moved(2)
        # Two that are silent are not many: they are moved by themselves.
        for trainer in (west, north):
            trainer.moved(2)
        for trainer in (east, west, north):
            trainer.is_well(wanted[trainer.name], timeline={"confirm", "search", "rent", "boot", "restore", "release"})
        assert south.view()["epoch"] == 1
        assert south.failovers() == []
        assert list(pool.map(Trainer.pays, trainers)) == [None] * len(NAMES)
        assert cloud.live() == []


@pytest.mark.parametrize("story", [many_that_die_at_once], ids=lambda story: story.__name__)
def test_nothing_is_moved_but_by_hand(stage: Stage, story: Alone) -> None:
    stage.outcome(story)
