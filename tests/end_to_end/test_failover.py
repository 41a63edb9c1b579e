"""Hosts die in each way that hosts do, for real, under a running workload with files: the machine comes back by itself,
with equal hashes, its workload running, on one host, and at the cost that the market bills.
"""

from __future__ import annotations

import pytest

from tests.end_to_end.cloud import Cloud
from tests.end_to_end.failover_support import TIMELINE, Stage, Story, Trainer

RESUMED = {"detect", "confirm", "start", "boot"}


def ten_failovers_in_a_row(cloud: Cloud) -> None:
    """Ten successes, all hashes equal, one machine left, the ledger right. Of one host in two the provider goes on
    saying that it runs."""
    trainer = Trainer(cloud, "ten")
    wanted = trainer.save()
    for epoch in range(2, 12):
        trainer.work(f"newer than the snapshot {epoch}")
        dead = trainer.befall("offline" if epoch % 2 else "hung")
        trainer.moved(epoch)
        assert trainer.view()["instance_id"] != dead
        trainer.is_well(wanted)
    assert [op["state"] for op in trainer.failovers()] == ["succeeded"] * 10
    trainer.pays()


def a_host_whose_network_is_cut_for_ever(cloud: Cloud) -> None:
    trainer = Trainer(cloud, "cut", {"race_width": 3})
    wanted = trainer.save()
    old = trainer.befall("network_cut", outlives_destroy=True)
    trainer.moved(2)
    assert trainer.view()["instance_id"] != old
    trainer.is_well(wanted)
    trainer.pays()


def a_host_that_was_outbid_is_resumed_with_its_disk(cloud: Cloud) -> None:
    _is_resumed_with_its_disk(cloud, "outbid", fault="bid_lost")


def an_outbid_host_that_is_not_to_be_had_again(cloud: Cloud) -> None:
    trainer = Trainer(cloud, "refused")
    wanted = trainer.save()
    cloud.fault("resume_refused", label="*.refused.*")
    stopped = trainer.befall("bid_lost")
    op = trainer.moved(2)
    assert trainer.view()["instance_id"] != stopped
    assert op["tried"] == ["resume", "cold"]
    trainer.is_well(wanted, timeline=TIMELINE | {"start"})
    trainer.pays()


def a_container_that_exited_is_started_again_with_its_disk(cloud: Cloud) -> None:
    _is_resumed_with_its_disk(cloud, "exited", fault="dies")


def _is_resumed_with_its_disk(cloud: Cloud, name: str, *, fault: str) -> None:
    trainer = Trainer(cloud, name)
    trainer.save()
    newer = trainer.work("newer than the snapshot")
    stopped = trainer.befall(fault)
    trainer.moved(2)
    assert trainer.view()["instance_id"] == stopped
    trainer.is_well(newer, timeline=RESUMED)
    trainer.pays()


def a_healthy_machine_is_moved_by_hand(cloud: Cloud) -> None:
    trainer = Trainer(cloud, "by-hand")
    trainer.save()
    newer = trainer.work("newer than the snapshot")
    old = trainer.serves()
    done = cloud.cli("failover", "by-hand")
    assert done.returncode == 0, done.stdout + done.stderr
    trainer.moved(2)
    assert trainer.view()["instance_id"] != old
    trainer.is_well(newer, timeline=TIMELINE - {"detect"} | {"check workspace", "copy", "verify"})
    trainer.pays()


def an_empty_machine_is_moved_by_hand(cloud: Cloud) -> None:
    """Nothing was saved, since there is nothing: it does not wait for its old host, which nobody will give back."""
    trainer = Trainer(cloud, "empty")
    old = trainer.serves()
    done = cloud.cli("failover", "empty")
    assert done.returncode == 0, done.stdout + done.stderr
    trainer.moved(2)
    assert trainer.serves() != old
    trainer.pays()


STORIES: list[Story] = [
    ten_failovers_in_a_row,
    a_host_whose_network_is_cut_for_ever,
    a_host_that_was_outbid_is_resumed_with_its_disk,
    an_outbid_host_that_is_not_to_be_had_again,
    a_container_that_exited_is_started_again_with_its_disk,
    a_healthy_machine_is_moved_by_hand,
    an_empty_machine_is_moved_by_hand,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_it_comes_back(stage: Stage, story: Story) -> None:
    stage.outcome(story)
