"""Failovers that go wrong themselves: replacements that hang, break or die, a damaged snapshot, none at all."""

from __future__ import annotations

import pytest

from tests.end_to_end.cloud import Cloud
from tests.end_to_end.failover_support import TIMELINE, Json, Stage, Story, Trainer
from tests.end_to_end.snapshot_support import ObjectStore, complete_ones


def a_replacement_hangs_in_its_boot(cloud: Cloud) -> None:
    trainer = Trainer(cloud, "hangs", {"race_width": 1, "boot_timeout_seconds": 4.0})
    wanted = trainer.save()
    cloud.fault("boot_never_ends", at_create=True, label="*.hangs.2.*", count=1)
    trainer.befall("hung")
    op = trainer.moved(2)
    assert problems(op) >= {"boot_timeout"}
    trainer.is_well(wanted)
    trainer.pays()


def two_replacements_die(cloud: Cloud) -> None:
    trainer = Trainer(cloud, "die", {"race_width": 2})
    wanted = trainer.save()
    cloud.fault("oci_error", at_create=True, label="*.die.2.*", count=2)
    trainer.befall("hung")
    op = trainer.moved(2)
    assert [i["problem"]["code"] for i in rented(op)[:2]] == ["host_broken", "host_broken"]
    trainer.is_well(wanted)
    trainer.pays()


def a_replacement_dies_before_it_serves(cloud: Cloud) -> None:
    """While it is tried, or while the snapshot is restored: its place is soon another's."""
    trainer = Trainer(cloud, "again", {"race_width": 1, "ssh_timeout_seconds": 6.0})
    wanted = trainer.save()
    cloud.fault("hung", at_create=True, label="*.again.2.*", count=1, after_seconds=1.0)
    trainer.befall("hung")
    op = trainer.moved(2)
    first, *_, last = rented(op)
    assert (first["state"], last["state"]) == ("gone", "proven")
    trainer.is_well(wanted)
    trainer.pays()


def rented(op: Json) -> list[Json]:
    """What it rented itself. The story beside it on the same market may have been faster with an offer: that was never
    rented.
    """
    own = [i for i in op["instances"] if i["rented_by"] == op["id"]]
    return [i for i in own if i.get("problem", {}).get("code") != "offer_gone"]


def problems(op: Json) -> set[str]:
    """Why its rentals ended."""
    return {i["problem"]["code"] for i in op["instances"] if "problem" in i}


def the_newest_snapshot_is_damaged(cloud: Cloud) -> None:
    store = ObjectStore(cloud)
    trainer = Trainer(cloud, "damaged", {"race_width": 1})
    wanted = trainer.save("first")
    packs = store.objects("damaged")
    trainer.save("second")
    newest, before = complete_ones(cloud, "damaged")
    (pack,) = store.objects("damaged") - packs
    store.flip_a_byte(pack)
    trainer.befall("hung")
    op = trainer.moved(2)
    assert op["snapshot_id"] == before
    said = [step["detail"] for step in op["steps"] if step["name"] == "fall back"]
    assert said == [f"{newest} is damaged; {before} is taken instead"]
    assert [step["ok"] for step in op["steps"] if step["name"] == "restore"] == [False, True]
    trainer.is_well(wanted, timeline=TIMELINE | {"fall back"})
    trainer.pays()


def a_host_with_the_only_copy_is_waited_for(cloud: Cloud) -> None:
    trainer = Trainer(cloud, "only", {"race_width": 1})
    trainer.work("nowhere else")
    old = trainer.befall("hung")
    trainer.until(lambda m: m["state"] == "failing_over", "it is given up for lost")
    trainer.until(lambda _: trainer.failovers()[0].get("tried") == ["hold"], "it waits for its old host")
    refused = cloud.http.post("/destroy", json={"name": "only"})
    assert (refused.status_code, refused.json()["code"]) == (409, "failing_over")
    assert [line["label"] for line in cloud.live() if ".only." in line["label"]] == [old], "and nothing else is rented"

    told = cloud.cli("failover", "only", "--discard")
    assert told.returncode == 0, told.stdout + told.stderr
    op = trainer.moved(2)
    assert op["tried"] == ["hold", "cold"]
    trainer.is_well({}, timeline=TIMELINE - {"restore"})
    trainer.pays()


STORIES: list[Story] = [
    two_replacements_die,
    a_replacement_dies_before_it_serves,
    a_replacement_hangs_in_its_boot,
    the_newest_snapshot_is_damaged,
    a_host_with_the_only_copy_is_waited_for,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_it_comes_back_all_the_same(stage: Stage, story: Story) -> None:
    stage.outcome(story)
