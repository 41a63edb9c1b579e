"""A job's output as it is written: read from whichever host has it, each byte once, and its end from the record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

from dumont.cli.client import Client
from dumont.cli.errors import CliError, Json

if TYPE_CHECKING:
    from dumont.adapters.ssh import ParamikoSession

PIECE_BYTES = 256 * 1024
CONNECT_SECONDS = 8.0
READ_SECONDS = 15.0


def script(offset: int) -> str:
    """What the host is asked: which file, then what is in it from so many bytes on. A log that has become shorter was
    set aside as `workload.log.1`, of which the rest comes first."""
    return (
        f'cd "$HOME/.dumont" 2>/dev/null || exit 0; s=$(wc -c < workload.log 2>/dev/null || echo 0); '
        f'if [ "$s" -lt {offset} ]; then echo old; f=workload.log.1; else echo same; f=workload.log; fi; '
        f"tail -c +{offset + 1} $f 2>/dev/null | head -c {PIECE_BYTES}"
    )


class JobOutput:
    """Writes a job's output to `out`."""

    def __init__(self, client: Client, machine: str, out: BinaryIO) -> None:
        self._client = client
        self._machine = machine
        self._out = out
        self._session: ParamikoSession | None = None
        self._instance: str | None = None
        self._offset = 0
        self.trouble = ""
        """Why nothing could be read at the last look."""

    def read(self) -> bool:
        """Write what is new; whether there is more at once. What cannot be read now is left for the next look."""
        from dumont.domain.errors import DumontError

        try:
            session = self._connected()
            if session is None:
                return False
            answer = session.run(script(self._offset), timeout_seconds=READ_SECONDS).stdout
        except (DumontError, CliError) as error:
            self.trouble = str(error)
            self.close()
            return False
        self.trouble = ""
        which, _, content = answer.partition(b"\n")
        self._write(content)
        full = len(content) >= PIECE_BYTES
        if which == b"old" and not full:
            self._offset = 0
            return True
        self._offset += len(content)
        return full

    def finish(self, kept: Json | None) -> bool:
        """Write what the job's record has beyond what was read; whether that is all there was."""
        self.close()
        if not kept:
            return False
        text = str(kept.get("text") or "").encode()
        size = int(kept.get("file_bytes") or 0)
        if kept.get("instance_id") == self._instance and self._offset <= size:
            new = size - self._offset
            self._write(text[-new:] if new else b"")
            return new <= len(text)
        self._write(text)
        return size <= len(text)

    def close(self) -> None:
        """End the connection, if there is one."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _connected(self) -> ParamikoSession | None:
        if self._session is not None:
            return self._session
        from dumont.adapters.ssh import ParamikoShell
        from dumont.cli.keys import private_key_text
        from dumont.domain.records import SshEndpoint

        route: Json = self._client.get("routes", self._machine).get("route") or {}
        at: dict[str, Any] = route.get("ssh") or {}
        if not at.get("host") or not route.get("host_key"):
            return None
        if route.get("instance_id") != self._instance:
            self._instance, self._offset = route.get("instance_id"), 0
        endpoint = SshEndpoint(host=at["host"], port=at.get("port") or 22, user=at.get("user") or "root")
        shell = ParamikoShell(private_key_text())
        self._session = shell.connect(endpoint, host_key=route["host_key"], timeout_seconds=CONNECT_SECONDS)
        return self._session

    def _write(self, content: bytes) -> None:
        if content:
            self._out.write(content)
            self._out.flush()
