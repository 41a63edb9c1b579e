"""Failovers on the local cloud in real time: from a fault to the fence, and on until the machine serves again."""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tests.benchmarks.figures import Figure, percentile
from tests.end_to_end.cloud import Cloud, wait_for

Json = dict[str, Any]

P50_GOAL_SECONDS, P99_GOAL_SECONDS = 12.0, 20.0
OVERHEAD_GOAL_SECONDS = 3.0
WARM_GOAL_SECONDS = 15.0
WORD_SECONDS = 180.0
KINDS = {"hung": "hung", "network_cut": "network cut", "offline": "offline", "dies": "stopped"}
"""Faults by the market's name: the first two go on being "running" there, of the others it says what they are."""

MODEL_BYTES = 20_000_000

PARTS = (
    ("from the fence until the search", "begin"),
    ("search", "search"),
    ("rent, until the winner is created", "rent"),
    ("it runs until we know it", "notice_boot"),
    ("SSH and proof", "proof"),
    ("storage key, engine sent and launched", "launch"),
    ("engine starts: its Python, packages, imports", "engine"),
    ("restored until we know it", "notice_restore"),
    ("win: until the route leads there", "win"),
)


# --- Looking ------------------------------------------------------------------------------------------------------


def failovers(cloud: Cloud, name: str) -> list[Json]:
    """A machine's failovers, the latest first."""
    found = cloud.http.get("/operations", params={"machine": name}).json()["operations"]
    return [op for op in found if op["kind"] == "failover"]


def step(op: Json, name: str) -> Json | None:
    """The last step of a name."""
    return next((s for s in reversed(op.get("steps") or []) if s["name"] == name), None)


def befall(cloud: Cloud, name: str, kind: str) -> float:
    """Let a fault befall a machine's instance; the last moment before it."""
    label = cloud.machine(name)["instance_id"]
    moment = time.time()
    cloud.fault(kind, label=label)
    return moment


def fenced(cloud: Cloud, name: str, since: float) -> Json | None:
    """The failover that fenced the machine since then, once it has."""
    for summary in failovers(cloud, name):
        if summary["created_at"] >= since:
            op: Json = cloud.http.get(f"/operations/{summary['id']}").json()["operation"]
            confirm = step(op, "confirm")
            if op["phase"] != "start" and confirm is not None and confirm["ok"]:
                return op
    return None


def serves_again(cloud: Cloud, name: str, epoch: int) -> Json | None:
    """The machine, once it runs in a later epoch."""
    machine = cloud.machine(name)
    return machine if machine["state"] == "running" and machine["epoch"] > epoch else None


# --- Time to detect -----------------------------------------------------------------------------------------------


def detection(cloud: Cloud, *, machines: int, waves: int, say: Callable[[str], None]) -> list[Figure]:
    """Let hosts fail at random moments, one of each kind in each wave: far fewer at once than the mass rule needs."""
    rng = random.Random(7)
    names = [f"fleet-{n}" for n in range(machines)]
    say(f"renting {machines} machines")
    asked = [
        cloud.up(name, gpu=None, min_vram_gib=8, max_price_usd_per_hour=None, min_reliability=None, race_width=1,
                 stateless=True)
        for name in names
    ]  # fmt: skip
    for operation in asked:
        assert cloud.ended(operation, seconds=WORD_SECONDS)["state"] == "succeeded"
    taken: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    for wave in range(waves):
        chosen = dict(zip(rng.sample(names, len(KINDS)), KINDS, strict=True))
        began: dict[str, tuple[float, int]] = {}
        time.sleep(rng.uniform(0.0, 5.0))  # so that no phase of heartbeat and sweep is preferred
        for name, kind in chosen.items():
            epoch = cloud.machine(name)["epoch"]
            began[name] = (befall(cloud, name, kind), epoch)
            time.sleep(rng.uniform(0.0, 1.5))
        for name, kind in chosen.items():
            moment, epoch = began[name]
            wait_for(lambda n=name, e=epoch: serves_again(cloud, n, e), seconds=WORD_SECONDS, why=f"{name} is back")  # type: ignore[misc]
            op = fenced(cloud, name, moment)
            assert op is not None
            confirm = step(op, "confirm") or {}
            taken[kind].append((confirm["started_at"] - moment, confirm["ended_at"] - confirm["started_at"]))
        say(f"wave {wave + 1}/{waves}: " + ", ".join(f"{KINDS[k]} {sum(t[-1]):.1f} s" for k, t in taken.items()))
        for name in chosen:
            wait_for(lambda n=name: failovers(cloud, n)[0]["state"] != "running", seconds=WORD_SECONDS,  # type: ignore[misc]
                     why=f"the failover of {name} has ended")  # fmt: skip
    return _detection_figures(taken)


def _detection_figures(taken: dict[str, list[tuple[float, float]]]) -> list[Figure]:
    figures = []
    everything = [sum(pair) for pairs in taken.values() for pair in pairs]
    rows = {"all kinds": everything} | {KINDS[k]: [sum(pair) for pair in pairs] for k, pairs in taken.items()}
    for words, seconds in rows.items():
        count = f" ({len(seconds)} runs)"
        figures += [
            Figure(name=f"fault → fenced, {words}, p50{count}", value=statistics.median(seconds), unit="s",
                   goal=P50_GOAL_SECONDS),
            Figure(name=f"fault → fenced, {words}, p99", value=percentile(seconds, 0.99), unit="s",
                   goal=P99_GOAL_SECONDS),
        ]  # fmt: skip
    for kind, pairs in taken.items():
        figures.append(Figure(name=f"  of it silent until suspected, {KINDS[kind]}, p50", unit="s",
                              value=statistics.median(p[0] for p in pairs)))  # fmt: skip
        figures.append(Figure(name=f"  of it the confirmation, {KINDS[kind]}, p50", unit="s",
                              value=statistics.median(p[1] for p in pairs)))  # fmt: skip
    return figures


# --- Cold: own overhead -------------------------------------------------------------------------------------------


def prepare(cloud: Cloud, name: str, **spec: Any) -> None:
    """A machine with files in its workspace and a snapshot of them."""
    ended = cloud.ended(cloud.up(name, race_width=3, **spec), seconds=WORD_SECONDS)
    assert ended["state"] == "succeeded", ended.get("problem")
    write = f"head -c {MODEL_BYTES} /dev/urandom > workspace/model.bin; sync"
    done = cloud.cli("run", name, "--", write)
    assert done.returncode == 0, done.stderr
    accepted = cloud.http.post("/snapshot", json={"name": name}).json()["operation"]
    assert cloud.ended(accepted, seconds=WORD_SECONDS)["state"] == "succeeded"


def cold(cloud: Cloud, *, runs: int, say: Callable[[str], None]) -> list[Figure]:
    """Hosts that hang, one after another; a race of three each time."""
    prepare(cloud, "ada")
    rng = random.Random(3)
    taken = []
    for number in range(runs):
        epoch = cloud.machine("ada")["epoch"]
        time.sleep(rng.uniform(1.0, 6.0))
        moment = befall(cloud, "ada", "hung")
        taken.append(_moved(cloud, "ada", moment, epoch))
        say(f"cold failover {number + 1}/{runs}: {_line(taken[-1])}")
    return [
        *_overhead_figures("cold", taken),
        Figure(name="  not counted: confirmation (part of the time to detect), p50", unit="s",
               value=statistics.median(p["confirm"] for p in taken)),
        *_apart(taken),
        Figure(name="fenced → serving, boot and transfer included, p50", unit="s",
               value=statistics.median(overhead(p) + p["boot"] + p["transfer"] for p in taken)),
    ]  # fmt: skip


def by_hand(cloud: Cloud, *, runs: int, say: Callable[[str], None]) -> list[Figure]:
    """`dumont failover`: the machine is moved while its host lives."""
    taken = []
    for number in range(runs):
        epoch = cloud.machine("ada")["epoch"]
        moment = time.time()
        answer = cloud.http.post("/failover", json={"name": "ada"})
        assert answer.status_code == 202, answer.text
        taken.append(_moved(cloud, "ada", moment, epoch))
        say(f"failover by hand {number + 1}/{runs}: {_line(taken[-1])}")
    total = [parts["confirm"] + overhead(parts) for parts in taken]
    return [Figure(name="by hand: request → serving, less boot and transfer, p50", unit="s",
                   value=statistics.median(total), goal=OVERHEAD_GOAL_SECONDS)]  # fmt: skip


def _moved(cloud: Cloud, name: str, moment: float, epoch: int) -> dict[str, float]:
    machine = wait_for(lambda: serves_again(cloud, name, epoch), seconds=WORD_SECONDS, why=f"{name} serves again")
    op = wait_for(lambda: fenced(cloud, name, moment - 0.001), seconds=10, why="its failover")
    parts = split(cloud, op, machine)
    cloud.ended(op, seconds=WORD_SECONDS)
    return parts


def split(cloud: Cloud, op: Json, machine: Json) -> dict[str, float]:
    """The seconds of each part of a cold failover: from the operation, the market's state and the engine's own files.

    `transfer` is what the engine itself says that its restore took, from its first request to its last hash.
    """
    winner = next(i for i in op["instances"] if i["id"] == machine["instance_id"])
    rented = next(row for row in cloud.market.get("/state").json()["instances"] if row["label"] == winner["id"])
    runs_at = next(phase["at"] for phase in rented["phases"] if phase["actual"] == "running")
    confirm, search = step(op, "confirm"), step(op, "search")
    restore = next(s for s in op["steps"] if s["name"] == "restore" and s["instance_id"] == winner["id"])
    assert confirm is not None
    assert search is not None
    run = next((cloud.folder / "data/market" / str(rented["id"])).glob(f"*/.dumont/runs/{op['id']}-*"))
    launched_at, ended_at = (run / "pid").stat().st_mtime, (run / "status").stat().st_mtime
    transfer = float(json.loads((run / "out.jsonl").read_text().splitlines()[-1])["seconds"])
    return {
        "confirm": confirm["ended_at"] - confirm["started_at"],
        "begin": search["started_at"] - confirm["ended_at"],
        "search": search["ended_at"] - search["started_at"],
        "rent": rented["created_at"] - search["ended_at"],
        "boot": runs_at - rented["created_at"],
        "notice_boot": winner["booted_at"] - runs_at,
        "proof": winner["proven_at"] - winner["booted_at"],
        "launch": launched_at - winner["proven_at"],
        "engine": ended_at - transfer - launched_at,
        "transfer": transfer,
        "notice_restore": restore["ended_at"] - ended_at,
        "win": machine["running_since"] - restore["ended_at"],
    }


def overhead(parts: dict[str, float]) -> float:
    """From the fence until the machine serves, without the winner's boot and the transfer. (No workload runs that the
    old host's lease would have to be waited for.)"""
    return sum(parts[part] for _, part in PARTS)


def _overhead_figures(kind: str, taken: Sequence[dict[str, float]]) -> list[Figure]:
    totals = [overhead(parts) for parts in taken]
    figures = [
        Figure(name=f"{kind}: own overhead, fenced → serving, p50 ({len(taken)} runs)", unit="s",
               value=statistics.median(totals), goal=OVERHEAD_GOAL_SECONDS),
        Figure(name=f"{kind}: own overhead, max", value=max(totals), unit="s", goal=OVERHEAD_GOAL_SECONDS),
    ]  # fmt: skip
    for words, part in PARTS:
        figures.append(Figure(name=f"  {words}, p50", value=statistics.median(p[part] for p in taken), unit="s"))
    return figures


def _apart(taken: Iterable[dict[str, float]]) -> list[Figure]:
    found = list(taken)
    return [
        Figure(name=f"  not counted: {words}, p50", value=statistics.median(p[part] for p in found), unit="s")
        for words, part in (("boot of the winner", "boot"), (f"transfer of {MODEL_BYTES / 1e6:.0f} MB", "transfer"))
    ]


def _line(parts: dict[str, float]) -> str:
    return f"overhead {overhead(parts):.2f} s (" + ", ".join(f"{p} {parts[p]:.2f}" for _, p in PARTS) + ")"


# --- Resume, warm -------------------------------------------------------------------------------------------------


def resume(cloud: Cloud, *, runs: int, say: Callable[[str], None]) -> list[Figure]:
    """A host that only stopped is started again: its disk has what no snapshot has."""
    prepare(cloud, "bob")  # one of its own: a machine that failed over ten times within the hour has to cool down
    seconds = []
    for number in range(runs):
        machine = cloud.machine("bob")
        moment = befall(cloud, "bob", "dies")
        after = wait_for(lambda m=machine: serves_again(cloud, "bob", m["epoch"]), seconds=WORD_SECONDS, why="resumed")  # type: ignore[misc]
        assert after["instance_id"] == machine["instance_id"], "the same instance, started again"
        op = wait_for(lambda at=moment: fenced(cloud, "bob", at), seconds=10, why="its failover")  # type: ignore[misc]
        rented = next(r for r in cloud.market.get("/state").json()["instances"] if r["label"] == after["instance_id"])
        confirm, start = step(op, "confirm") or {}, step(op, "start") or {}
        up_at = max(phase["at"] for phase in rented["phases"] if phase["actual"] == "running")
        starting = up_at - start["ended_at"]
        seconds.append(after["running_since"] - confirm["ended_at"] - starting)
        say(f"resume {number + 1}/{runs}: {seconds[-1]:.2f} s beside {starting:.2f} s of starting")
        cloud.ended(op, seconds=WORD_SECONDS)
    return [Figure(name=f"resume of a stopped instance: fenced → serving, less its start, p50 ({runs} runs)", unit="s",
                   value=statistics.median(seconds), goal=OVERHEAD_GOAL_SECONDS)]  # fmt: skip


def warm(cloud: Cloud, spare: str, *, runs: int, say: Callable[[str], None]) -> list[Figure]:
    """A spare ("running" or "stopped"), kept restored to the last snapshot, takes over from a host that hangs."""
    name = f"warm-{spare}"
    prepare(cloud, name, spare=spare)
    whole, after_fence = [], []
    for number in range(runs):
        epoch = cloud.machine(name)["epoch"]
        wait_for(lambda e=epoch: _has_spare(cloud, name, e), seconds=WORD_SECONDS, why="its spare is ready")  # type: ignore[misc]
        moment = befall(cloud, name, "hung")
        after = wait_for(lambda e=epoch: serves_again(cloud, name, e), seconds=WORD_SECONDS, why="it serves")  # type: ignore[misc]
        op = wait_for(lambda at=moment: fenced(cloud, name, at), seconds=10, why="its failover")  # type: ignore[misc]
        assert "warm" in op["tried"], op["tried"]
        whole.append(after["running_since"] - moment)
        after_fence.append(after["running_since"] - (step(op, "confirm") or {})["ended_at"])
        say(f"{spare} spare {number + 1}/{runs}: {whole[-1]:.1f} s, {after_fence[-1]:.2f} s of it after the fence")
        cloud.ended(op, seconds=WORD_SECONDS)
    down(cloud, [name])
    return [
        Figure(name=f"warm, {spare} spare: death → serving, p50 ({runs} runs)", unit="s",
               value=statistics.median(whole), goal=WARM_GOAL_SECONDS),
        Figure(name=f"warm, {spare} spare: death → serving, max", value=max(whole), unit="s", goal=WARM_GOAL_SECONDS),
        Figure(name="  of it after the fence, p50", value=statistics.median(after_fence), unit="s"),
    ]  # fmt: skip


def _has_spare(cloud: Cloud, name: str, epoch: int) -> bool:
    """Whether the spare of this epoch has been settled: whatever tended it last has succeeded, and nothing runs."""
    found = cloud.http.get("/operations", params={"machine": name}).json()["operations"]
    moved_at = max((op.get("ended_at") or 1e12 for op in found if op["kind"] in ("failover", "snapshot")), default=0.0)
    tended = [op for op in found if op["kind"] == "spare" and (op.get("ended_at") or 0.0) > moved_at]
    return bool(tended) and cloud.machine(name)["epoch"] == epoch and tended[0]["state"] == "succeeded"


def down(cloud: Cloud, names: Iterable[str]) -> None:
    """Let machines go."""
    for operation in [cloud.down(name) for name in names]:
        cloud.ended(operation, seconds=WORD_SECONDS)
