"""What a simulated machine keeps on disk, and where."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import msgspec

from dumont.adapters.shapes import ready
from dumont.local.machine import nvidia_smi

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU as nvidia-smi shows it."""

    name: str
    uuid: str
    driver_version: str
    cuda_version: str
    memory_mib: int
    watts: int
    compute_cap: str
    bus_id: str


class MachineSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine is made with. `environment` reaches each of its commands."""

    gpus: tuple[Gpu, ...]
    environment: Mapping[str, str] = {}
    on_start: str = ""


@dataclass(frozen=True)
class MachineFolder:
    """A machine's folder. All of it goes when the machine is destroyed."""

    path: Path

    @property
    def home(self) -> Path:
        """Where logins begin."""
        return self.path / "home"

    @property
    def workspace(self) -> Path:
        """The user's workspace, inside home."""
        return self.home / "workspace"

    @property
    def programs(self) -> Path:
        """What comes first on PATH: nvidia-smi and Python."""
        return self.path / "bin"

    @property
    def spec_file(self) -> Path:
        """The machine's `MachineSpec`, as JSON. It holds the instance's own key: nobody else may read it."""
        return self.path / "machine.json"

    @property
    def authorized_keys(self) -> Path:
        """The public keys that may log in; read anew at each login."""
        return self.path / "authorized_keys"

    @property
    def host_key(self) -> Path:
        """The SSH server's private key; the same for as long as the folder lives."""
        return self.path / "ssh_host_ed25519_key"

    @property
    def log(self) -> Path:
        """What the container printed, the on-start script's output above all."""
        return self.path / "container.log"

    @property
    def gpus_file(self) -> Path:
        """What nvidia-smi reads."""
        return self.path / nvidia_smi.GPUS_FILE

    @property
    def no_gpu_mark(self) -> Path:
        """If it exists, nvidia-smi finds no driver."""
        return self.path / nvidia_smi.BROKEN_MARK

    def prepare(self, spec: MachineSpec) -> None:
        """Make the folder, or bring one that was stopped up to date. The home and the host key stay as they are."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o700)
        self.workspace.mkdir(parents=True, exist_ok=True)
        self.programs.mkdir(exist_ok=True)
        self._write_secret(self.spec_file, msgspec.json.encode(spec))
        self.authorized_keys.touch()
        if not self.host_key.exists():
            key = asyncssh.generate_private_key("ssh-ed25519")
            self._write_secret(self.host_key, key.export_private_key())
        self.show_gpus(spec.gpus)
        self._write_programs()

    def read_spec(self) -> MachineSpec:
        """What `prepare` was given."""
        return msgspec.json.decode(self.spec_file.read_bytes(), type=ready(MachineSpec))

    def allow_keys(self, public_keys: Iterable[str]) -> None:
        """Let these keys in, and no others, from the next login on."""
        # Written aside and renamed: a login at this very moment sees the old keys or the new ones, never half a file.
        aside = self.path / "authorized_keys.new"
        aside.write_text("".join(f"{key}\n" for key in public_keys))
        aside.replace(self.authorized_keys)

    def show_gpus(self, gpus: Iterable[Gpu]) -> None:
        """What nvidia-smi shows from now on."""
        rows = [
            (g.name, g.uuid, g.driver_version, g.cuda_version, g.memory_mib, g.watts, g.compute_cap, g.bus_id)
            for g in gpus
        ]
        self.gpus_file.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))

    def environment(self) -> dict[str, str]:
        """The environment of the machine's commands: nothing of ours is in it."""
        return {
            "PATH": f"{self.programs}:{SYSTEM_PATH}",
            "HOME": str(self.home),
            "WORKSPACE": str(self.workspace),
            "USER": "root",
            "LOGNAME": "root",
            "SHELL": shell(),
            "LANG": "C.UTF-8",
            **self.read_spec().environment,
        }

    def _write_programs(self) -> None:
        program = self.programs / "nvidia-smi"
        # No site packages and no environment: it starts in some 15 ms, as scripts that poll it expect.
        words = [sys.executable, "-S", "-E", nvidia_smi.__file__, str(self.path)]
        program.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        program.chmod(0o755)
        for name in ("python3", "python"):
            # As an image has Python with what its user needs: here the snapshot engine's packages are part of it.
            python = self.programs / name
            python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
            python.chmod(0o755)
        profile = self.home / ".profile"
        if not profile.exists():
            # A login shell's /etc/profile sets PATH anew.
            profile.write_text(f"export PATH={shlex.quote(str(self.programs))}:$PATH\n")

    @staticmethod
    def _write_secret(path: Path, content: bytes) -> None:
        path.touch(mode=0o600)
        path.write_bytes(content)


def shell() -> str:
    """The shell that commands are run by."""
    return shutil.which("bash", path=SYSTEM_PATH) or "/bin/sh"
