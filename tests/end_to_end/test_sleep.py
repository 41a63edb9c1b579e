"""Machines are put to sleep and woken, on real processes with real files: nothing is let go before it is saved, what
sleeps has no GPU, and it wakes with equal hashes, its workload running, on one host.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from dumont.domain.records import Machine
from tests.end_to_end.cloud import Cloud, wait_for
from tests.end_to_end.failover_support import FAILOVER_SECONDS, Json, Picture, Stage, Story, Trainer
from tests.end_to_end.snapshot_support import ObjectStore, complete_ones, noise
from tests.engine_rig import picture


class Sleeper(Trainer):
    """A machine that sleeps and wakes."""

    def ask(self, function: str, **wish: Any) -> httpx.Response:
        """Ask for something, whatever the answer."""
        return self.cloud.http.post(f"/{function}", json={"name": self.name, **wish})

    def begin(self, function: str, **wish: Any) -> Json:
        """The operation that a wish has begun."""
        answer = self.ask(function, **wish)
        assert answer.status_code == 202, answer.text
        operation: Json = answer.json()["operation"]
        return operation

    def done(self, function: str, **wish: Any) -> Json:
        """The operation, succeeded."""
        ended = self.cloud.ended(self.begin(function, **wish))
        assert ended["state"] == "succeeded", f"{ended.get('problem')}\n{self.story()}"
        return ended

    def asleep(self) -> Json:
        """It sleeps, and its name leads nowhere."""
        seen = self.view()
        assert seen["state"] == "hibernated", self.story()
        assert seen.get("instance_id") is None
        assert self.cloud.http.get(f"/routes/{self.name}").json()["route"].get("instance_id") is None
        return seen

    def lines(self) -> list[Json]:
        """What bills for it now, by the market's own word."""
        return [line for line in self.cloud.live() if f".{self.name}." in line["label"]]

    def awake(self, wanted: Picture, *, epoch: int) -> Json:
        """It runs on one host, with its files, and its workload with it; and nothing ran twice."""
        seen = self.view()
        assert (seen["state"], seen["epoch"]) == ("running", epoch), self.story()
        assert picture(self.host.workspace) == wanted, self.story()
        self.serves(since=seen["running_since"])
        assert [line["label"] for line in self.lines()] == [seen["instance_id"]], "one host is left at the market"
        return seen

    def after(self, step: str, op: Json) -> None:
        """An operation has done a step."""

        def done() -> bool:
            seen = self.cloud.http.get(f"/operations/{op['id']}").json()["operation"]
            assert seen["state"] == "running", f"{seen.get('problem')}\n{self.story()}"
            return any(known["name"] == step for known in seen["steps"])

        wait_for(done, seconds=30, why=f"{step} is done")

    def runs_on(self, wanted: Picture, instance_id: str) -> None:
        """It was not put to sleep: its workload, which was stopped for that, runs again where it ran."""
        seen = self.view()
        assert (seen["state"], seen["epoch"], seen["instance_id"]) == ("running", 1, instance_id), self.story()
        began_again = max(beat.at for beat in self.beats())
        self.serves(since=began_again)
        assert picture(self.host.workspace) == wanted


def hibernated_it_costs_nothing_and_wakes_with_its_files(cloud: Cloud) -> None:
    sleeper = Sleeper(cloud, "deep")
    wanted = sleeper.work()
    slept = cloud.cli("hibernate", "deep")
    assert slept.returncode == 0, slept.stdout + slept.stderr
    assert "deep sleeps, hibernated: no GPU, no disk; wake it: dumont wake deep" in slept.stdout + slept.stderr
    sleeper.asleep()
    assert sleeper.lines() == [], "nothing bills while it sleeps"
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: sleeper.ask("wake"), range(5)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["operation"]["id"] for answer in answers}) == 1, "wakes at once make one"
    assert cloud.ended(answers[0].json()["operation"])["state"] == "succeeded", sleeper.story()
    sleeper.awake(wanted, epoch=2)
    assert sleeper.ask("wake").status_code == 200, "it is awake already"
    sleeper.one_at_a_time()
    sleeper.pays()


def paused_it_bills_its_disk_alone_and_wakes_on_its_own_host(cloud: Cloud) -> None:
    sleeper = Sleeper(cloud, "light")
    wanted = sleeper.work()
    host = sleeper.serves()
    sleeper.done("hibernate", tier="pause")
    assert sleeper.asleep()["paused_instance_id"] == host
    (before,) = sleeper.lines()
    wait_for(lambda: sleeper.lines()[0]["storage_usd"] > before["storage_usd"], seconds=10, why="its disk bills")
    assert sleeper.lines()[0]["gpu_usd"] == before["gpu_usd"], "its GPU does not"
    woken = cloud.cli("wake", "light")
    assert woken.returncode == 0, woken.stdout + woken.stderr
    assert sleeper.operations()[0]["tried"] == ["resume"]
    assert sleeper.awake(wanted, epoch=2)["instance_id"] == host
    sleeper.pays()


def a_refused_start_is_cancelled_and_never_bills(cloud: Cloud) -> None:
    """It would have begun a moment later, by itself."""
    sleeper = Sleeper(cloud, "taken")
    wanted = sleeper.work()
    host = sleeper.serves()
    sleeper.done("hibernate", tier="pause")
    (before,) = sleeper.lines()
    cloud.fault("resume_refused", label="*.taken.*", seconds=2.0)
    woken = sleeper.done("wake")
    assert woken["tried"] == ["resume", "cold"]
    assert sleeper.awake(wanted, epoch=2)["instance_id"] != host
    bill = cloud.market.get("/bill").json()["instances"]
    assert [line["gpu_usd"] for line in bill if line["label"] == host] == [before["gpu_usd"]]
    sleeper.pays()


def a_snapshot_that_is_not_verified_leaves_it_awake(cloud: Cloud) -> None:
    store = ObjectStore(cloud)
    sleeper = Sleeper(cloud, "unsaved")
    wanted = sleeper.work()
    host = sleeper.serves()
    store.fault("lost", name_prefix="machines/unsaved/1/packs/", count=None)
    refused = cloud.cli("hibernate", "unsaved")
    assert refused.returncode == 1
    assert "not in the store as they were sent" in refused.stderr
    assert "The machine runs on" in refused.stderr
    sleeper.runs_on(wanted, host)
    assert complete_ones(cloud, "unsaved") == []
    store.mend()
    sleeper.done("hibernate")
    assert sleeper.lines() == []
    sleeper.done("wake")
    sleeper.awake(wanted, epoch=2)
    sleeper.pays()


def a_host_that_dies_on_the_way_to_sleep_is_replaced(cloud: Cloud) -> None:
    sleeper = Sleeper(cloud, "unlucky")
    wanted = sleeper.save()
    noise(sleeper.host.workspace, "newer", 60)
    op = sleeper.begin("hibernate")
    sleeper.after("start engine", op)
    died = sleeper.befall("hung")
    failed = cloud.ended(op, seconds=60)
    assert (failed["state"], failed["problem"]["code"]) == ("failed", "host_silent"), sleeper.story()
    sleeper.until(lambda m: m["state"] == "running" and m["epoch"] == 2, "it is moved", seconds=FAILOVER_SECONDS)
    assert sleeper.awake(wanted, epoch=2)["instance_id"] != died
    assert (
        wait_for(lambda: sleeper.ended(sleeper.failovers()[0]), seconds=30, why="it has ended")["state"] == "succeeded"
    )
    sleeper.pays()


def without_an_offer_it_sleeps_on_and_wakes_when_there_is_one(cloud: Cloud) -> None:
    sleeper = Sleeper(cloud, "poor")
    wanted = sleeper.work()
    sleeper.done("hibernate", tier="pause")
    assert len(sleeper.lines()) == 1
    deeper = sleeper.done("hibernate", tier="hibernate")
    assert [step["name"] for step in deeper["steps"]][-1:] == ["release"], "a paused machine deepens"
    assert sleeper.lines() == []

    limit(sleeper, 0.0001)
    woken = cloud.cli("wake", "poor")
    assert woken.returncode == 1
    assert "price" in woken.stderr, woken.stderr
    assert "It sleeps on; its verified snapshot is kept" in sleeper.asleep()["failure"]["safe"]
    assert sleeper.lines() == []

    limit(sleeper, 0.4)
    sleeper.done("wake")
    assert sleeper.awake(wanted, epoch=3).get("failure") is None
    sleeper.pays()


def limit(sleeper: Sleeper, usd_per_hour: float) -> None:
    """Its user pays so much and no more."""

    def change(tx: Any) -> None:
        machine = tx.get(Machine, sleeper.name)
        tx.put(replace(machine, spec=replace(machine.spec, max_price_usd_per_hour=usd_per_hour)))

    sleeper.records.transact(change)


def what_sleeps_can_be_taken_down_and_its_snapshot_stays(cloud: Cloud) -> None:
    for tier in ("hibernate", "pause"):
        sleeper = Sleeper(cloud, f"ended-{tier}")
        sleeper.work()
        sleeper.done("hibernate", tier=tier)
        down = cloud.ended(cloud.down(sleeper.name, discard=False))
        assert down["state"] == "succeeded", down.get("problem")
        assert sleeper.view()["state"] == "destroyed"
        assert sleeper.lines() == []
        assert len(complete_ones(cloud, sleeper.name)) == 1


def whoever_is_in_the_middle_of_something_is_not_put_to_sleep(cloud: Cloud) -> None:
    sleeper = Sleeper(cloud, "busy")
    noise(sleeper.host.workspace, "checkpoint", 20)
    wanted = sleeper.work()
    taking = sleeper.begin("snapshot")
    busy = sleeper.ask("hibernate")
    assert (busy.status_code, busy.json()["code"]) == (409, "operation_under_way")
    assert "in the middle of a snapshot" in busy.json()["detail"]
    assert cloud.ended(taking)["state"] == "succeeded"

    op = sleeper.begin("hibernate", tier="pause")
    again = sleeper.ask("hibernate", tier="pause")
    assert again.json()["operation"]["id"] == op["id"], "asked for twice, it is one"
    for function in ("wake", "snapshot", "failover"):
        assert sleeper.ask(function).status_code == 409
    assert cloud.ended(op)["state"] == "succeeded"
    sleeper.done("wake")

    moving = sleeper.begin("failover")
    sleeper.until(lambda m: m["state"] == "failing_over", "it is being moved")
    assert sleeper.ask("hibernate").status_code == 409
    assert cloud.ended(moving)["state"] == "succeeded"
    assert picture(sleeper.host.workspace) == wanted
    sleeper.pays()


STORIES: list[Story] = [
    a_host_that_dies_on_the_way_to_sleep_is_replaced,
    without_an_offer_it_sleeps_on_and_wakes_when_there_is_one,
    a_snapshot_that_is_not_verified_leaves_it_awake,
    hibernated_it_costs_nothing_and_wakes_with_its_files,
    whoever_is_in_the_middle_of_something_is_not_put_to_sleep,
    paused_it_bills_its_disk_alone_and_wakes_on_its_own_host,
    a_refused_start_is_cancelled_and_never_bills,
    what_sleeps_can_be_taken_down_and_its_snapshot_stays,
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_it_sleeps_safely(stage: Stage, story: Story) -> None:
    stage.outcome(story)
