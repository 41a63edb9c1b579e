"""Jobs in histories: users who run them, and what must hold of each."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Sequence

from dumont.domain.errors import StoreError, UserError
from dumont.domain.jobs import Ending, Job, JobState
from dumont.domain.records import Machine, MachineSpec, MachineState
from dumont.domain.snapshots import Snapshot
from dumont.operations import jobs
from dumont.ports import Query
from tests.simulation.invariants import Broken
from tests.simulation.world import World

ALL = Query(limit=10_000)


def run_jobs(world: World, names: Sequence[str]) -> None:
    """Users run some jobs within the hour, on machines of their own or under names that others meddle with; some cancel
    theirs. Drawn apart, so that a seed without jobs goes on as it went."""
    rng = random.Random(f"jobs/{world.seed}")

    def wish(what: str, work: Callable[[], object]) -> None:
        def attempt() -> None:
            with contextlib.suppress(UserError, StoreError):
                work()

        world.hub.spawn(what, attempt, dies_at=world.death())

    for number in range(rng.randint(1, 4)):
        name = rng.choice([f"job-{number}", f"job-{number}", rng.choice(names)])
        retries = rng.choice([0, 0, 2])
        source = rng.choice([None, None, "job-0", rng.choice(names)])
        seconds, status = rng.choice([5.0, 60.0, 400.0, 5000.0]), rng.choice([0, 0, 0, 3])
        more = {
            "timeout_hours": rng.choice([0.05, 0.3, 0.8]),
            "keep_machine": rng.random() < 0.1,
            "discard_outputs": rng.random() < 0.1,
            "retries": retries,
        }
        spec = MachineSpec(
            gpu="RTX 4090",
            race_width=rng.randint(1, 3),
            boot_timeout_seconds=rng.choice([120.0, 300.0]),
            ssh_timeout_seconds=60.0,
            interruptible=rng.random() < 0.2,
            budget_usd=rng.choice([None, None, None, 0.02]),
            snapshot_every_minutes=rng.choice([None, 2.0, 10.0]),
            heartbeat_seconds=rng.choice([5.0, 20.0]),
            fence_after_seconds=rng.choice([30.0, 120.0]),
            max_failovers_per_day=rng.choice([0, 24, 24]),
        )
        command = f"job {seconds} {status}"

        def ask(
            name: str = name, command: str = command, spec: MachineSpec = spec, source: str | None = source,
            more: dict[str, float] = more,
        ) -> None:  # fmt: skip
            wanted = {"name": name, "inputs": source} | more
            jobs.request(world.ports, command, spec, requested_by="user", **wanted)  # type: ignore[arg-type]

        moment = world.hub.now + rng.uniform(0.0, 2400.0)
        world.hub.at(moment, lambda ask=ask: wish("job", ask))  # type: ignore[misc]
        if rng.random() < 0.3:
            discard = rng.random() < 0.3
            cancel_at = moment + rng.uniform(1.0, 600.0)

            def cancel(name: str = name, discard: bool = discard) -> None:
                jobs.cancel(world.ports, name, discard=discard, requested_by="user")

            world.hub.at(cancel_at, lambda cancel=cancel: wish("cancel", cancel))  # type: ignore[misc]


class JobInvariants:
    """Each job ends once, with its machine gone or kept as it says, and its outputs verified; none is stuck."""

    def __init__(self, world: World, others: Callable[[], None]) -> None:
        self._world = world
        self._others = others
        self._ended: dict[str, Job] = {}

    def check(self) -> None:
        """Raise `Broken` if something does not hold now; the other invariants are looked at first."""
        changed = self._world.changed
        self._others()
        if not changed:
            return
        for job in self._world.store.quiet.find(Job, ALL):
            before = self._ended.get(job.id)
            if before is not None and (before.state, before.ended_at) != (job.state, job.ended_at):
                raise Broken(f"{job.id} ended as {before.state} already, and is {job.state} now")
            if job.ended and before is None:
                self._ended[job.id] = job
                self._at_its_end(job)

    def _at_its_end(self, job: Job) -> None:
        world = self._world
        machine = world.store.quiet.get(Machine, job.machine)
        mine = machine if machine is not None and machine.job_id == job.id else None
        gone = (MachineState.DESTROYED, MachineState.FAILED)
        if mine is not None and not job.machine_kept and mine.state not in gone:
            raise Broken(f"{job.id} is {job.state}, and its machine is {mine.state}")
        if mine is not None and mine.state is MachineState.DESTROYED:
            left = [i.label for i in world.market.live(world.hub.now) if f".{job.machine}." in (i.label or "")]
            if left:
                raise Broken(f"{job.id} is {job.state}, and {left} bill")
        if job.state is JobState.SUCCEEDED:
            self._has_its_output(job)
        if job.state is JobState.SUCCEEDED and (job.ending, job.exit_status) != (Ending.EXITED, 0):
            raise Broken(f"{job.id} succeeded without an exit status of 0")

    def _has_its_output(self, job: Job) -> None:
        if job.discard_outputs:
            return
        saved = self._world.store.quiet.get(Snapshot, job.result_snapshot_id or "")
        if saved is None or not saved.good:
            raise Broken(f"{job.id} succeeded, and its outputs are in no good snapshot: {saved}")
        if f"user/out-{job.machine}" not in self._world.saved[saved.id]:
            raise Broken(f"{job.id} succeeded, and {saved.id} has not what it wrote")

    def check_quiet(self) -> None:
        """None is stuck."""
        for job in self._world.store.quiet.find(Job, ALL):
            if not job.ended:
                raise Broken(f"{job.id} never ended: {job}; {self._world.store.quiet.get(Machine, job.machine)}")
