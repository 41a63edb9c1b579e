"""What the tests of failovers share: a machine whose workload says when and where it runs, and how it must end well."""

from __future__ import annotations

import contextlib
import inspect
import itertools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dumont import queries
from dumont.adapters.sqlite_store import SqliteStore
from dumont.domain.heartbeats import Heartbeat
from dumont.domain.ledger import LedgerEntry
from dumont.domain.records import Instance
from tests.end_to_end.cloud import ENDED, Cloud, local_cloud, wait_for
from tests.end_to_end.snapshot_support import Host, snapshot_of
from tests.engine_rig import picture

Json = dict[str, Any]
Picture = dict[str, tuple[Any, ...]]

SPEC: Json = {"race_width": 1, "heartbeat_seconds": 0.5, "fence_after_seconds": 2.0}
FAILOVER_SECONDS = 60.0
LOOK_EVERY_SECONDS = 0.2
"""Many stories are played at once, and each look costs the processors something."""
TIMELINE = {"detect", "confirm", "search", "rent", "boot", "restore", "release"}
SECONDS_UNSEEN = 3.0
"""Of each rental: what the market bills before we know of it, or after we last asked, on a machine that is busy."""


@dataclass(frozen=True)
class Beat:
    """The workload ran on this instance at this time, by the one clock of this test's machine."""

    instance_id: str
    at: float


@dataclass
class Trainer:
    """A machine whose workload writes down where and when it runs, in one place that outlives each host."""

    cloud: Cloud
    name: str
    spec: Json = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.records = SqliteStore(self.cloud.folder / "data/store.sqlite3")
        self._beats = self.cloud.folder / f"{self.name}.beats"
        run = f'while true; do echo "$DUMONT_WORKLOAD $(date +%s.%N)" >> {self._beats}; sleep 0.25; done'
        up = self.cloud.ended(self.cloud.up(self.name, **SPEC | {"run": run} | self.spec))
        assert up["state"] == "succeeded", up.get("problem")
        self.serves()

    @property
    def host(self) -> Host:
        """Its present host."""
        return Host(self.cloud, self.name)

    def view(self) -> Json:
        """As the API shows it."""
        return self.cloud.machine(self.name)

    def work(self, name: str = "weights") -> Picture:
        """A new file of noise, and the workspace with it."""
        folder = self.host.workspace
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(os.urandom(200_000))
        (folder / f"{name}.link").symlink_to(name)
        return picture(folder)

    def save(self, name: str = "weights") -> Picture:
        """A new file, and a snapshot of all."""
        before = self.work(name)
        snapshot_of(self.cloud, self.name)
        return before

    # --- The workload ---

    def beats(self, instance_id: str | None = None) -> list[Beat]:
        """When the workload ran, of all instances or of one."""
        if not self._beats.exists():
            return []
        lines = [line.split() for line in self._beats.read_text().splitlines()]
        beats = [Beat(words[0], float(words[1])) for words in lines if len(words) == 2]
        return [beat for beat in beats if instance_id in (None, beat.instance_id)]

    def serves(self, *, since: float = 0.0) -> str:
        """The instance on which its workload runs, once it does."""
        instance_id = str(self.view()["instance_id"])
        wait_for(
            lambda: any(beat.at > since for beat in self.beats(instance_id)),
            seconds=30,
            every_seconds=LOOK_EVERY_SECONDS,
            why=f"the workload of {self.name} runs on {instance_id}",
        )
        return instance_id

    def one_at_a_time(self) -> None:
        """Invariant 1: no instance's workload ran when another's did, nor after one of a later epoch had begun."""
        beats = self.beats()
        order = list(dict.fromkeys(beat.instance_id for beat in beats))
        for earlier, later in itertools.pairwise(order):
            last, first = self.beats(earlier)[-1].at, self.beats(later)[0].at
            assert last < first, f"{earlier} still ran {last - first:.2f} s after {later} had begun"

    # --- Failovers ---

    def operations(self) -> list[Json]:
        """Its operations, newest first."""
        found: list[Json] = self.cloud.http.get("/operations", params={"machine": self.name}).json()["operations"]
        return found

    def failovers(self) -> list[Json]:
        """Those that move it or look into it, newest first."""
        return [op for op in self.operations() if op["kind"] == "failover"]

    def befall(self, kind: str, **details: Any) -> str:
        """Let its present host suffer something; which one that is."""
        instance_id = str(self.view()["instance_id"])
        self.cloud.fault(kind, label=instance_id, **details)
        return instance_id

    def until(self, condition: Callable[[Json], bool], why: str, *, seconds: float = FAILOVER_SECONDS) -> Json:
        """The machine, once it is so."""

        def look() -> Json | None:
            seen = self.view()
            return seen if condition(seen) else None

        return wait_for(look, seconds=seconds, why=f"{self.name}: {why}", every_seconds=LOOK_EVERY_SECONDS)

    def moved(self, epoch: int) -> Json:
        """Its failover to this epoch, ended."""
        try:
            seen = self.until(lambda m: m["state"] == "running" and m["epoch"] == epoch, f"epoch {epoch} serves")
            op = next(op for op in self.failovers() if op["epoch"] == epoch)
            ended = wait_for(
                lambda: self.ended(op), seconds=FAILOVER_SECONDS, why="it has ended", every_seconds=LOOK_EVERY_SECONDS
            )
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None
        assert ended["state"] == "succeeded", ended.get("problem")
        assert seen["instance_id"] is not None
        return ended

    def ended(self, op: Json) -> Json | None:
        seen: Json = self.cloud.http.get(f"/operations/{op['id']}").json()["operation"]
        return seen if seen["state"] in ENDED else None

    def story(self) -> str:
        """What was done, for who reads of a failure."""
        lines = []
        for op in reversed(self.operations()):
            lines.append(f"{op['kind']} {op['state']} {op['phase']} {op.get('tried')} {op.get('problem')}")
            for step in self.cloud.http.get(f"/operations/{op['id']}").json()["operation"]["steps"]:
                lines.append(
                    f"  {step['name']} {step['started_at'] - op['created_at']:.2f} +{step['seconds']:.2f} "
                    f"{step['ok']} {(step.get('instance_id') or '')[-6:]} {step.get('detail')}"
                )
        return "\n".join(lines)

    def record(self, instance_id: str) -> Instance:
        """An instance in our books."""
        found = self.records.get(Instance, instance_id)
        assert found is not None
        return found

    def heard(self, instance_id: str) -> Heartbeat | None:
        """Its last heartbeat."""
        return self.records.get(Heartbeat, instance_id)

    # --- The end ---

    def is_well(self, wanted: Picture, *, timeline: set[str] = TIMELINE) -> Json:
        """It serves, with its files, on one instance, to which its name leads; answers with its last failover."""
        seen = self.view()
        op = next(op for op in self.failovers() if op["epoch"] == seen["epoch"])
        op = self.cloud.http.get(f"/operations/{op['id']}").json()["operation"]
        assert picture(self.host.workspace) == wanted, self.story()
        self.serves(since=seen["running_since"])
        self.one_at_a_time()
        assert {step["name"] for step in op["steps"]} >= timeline, self.story()
        live = [line["label"] for line in self.cloud.live() if f".{self.name}." in line["label"]]
        assert live == [seen["instance_id"]], "one machine is left at the market"
        route = self.cloud.http.get(f"/routes/{self.name}").json()["route"]
        assert route["instance_id"] == seen["instance_id"]
        assert (route["epoch"], route["ssh"], route["host_key"]) == (seen["epoch"], seen["ssh"], seen["host_key"])
        return dict(op)

    def pays(self, *, unseen_seconds: float = SECONDS_UNSEEN) -> None:
        """It ends, and what it cost is what the market bills, but for what nobody saw of each rental."""
        down = self.cloud.ended(self.cloud.down(self.name, discard=True))
        assert down["state"] == "succeeded", down.get("problem")
        bill = self.cloud.market.get("/bill").json()["instances"]
        lines = [line for line in bill if f".{self.name}." in line["label"]]
        assert all(line["destroyed_at"] is not None for line in lines)
        billed_usd = sum(line["gpu_usd"] + line["storage_usd"] for line in lines)
        # A host that was let go of earlier may still be on its way out of our books.
        booked_usd = wait_for(self._books_are_closed, seconds=30, why=f"the books of {self.name} are closed")
        unseen_usd = len(lines) * unseen_seconds * 0.4 / 3600
        assert booked_usd == pytest.approx(billed_usd, abs=unseen_usd), f"{booked_usd}, not {billed_usd}"

    def _books_are_closed(self) -> float | None:
        """What was booked of its rentals, once that is all that they have cost. Traffic apart: it is reckoned from what
        its agent reads, which here is the traffic of this whole computer."""
        entries = self.records.find(LedgerEntry, queries.ledger_of_machine(self.name))
        booked_usd = sum(entry.amount_micro_usd for entry in entries if entry.source == "metered") / 1e6
        return booked_usd if self.view()["cost_usd"] == pytest.approx(booked_usd, abs=1e-5) else None


Story = Callable[[Cloud], None]
Alone = Callable[[Path], None]
"""A story that needs a cloud of its own, in this folder."""


class Stage:
    """Plays stories beside each other, since each waits most of its time: two at a time on each shared cloud, where
    three machines that die at once would be held to be our own fault, and those that have their own one by one."""

    def __init__(self, folder: Path, stories: Sequence[Story | Alone], *, clouds: int = 2) -> None:
        self._stack = contextlib.ExitStack()
        self._folder = folder
        self._outcomes: dict[str, Future[None]] = {}
        alone = [story for story in stories if "folder" in inspect.signature(story).parameters]
        shared = [story for story in stories if story not in alone]
        self._pools = [ThreadPoolExecutor(1)]
        for story in alone:
            self._submit(self._pools[0], story, partial(self._own_folder, story.__name__))
        for number in range(min(clouds, len(shared))):
            made = folder / f"cloud-{number}"
            made.mkdir()
            cloud = self._stack.enter_context(local_cloud(made))
            self._pools.append(ThreadPoolExecutor(2))
            for story in shared[number::clouds]:
                self._submit(self._pools[-1], story, partial(_itself, cloud))

    def outcome(self, story: Story | Alone) -> None:
        """Wait for a story's end; raises what it raised."""
        self._outcomes[story.__name__].result()

    def close(self) -> None:
        """Let what has not begun be, wait for the rest, and end the clouds."""
        for pool in self._pools:
            pool.shutdown(cancel_futures=True)
        self._stack.close()

    def _submit(self, pool: ThreadPoolExecutor, story: Any, where: Callable[[], Any]) -> None:
        self._outcomes[story.__name__] = pool.submit(lambda: story(where()))

    def _own_folder(self, name: str) -> Path:
        (self._folder / name).mkdir()
        return self._folder / name


def _itself(cloud: Cloud) -> Cloud:
    return cloud
