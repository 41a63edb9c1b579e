"""Hosts that were given up for lost and are not: a partitioned one never serves, nor writes, beside its replacement;
one that is back before a replacement serves is taken back with all its files; one whose agent alone died is not moved.
"""

from __future__ import annotations

import time
from typing import Any

import psutil
import pytest

from dumont.domain.heartbeats import WorkloadSeen
from dumont.domain.records import InstanceState
from tests.contract.blob_stores import boto
from tests.end_to_end.cloud import Cloud, wait_for
from tests.end_to_end.failover_support import Stage, Story, Trainer
from tests.end_to_end.snapshot_support import ObjectStore, begin_snapshot, noise, snapshot_of
from tests.engine_rig import picture

TAKEN_BACK = {"detect", "confirm", "search", "rent", "take back", "release"}
BUCKET = "dumont-local"


def mend(cloud: Cloud, instance_id: str) -> float:
    """Let the network of a host pass everything again; when that was."""
    answer = cloud.market.post("/mend", json={"label": instance_id})
    assert answer.status_code == 200, answer.text
    return time.time()


def a_host_that_is_back_before_its_replacement_serves(cloud: Cloud) -> None:
    trainer = Trainer(cloud, "back", {"race_width": 2})
    trainer.save()
    newer = trainer.work("newer than the snapshot")
    cloud.fault("boot_never_ends", at_create=True, label="*.back.2.*", count=None)
    old = trainer.befall("network_cut")
    trainer.until(lambda m: m["state"] == "failing_over", "it is being moved")
    wait_for(lambda: len(cloud_lines(cloud, "back")) == 3, seconds=20, why="two others are rented")
    mend(cloud, old)
    trainer.moved(2)
    assert trainer.view()["instance_id"] == old
    trainer.is_well(newer, timeline=TAKEN_BACK)
    trainer.pays()


def cloud_lines(cloud: Cloud, name: str) -> list[dict[str, Any]]:
    """What bills for a machine now, by the market's own word."""
    return [line for line in cloud.live() if f".{name}." in line["label"]]


def a_host_that_is_back_after_its_replacement_serves(cloud: Cloud) -> None:
    """Split brain: invariant 1, and 9."""
    store = ObjectStore(cloud)
    trainer = Trainer(cloud, "split", {"race_width": 2})
    wanted = trainer.save()
    old_host = trainer.host
    noise(old_host.workspace, "too late", 30)
    _, unfinished = begin_snapshot(cloud, "split")
    key = wait_for(lambda: store.keys("split"), seconds=20, why="the snapshot has its key")[0]
    assert key["prefix"] == "machines/split/1/"
    cloud.fault("destroy_lags", label=old_host.instance_id, count=None, seconds=6.5)
    old = trainer.befall("network_cut", outlives_destroy=True)

    op = wait_for(lambda: next(iter(trainer.failovers()), None), seconds=30, why="it is missed")
    trainer.until(lambda m: m["epoch"] == 2 and m["state"] == "running", "its replacement serves")
    assert trainer.serves() != old
    back_at = mend(cloud, old)
    wait_for(lambda: heard_since(trainer, old, back_at), seconds=20, why="the old host calls, and is told to stop")
    assert trainer.heard(old).workload.state in ("stopped", "none")  # type: ignore[union-attr]
    assert wait_for(lambda: trainer.ended(op), seconds=30, why="the failover has ended")["state"] == "succeeded"
    assert trainer.record(old).state is InstanceState.GONE
    wait_for(lambda: not old_host.folder.exists(), seconds=10, why="the old host's disk is gone")
    trainer.is_well(wanted)  # one workload at a time, too

    assert cloud.ended(unfinished)["state"] in ("superseded", "failed")
    s3 = boto(str(store.http.base_url).removesuffix("/_store/"), key["id"], key["secret"])
    for epoch in (1, 2):
        with pytest.raises(s3.exceptions.ClientError, match=r"403|Access|Forbidden"):
            s3.put_object(Bucket=BUCKET, Key=f"machines/split/{epoch}/packs/late", Body=b"late")
    newer = trainer.work("of the new host")
    snapshot_of(cloud, "split")
    assert any(name.startswith("machines/split/2/") for name in store.objects("split"))
    assert picture(trainer.host.workspace) == newer
    trainer.pays()


def heard_since(trainer: Trainer, instance_id: str, moment: float) -> bool:
    """Whether a host has said, after that moment and more than once, that its workload does not run."""
    beat = trainer.heard(instance_id)
    known = trainer.record(instance_id)
    return (
        beat is not None
        and beat.received_at > moment
        and beat.workload != WorkloadSeen()
        and known.state in (InstanceState.RELEASING, InstanceState.GONE)
    )


def a_host_whose_agent_alone_was_killed_is_not_moved(cloud: Cloud) -> None:
    trainer = Trainer(cloud, "agentless")
    before = trainer.work()
    host = trainer.host
    agents = [process for process in host.processes() if is_agent(process)]
    assert len(agents) >= 2, "an agent and its guard"
    for process in agents:
        process.suspend()  # so that neither starts the other again
    for process in agents:
        process.kill()
    killed_at = time.time()
    op = wait_for(lambda: next(iter(trainer.failovers()), None), seconds=30, why="it is missed")
    ended = wait_for(lambda: trainer.ended(op), seconds=30, why="the suspicion has ended")
    assert ended["state"] == "succeeded", trainer.story()
    assert [step["name"] for step in ended["steps"]] == ["detect", "restart agent", "confirm"]
    seen = trainer.view()
    assert (seen["state"], seen["epoch"], seen["instance_id"]) == ("running", 1, host.instance_id)
    wait_for(lambda: trainer.heard(host.instance_id).received_at > killed_at, seconds=20, why="it is heard again")  # type: ignore[union-attr]
    trainer.serves(since=killed_at + 1.0)
    assert picture(host.workspace) == before
    assert len(cloud_lines(cloud, "agentless")) == 1
    trainer.pays()


def is_agent(process: psutil.Process) -> bool:
    return any(word.endswith("/.dumont/agent/config.json") or "agent.pyz" in word for word in process.cmdline())


STORIES: list[Story] = [
    a_host_that_is_back_after_its_replacement_serves,
    a_host_that_is_back_before_its_replacement_serves,
    a_host_whose_agent_alone_was_killed_is_not_moved,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_nothing_is_lost_and_nothing_runs_twice(stage: Stage, story: Story) -> None:
    stage.outcome(story)
