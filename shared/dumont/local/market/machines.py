"""Keeps real machines in step with the market: what should run, runs; what should not, is killed.

The processes start while the market says "loading", so that a boot takes as long as it is planned to and no longer.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dumont.local.machine.folder import Gpu, MachineFolder, MachineSpec
from dumont.local.market.core import Market
from dumont.local.market.instance import Instance
from dumont.local.market.nursery_client import NurseryClient
from dumont.ports import Clock

LOOK_SECONDS_MOST = 0.25
"""Credit may run out at any moment, so that we look this often even if nothing is planned."""

COMMAND_SECONDS_MOST = 5.0


@dataclass
class _Machine:
    """What we know of one instance's machine. `name` is None while it has no process."""

    folder: MachineFolder
    name: str | None = None
    times: int = 0
    placed: bool = False
    opened_for: float | None = None
    deaf: bool = False
    cut: bool = False
    keys: tuple[str, ...] | None = None
    shown_gpu: str | None = None
    wiped_for: float | None = None


class Machines:
    """The machines of a market. Public methods may be called by any thread."""

    def __init__(self, market: Market, lock: threading.RLock, clock: Clock, folder: Path) -> None:
        """`lock` guards the market; `folder` gets a folder for each machine."""
        self._market = market
        self._lock = lock
        self._clock = clock
        self._folder = folder.resolve()
        self._machines: dict[int, _Machine] = {}
        self._wake = threading.Event()
        self._closing = False
        self._url = ""
        self._nursery: NurseryClient | None = None
        self._disks = ThreadPoolExecutor(1, thread_name_prefix="market-disks")
        self._ticker = threading.Thread(target=self._tick, name="market-machines", daemon=True)

    def start(self, url: str) -> None:
        """Start looking after machines; `url` is where they reach the market."""
        self._url = url
        self._folder.mkdir(parents=True, exist_ok=True)
        for left_over in self._folder.glob("*/machine.json"):
            # A market that ran before knew these disks; this one does not, and nobody can reach them.
            shutil.rmtree(left_over.parent, ignore_errors=True)
        self._nursery = NurseryClient(self._on_event)
        self._nursery.wait_until_ready()
        self._ticker.start()

    def close(self) -> None:
        """Kill them all. The folders stay until a market starts here again."""
        with self._lock:
            self._closing = True
            nursery = self._nursery
        self._wake.set()
        if self._ticker.is_alive():
            self._ticker.join()
        if nursery is not None:
            nursery.close()
        self._disks.shutdown(wait=True)

    def look(self) -> None:
        """Bring the machines into step with the market now. What this orders is done within milliseconds."""
        self._look()
        self._wake.set()  # what changes next may come sooner than the ticker thinks

    def _look(self) -> None:
        with self._lock:
            if self._closing or self._nursery is None:
                return
            now = self._clock.now()
            live = {i.id: i for i in [*self._market.live(now), *self._market.unreached(now)]}
            for instance in live.values():
                self._follow(instance, now, self._nursery)
            for instance_id in self._machines.keys() - live.keys():
                self._discard(instance_id, self._nursery)

    def read_log(self, instance_id: int, daemon: bool) -> str:
        """An instance's log, or its daemon's: what the market did with it."""
        with self._lock:
            machine = self._machines.get(instance_id)
            now = self._clock.now()
            if daemon or machine is None:
                phases = self._market.instance(instance_id, now).timeline.all()
                return "".join(f"{p.at:.3f} {p.actual or 'created'} {p.message}\n" for p in phases if p.at <= now)
        if not machine.folder.log.exists():
            return ""
        return machine.folder.log.read_text(errors="replace")

    def execute(self, instance_id: int, words: list[str]) -> str:
        """Run ls, rm or du on a machine's files, and give its output. Paths outside its home do not exist for it."""
        folder = self._machines[instance_id].folder
        command = [words[0]]
        for word in words[1:]:
            if word.startswith("-"):
                command.append(word)
                continue
            path = (folder.home / _inside(word)).resolve()
            if not path.is_relative_to(folder.home):
                return f"{words[0]}: cannot access '{word}': No such file or directory\n"
            command.append(str(path))
        try:
            done = subprocess.run(
                command,
                cwd=folder.home,
                env=folder.environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=COMMAND_SECONDS_MOST,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return "The command took too long.\n"
        return done.stdout.decode(errors="replace").replace(str(folder.home), "/root")

    # --- One instance ---------------------------------------------------------------------------------------------

    def _follow(self, instance: Instance, now: float, nursery: NurseryClient) -> None:
        machine = self._machines.get(instance.id)
        if machine is None:
            machine = self._machines[instance.id] = _Machine(MachineFolder(self._folder / str(instance.id)))
        since = instance.container_since(now)
        if machine.name is not None and machine.opened_for is not None and machine.opened_for != since:
            # It was stopped or died since; or it is back already, which is a new container.
            self._kill(machine, nursery)
        phase = instance.phase(now)
        if phase.actual == "recycling" and machine.name is None and machine.wiped_for != phase.at:
            shutil.rmtree(machine.folder.home, ignore_errors=True)
            machine.wiped_for = phase.at
        if machine.name is None and instance.will_have_container(now):
            machine.times += 1
            machine.name = f"{instance.id}.{machine.times}"
            machine.folder.prepare(self._spec(instance))
            machine.keys = machine.shown_gpu = None
            nursery.spawn(machine.name, str(machine.folder.path))
        if machine.name is None:
            return
        self._keep_up(instance, machine, now)
        if machine.cut is instance.network_works(now):
            # Before it boots: what its on-start script sends must not get out.
            machine.cut = not machine.cut
            nursery.say(machine.name, "cut" if machine.cut else "mend")
        if since is not None and machine.placed and machine.opened_for is None:
            machine.opened_for = since
            nursery.say(machine.name, "boot")
            if instance.ssh_serves(now):
                nursery.say(machine.name, "open")
        if machine.opened_for is not None and not machine.deaf and not instance.ssh_serves(now):
            machine.deaf = True
            nursery.say(machine.name, "deaf")

    def _keep_up(self, instance: Instance, machine: _Machine, now: float) -> None:
        """Bring up to date what a running machine reads from its folder."""
        keys = tuple(instance.keys.values())
        if keys != machine.keys:
            machine.folder.allow_keys(keys)
            machine.keys = keys
        if instance.shown_gpu != machine.shown_gpu:
            machine.folder.show_gpus(_gpus(instance))
            machine.shown_gpu = instance.shown_gpu
        if instance.gpu_works(now):
            machine.folder.no_gpu_mark.unlink(missing_ok=True)
        else:
            machine.folder.no_gpu_mark.touch()

    def _kill(self, machine: _Machine, nursery: NurseryClient) -> None:
        if machine.name is not None:
            nursery.kill(machine.name)
        machine.name, machine.opened_for = None, None
        machine.placed = machine.deaf = machine.cut = False

    def _discard(self, instance_id: int, nursery: NurseryClient) -> None:
        machine = self._machines.pop(instance_id)
        if machine.name is None:
            self._delete(machine.folder.path)
        else:
            nursery.kill(machine.name)  # its folder goes when the processes that write to it are gone

    def _delete(self, path: Path) -> None:
        """Delete a disk aside: a large one takes seconds, and nobody should wait for it."""
        with contextlib.suppress(RuntimeError):  # closed: the next start deletes it
            self._disks.submit(shutil.rmtree, path, ignore_errors=True)

    def _spec(self, instance: Instance) -> MachineSpec:
        return MachineSpec(
            gpus=_gpus(instance),
            on_start=instance.order.onstart,
            environment={
                **instance.order.variables,
                "CONTAINER_ID": str(instance.id),
                "CONTAINER_API_KEY": instance.container_key,
                "VAST_CONTAINERLABEL": f"C.{instance.id}",
                "VAST_URL": self._url,
                "GPU_COUNT": str(instance.ask.num_gpus),
            },
        )

    # --- Threads --------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        while not self._closing:
            self._wake.clear()
            self._look()
            with self._lock:
                now = self._clock.now()
                due = self._market.next_change(now)
            wait = LOOK_SECONDS_MOST if due is None else min(LOOK_SECONDS_MOST, max(0.0, due - now))
            self._wake.wait(wait)

    def _on_event(self, event: Mapping[str, Any]) -> None:
        name = str(event.get("name", ""))
        instance_id = int(name.partition(".")[0] or 0)
        with self._lock:
            machine = self._machines.get(instance_id)
            current = machine is not None and machine.name == name
            if event["event"] == "spawned" and machine is not None and current:
                machine.placed = True
                self._market.place(instance_id, "127.0.0.1", int(event["port"]))
            elif event["event"] == "gone" and machine is not None and current:
                self._ended_by_itself(instance_id, machine)
            elif event["event"] == "closed" and not self._closing:
                self._nursery_died()
        if event["event"] == "gone" and machine is None:
            self._delete(self._folder / str(instance_id))
        self.look()

    def _ended_by_itself(self, instance_id: int, machine: _Machine) -> None:
        machine.name = None
        machine.placed = machine.deaf = machine.cut = False
        if machine.opened_for is not None:
            machine.opened_for = None
            self._market.container_exited(instance_id, self._clock.now())

    def _nursery_died(self) -> None:
        for instance_id, machine in self._machines.items():
            if machine.name is not None:
                self._ended_by_itself(instance_id, machine)
        self._nursery = NurseryClient(self._on_event)


def _inside(word: str) -> str:
    """A path as the user names it, relative to the machine's home."""
    for prefix, place in (("/workspace", "workspace"), ("/root", "."), ("~", ".")):
        if word == prefix or word.startswith(f"{prefix}/"):
            return f"{place}/{word.removeprefix(prefix).lstrip('/')}"
    return word


def _gpus(instance: Instance) -> tuple[Gpu, ...]:
    model, fields = instance.ask.model, instance.ask.fields
    return tuple(
        Gpu(
            name=instance.shown_gpu or model.driver_name,
            uuid=f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, f'{instance.ask.machine_id}/{instance.ask.id}/{index}')}",
            driver_version=instance.ask.driver_version,
            cuda_version=str(fields["cuda_max_good"]),
            memory_mib=model.vram_mib,
            watts=model.watts,
            compute_cap=f"{model.compute_cap / 100:.1f}",
            bus_id=f"00000000:{index + 1:02X}:00.0",
        )
        for index in range(instance.ask.num_gpus)
    )
