"""SSH to the simulated machines: the few commands that proofs, engines, agents and destroys send."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dumont.agent.boot import agent_file
from dumont.domain.errors import ShellRefused, ShellUnreachable
from dumont.domain.records import SshEndpoint
from dumont.local.market.gpu_models import MODELS
from dumont.local.market.instance import Instance as MarketInstance
from dumont.ports import CommandResult

if TYPE_CHECKING:
    from tests.simulation.world import World

OUR_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIsimulation dumont"


class SimSession:
    """A shell on one instance, which knows the few commands that proofs and destroys send."""

    def __init__(self, world: World, instance: MarketInstance) -> None:
        self._world, self._instance = world, instance
        self._files = world.files.setdefault(instance.id, {})
        self._agent_config: dict[str, Any] = {}
        self.host_key = f"ssh-ed25519 HOST{instance.id}"

    def run(self, command: str, *, stdin: bytes = b"", timeout_seconds: float = 30.0) -> CommandResult:
        self._world.hub.pause(f"shell.{command.split(' ')[0]}")
        if not self._world.reachable(self._instance):
            self._world.hub.pause("shell.timeout", timeout_seconds)
            raise ShellUnreachable("the connection broke off")
        return self._answer(command, stdin)

    def _answer(self, command: str, stdin: bytes) -> CommandResult:
        engine = self._world.engines.answer(self._instance.id, command, stdin)
        if engine is not None:
            return engine
        if "workload.log" in command:
            return _ok(b"6\nhello\n")
        if ".dumont/agent" in command:
            return self._answer_push(command, stdin)
        if command.startswith("mkdir "):
            return _ok(b"")
        if command.startswith("cat > "):
            self._files[command.removeprefix("cat > ")] = stdin
            return _ok(b"")
        if command.startswith("cat -- "):
            return _ok(self._files.pop(command.removeprefix("cat -- ").split(" && ")[0], b""))
        if command.startswith("nvidia-smi "):
            if not self._instance.gpu_works(self._world.hub.now):
                return CommandResult(exit_status=9, stdout=b"NVIDIA-SMI has failed", stderr=b"")
            model = next(m for m in MODELS if m.name == self._instance.ask.fields["gpu_name"])
            shown = self._instance.shown_gpu or self._instance.ask.fields["gpu_name"]
            count = int(self._instance.ask.fields["num_gpus"])
            row = f"{shown}, {self._instance.ask.fields['gpu_ram']}, 550.54\n"
            assert model is not None
            return _ok(row.encode() * count)
        if command.startswith("df "):
            free_kib = max(99_999_999, int(self._instance.order.disk_gb) * 1024 * 1024)
            return _ok(b"Filesystem 1024-blocks Used Available Capacity Mounted\noverlay 1 1 %d 1%% /\n" % free_kib)
        if command.startswith("if [ -e "):
            return _ok("\n".join(sorted(self._files)).encode())
        raise AssertionError(f"a command that the simulated machine does not know: {command}")

    def _answer_push(self, command: str, stdin: bytes) -> CommandResult:
        if "wc -c" in command:
            return _ok(str(len(agent_file())).encode())
        if "config.json" in command and stdin:
            self._agent_config = json.loads(stdin)
            return _ok(b"")
        assert "--replace" in command
        self._world.agents.push(self._instance.id, self._agent_config)
        return _ok(b"dumont agent: started")

    def close(self) -> None:
        pass


def _ok(stdout: bytes) -> CommandResult:
    return CommandResult(exit_status=0, stdout=stdout, stderr=b"")


class SimShell:
    """SSH to the market's instances, by their endpoint."""

    public_key = OUR_KEY

    def __init__(self, world: World) -> None:
        self._world = world

    def connect(self, endpoint: SshEndpoint, *, host_key: str | None, timeout_seconds: float = 10.0) -> SimSession:
        self._world.hub.pause("shell.connect")
        instance = self._world.at_endpoint(endpoint)
        if instance is None or not self._world.reachable(instance):
            self._world.hub.pause("shell.timeout", timeout_seconds)
            raise ShellUnreachable("timed out")
        if not any(key.split()[:2] == OUR_KEY.split()[:2] for key in instance.keys.values()):
            raise ShellRefused("no such key")
        session = SimSession(self._world, instance)
        if host_key is not None:
            assert session.host_key == host_key
        return session
