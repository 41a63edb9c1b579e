"""The main job through the HTTP API, as a user does it: search, race, use, keep what matters, destroy, make sure."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from dumont.adapters.ssh import stream
from dumont.cli.client import Client
from dumont.cli.errors import CliError, Json
from dumont.cli.follow import failure, follow
from dumont.cli.keys import ensure_key
from dumont.cli.output import Cli, duration, money
from dumont.cli.views import gpu_text
from dumont.domain.records import Instance, Proof, SshEndpoint
from dumont.local.demo import moving, sleeping
from dumont.local.demo.recording import Check, MarketBill, Recording, Resource, Span
from dumont.local.demo.saving import Saving

MACHINE = "demo"
SPEC: dict[str, Any] = {
    "gpu": "RTX 4090",
    "max_price_usd_per_hour": 0.60,
    "disk_gb": 20,
    "race_width": 3,
    "budget_usd": 1.0,
    **moving.SPEC,
    **sleeping.SPEC,
}
WORK = (
    "nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader && "
    "cd workspace && awk 'BEGIN { for (i = 0; i < 1000000; i++) s += (i % 2 ? -4 : 4) / (2 * i + 1); "
    'printf "pi is about %.5f\\n", s }\' | tee result.txt'
)
WORK_SHOWS = "3.14159"
BILL_TOLERANCE_SECONDS = 3.0
"""Dumont sees a boot's end or a rental's end only when it asks; between two looks lie a second or two."""


class Job:
    """One run, and all that it saw. `say` takes a line of progress for a person."""

    def __init__(
        self,
        cli: Cli,
        client: Client,
        *,
        market: Callable[[str], Any],
        kill: Callable[[str], None],
        config_folder: Path,
        port: int,
    ) -> None:
        self._cli = cli
        self._client = client
        self._port = port
        self._spec = SPEC | {"run": sleeping.served_by(moving.RUN, port)}
        self._sleeping = sleeping.Sleeping(
            cli, client, MACHINE, port=port, look=self._looked_at, live=lambda: len(_live(market("state")))
        )
        self._market = market
        self._kill = kill
        self._config_folder = config_folder
        self.checks: list[Check] = []
        self._spans: list[Span] = []
        self._machine: Json = {}
        self._instances: list[Instance] = []
        self._bills: list[MarketBill] = []
        self._offers_found = 0
        self._output: list[str] = []
        self._saved: tuple[Resource, ...] = ()
        self._moved: tuple[Resource, ...] = ()
        self._savings: tuple[Resource, ...] = ()
        self._served: list[str] = []
        self._started_at = time.time()
        self._ended_at: float | None = None

    def run(self) -> None:
        """The whole job. Raises `CliError` where it cannot go on; what was seen until then is kept."""
        self._started_at = time.time()
        self._search()
        self._rent()
        self._use()
        saved = self._save()
        self._move(saved)
        self._sleep(saved)
        self._refuse()
        self._destroy()
        self._confirm()
        self._ended_at = time.time()

    def recording(self, *, demo_seconds: float, time_scale: float) -> Recording:
        """What was seen so far."""
        proof = self._machine.get("proof")
        read = msgspec.convert({"started_at": 0.0, **proof}, Proof) if proof else None
        return Recording(
            machine=MACHINE,
            started_at=self._started_at,
            ended_at=self._ended_at or time.time(),
            demo_seconds=demo_seconds,
            time_scale=time_scale,
            spans=tuple(self._spans),
            instances=tuple(self._instances),
            checks=tuple(self.checks),
            winner_id=self._machine.get("instance_id"),
            proof=read,
            gpus=read.gpus if read else (),
            bills=tuple(self._bills),
            offers_found=self._offers_found,
            output=tuple(self._output),
            saved=self._saved,
            moved=self._moved,
            slept=self._sleeping.lines,
            savings=self._savings,
            served_ids=tuple(self._served),
        )

    def check(self, name: str, ok: bool, seen: str = "") -> None:
        """Note whether something held."""
        self.checks.append(Check(name=name, ok=ok, seen=seen))

    @contextmanager
    def _step(self, name: str, told: str) -> Iterator[None]:
        self._cli.note(f"→ {told}")
        started = time.time()
        try:
            yield
        finally:
            self._spans.append(Span(name=name, started_at=started, ended_at=time.time()))

    # --- The parts --------------------------------------------------------------------------------------------------

    def _search(self) -> None:
        filters = {name: SPEC[name] for name in ("gpu", "max_price_usd_per_hour", "disk_gb")}
        with self._step("search", f"search: {SPEC['gpu']} up to {money(SPEC['max_price_usd_per_hour'], 2)}/h"):
            found = self._client.get("search", **filters)
        offers = found.get("offers") or []
        self._offers_found = found.get("count") or len(offers)
        dearest = max((o.get("price_usd_per_hour") or 0.0 for o in offers), default=0.0)
        fits = all(gpu_text(o.get("offer") or {}) == SPEC["gpu"] for o in offers)
        self.check(
            "search finds offers, and only such as were asked for",
            bool(offers) and fits and dearest <= SPEC["max_price_usd_per_hour"],
            f"{self._offers_found} offers, up to {money(dearest)}/h",
        )
        for ranked in offers[:3]:
            offer = ranked.get("offer") or {}
            price = money(ranked.get("price_usd_per_hour"))
            self._cli.note(f"    {gpu_text(offer)} in {offer.get('region') or 'an unknown place'} at {price}/h")

    def _rent(self) -> None:
        public_key = ensure_key(folder=self._config_folder)[1]
        self._cli.note(f"→ rent: race {SPEC['race_width']}, keep the first that proves itself")
        accepted = self._client.post("provision", body={"name": MACHINE, **self._spec, "ssh_public_keys": [public_key]})
        operation = follow(self._cli, self._client, accepted.get("operation") or {})
        self._look()
        error = failure(operation)
        if error is not None:
            raise error
        self._sleeping.keep_awake()
        self._spans += _main_path_of_provision(operation, str(self._machine.get("instance_id")))
        self._check_race(operation)

    def _check_race(self, operation: Json) -> None:
        rentals = operation.get("instances") or []
        losers = [i for i in rentals if i.get("id") != self._machine.get("instance_id")]
        hosts = {(i.get("offer") or {}).get("host_id") for i in rentals}
        self.check(
            "several offers raced, on hosts of their own",
            len(rentals) >= 2 and len(hosts) == len(rentals),
            f"{len(rentals)} rentals on {len(hosts)} hosts",
        )
        gone = [i for i in losers if i.get("state") == "gone"]
        self.check(
            "each loser is gone, as its provider says", len(gone) == len(losers), f"{len(gone)} of {len(losers)}"
        )
        proof = self._machine.get("proof") or {}
        tried = proof.get("checks") or []
        self.check(
            "the winner proved itself before it was called running",
            self._machine.get("state") == "running" and bool(tried) and all(c.get("ok") for c in tried),
            ", ".join(f"{c.get('name')} {duration(c.get('seconds'))}" for c in tried),
        )
        models = [str(gpu.get("model")) for gpu in proof.get("gpus") or []]
        wanted = str(SPEC["gpu"]).removeprefix("RTX ")
        self.check("its GPU is the one that was ordered", any(wanted in m for m in models), ", ".join(models))

    def _use(self) -> None:
        out, err = _Lines(self._cli), _Lines(self._cli)
        with self._step("use", "use it: nvidia-smi and a small computation over SSH, its host key pinned"):
            status = stream(*self._address(), WORK, out, err)
        self._output = out.lines()
        text = "\n".join(self._output)
        self.check(
            "a command runs on it, its output streamed over SSH",
            status == 0 and WORK_SHOWS in text,
            f"exit status {status}, {out.pieces} pieces of output",
        )

    def _save(self) -> Saving:
        """Files, a snapshot of them, an accident, and a restore."""
        saving = Saving(self._cli, self._client, MACHINE, self._command)
        with self._step("write files", "write weights and 200 small files into its workspace"):
            saving.write()
        with self._step("snapshot", "take a snapshot: encrypted on the machine, sent from there to the object store"):
            saving.take()
        with self._step("lose files", "an accident: some are changed, some deleted"):
            saving.lose()
        with self._step("restore", "restore the snapshot, and hash every file again"):
            saving.restore()
        self.checks += saving.checks
        self._saved = saving.lines
        return saving

    def _move(self, saved: Saving) -> None:
        """The host dies under its workload."""
        job = moving.Moving(
            self._cli, self._client, MACHINE, kill=self._kill, run=self._command, look=self._looked_at
        )  # fmt: skip
        self._cli.note("→ kill the host, at once and without a word, while its workload runs")
        job.die(saved.hashes, saved.hash)
        self._spans += job.spans
        self.checks += job.checks
        self._moved = job.lines

    def _sleep(self, saved: Saving) -> None:
        """Nobody uses it for a while; then somebody asks for it."""
        self._cli.note("→ leave it alone: nothing uses it, and it may sleep now")
        self._sleeping.sleep()
        self._cli.note("→ ask the sleeping machine for one of its files, by HTTP")
        self._sleeping.wake()
        same = saved.hash() == saved.hashes
        self._sleeping.checks.append(
            Check(name="what it wakes with equals what it fell asleep with, byte for byte", ok=same)
        )
        self._spans += self._sleeping.spans
        self.checks += self._sleeping.checks

    def _looked_at(self) -> Json:
        self._look()
        return self._machine

    def _command(self, command: str) -> str:
        """A command's output, its exit status looked at."""
        out, err = io.BytesIO(), io.BytesIO()
        status = stream(*self._address(), command, out, err)
        if status != 0:
            words = err.getvalue().decode(errors="replace").strip()
            raise CliError(f"a command on {MACHINE} ended with status {status}: {words[:300]}", code="command_failed")
        return out.getvalue().decode(errors="replace")

    def _address(self) -> tuple[SshEndpoint, str, str]:
        """Where it answers, its pinned host key, and our private key."""
        at = self._machine.get("ssh") or {}
        host_key = self._machine.get("host_key")
        if not at.get("host") or not host_key:
            raise CliError(f"{MACHINE} runs and has no address or no pinned host key", code="no_address")
        private_key = (self._config_folder / "id_ed25519").read_text(encoding="utf-8")
        endpoint = SshEndpoint(host=at["host"], port=at["port"], user=at.get("user") or "root")
        return endpoint, host_key, private_key

    def _refuse(self) -> None:
        self._command("echo mine > workspace/notes.txt")
        with self._step("destroy refused", "try to destroy it without --discard: notes.txt is in no snapshot"):
            accepted = self._client.post("destroy", body={"name": MACHINE, "discard": False})
            operation = follow(self._cli, self._client, accepted.get("operation") or {})
            self._look()
        code = (operation.get("problem") or {}).get("code")
        self._cli.note("    refused, as it must be: nothing that a user has is destroyed unasked")
        self.check(
            "a workspace with unsaved files in it is not destroyed unasked",
            operation.get("state") == "failed" and code == "unsaved_files" and self._state() == "running",
            f"{operation.get('state')}: {code}; the machine is {self._state()}",
        )

    def _destroy(self) -> None:
        with self._step("destroy", "destroy it with --discard"):
            accepted = self._client.post("destroy", body={"name": MACHINE, "discard": True})
            operation = follow(self._cli, self._client, accepted.get("operation") or {})
        error = failure(operation)
        if error is not None:
            raise error

    def _confirm(self) -> None:
        with self._step("confirm gone", "make sure that nothing is left, here and at the market"):
            while_it_ran = self._machine
            self._look()
            now = {name: self._machine.get(name) for name in ("state", "cost_usd")}
            self._machine = while_it_ran | now  # its proof and its winner are still to be reported
            listed = self._client.get("machines").get("machines") or []
            live = _live(self._market("state"))
        open_ones = [i for i in self._instances if i.gone_at is None]
        self.check(
            "Dumont's books hold nothing open",
            not listed and not open_ones and self._state() == "destroyed",
            f"the machine is {self._state()}, {len(open_ones)} rentals open",
        )
        self.check("the market has no live instance", not live, f"{len(live)} live")
        self._check_bill()
        self._savings = self._sleeping.savings()

    def _check_bill(self) -> None:
        lines = self._market("bill").get("instances") or []
        self._bills = [
            MarketBill(
                instance_id=str(line["label"]), gpu_usd=float(line["gpu_usd"]), storage_usd=float(line["storage_usd"])
            )
            for line in lines
            if line.get("label")
        ]
        ours = float(self._machine.get("cost_usd") or 0.0)
        theirs = sum(bill.total_usd for bill in self._bills)
        rate = sum(i.offer.total_usd_per_hour(i.disk_gb) for i in self._instances)
        allowed = rate * BILL_TOLERANCE_SECONDS / 3600
        known = {bill.instance_id for bill in self._bills} == {i.id for i in self._instances}
        self.check(
            f"Dumont's cost is the market's bill, to {BILL_TOLERANCE_SECONDS:g} s of billing per rental",
            known and abs(ours - theirs) <= allowed and ours > 0,
            f"{money(ours, 6)} by our books, {money(theirs, 6)} by the market's ({len(lines)} rentals)",
        )

    # --- Looking ----------------------------------------------------------------------------------------------------

    def _look(self) -> None:
        seen = self._client.get("machines", MACHINE)
        self._machine = seen.get("machine") or {}
        disk_gb = float((self._machine.get("spec") or {}).get("disk_gb") or SPEC["disk_gb"])
        self._instances = [instance_of(view, disk_gb) for view in seen.get("instances") or []]
        serves = self._machine.get("instance_id")
        if serves is not None and serves not in self._served:
            self._served.append(serves)

    def _state(self) -> str:
        return str(self._machine.get("state"))


def instance_of(view: Json, disk_gb: float) -> Instance:
    """The domain's record of a rental from the API's view of it, so that costs are computed in one place only."""
    record = {"operation_id": "", "disk_gb": disk_gb, "open": view.get("state") != "gone", **view}
    return msgspec.convert(record, Instance)


def _main_path_of_provision(operation: Json, winner_id: str) -> list[Span]:
    """What the user waited for: the winner's own steps, what came before its creation, and the losers' release."""
    winner: Json = next((i for i in operation.get("instances") or [] if i.get("id") == winner_id), {})
    created_at = winner.get("created_at") or float("inf")
    spans = []
    for step in operation.get("steps") or []:
        name = str(step.get("name"))
        mine = step.get("instance_id") in (None, winner_id)
        before_winner = name == "rent" and (step.get("started_at") or 0.0) < created_at
        if (name == "rent" and before_winner) or name == "release" or (mine and name != "rent"):
            spans.append(Span(name=name, started_at=step["started_at"], ended_at=step["ended_at"]))
    return spans


def _live(state: Any) -> list[Any]:
    instances = state.get("instances") or []
    return [i for i in instances if i.get("exists", True)]


class _Lines(io.BytesIO):
    """Shows what comes, line by line, and keeps it."""

    def __init__(self, cli: Cli) -> None:
        super().__init__()
        self._cli = cli
        self._shown = 0
        self.pieces = 0

    def write(self, piece: Any) -> int:
        """Take a piece of output."""
        self.pieces += 1
        written = super().write(piece)
        complete = self.getvalue().rpartition(b"\n")[0].decode(errors="replace").splitlines()
        for line in complete[self._shown :]:
            self._cli.note(f"    │ {line}")
        self._shown = len(complete)
        return written

    def lines(self) -> list[str]:
        """All that came."""
        return self.getvalue().decode(errors="replace").splitlines()
