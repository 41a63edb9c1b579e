"""Gateway tokens: which machine they open, signed. Nothing is stored but the machine's generation, which ends them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac

import msgspec

from dumont.domain.records import Machine

PREFIX = "dgw_"
CHARACTERS_MOST = 400
# The secret is that of agents' tokens; the purpose keeps either from passing for the other.
_PURPOSE = b"dumont gateway token 1\n"


class GatewayToken(msgspec.Struct, frozen=True, kw_only=True):
    """What a token says. `life` tells a machine from an earlier one of the same name; `expires_at` 0: when rotated."""

    machine: str
    generation: int
    life: int
    expires_at: int

    def opens(self, machine: Machine | None, now: float) -> bool:
        """Whether it still counts for the machine as it is."""
        return (
            machine is not None
            and machine.id == self.machine
            and machine.gateway_generation == self.generation
            and _life(machine) == self.life
            and (self.expires_at == 0 or now < self.expires_at)
        )


def _life(machine: Machine) -> int:
    return int(machine.created_at * 1000)


def make(secret: bytes, machine: Machine, *, expires_at: int = 0) -> str:
    """A token for one machine. `expires_at` in whole seconds since the epoch; 0: it ends by rotation alone."""
    text = f"{machine.id}\n{machine.gateway_generation}\n{_life(machine)}\n{expires_at}"
    words = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
    return f"{PREFIX}{words}_{_signature(secret, words)}"


def read(secret: bytes, text: str) -> GatewayToken | None:
    """What a token says, if we signed it. Takes as long for a wrong signature as for a right one."""
    if not secret or len(text) > CHARACTERS_MOST or not text.isascii() or not text.startswith(PREFIX):
        return None
    words, _, signature = text[len(PREFIX) :].rpartition("_")
    if not hmac.compare_digest(signature, _signature(secret, words)):
        return None
    try:
        content = base64.b64decode(words + "=" * (-len(words) % 4), altchars=b"-_", validate=True).decode()
        machine, generation, life, expires_at = content.split("\n")
        return GatewayToken(machine=machine, generation=int(generation), life=int(life), expires_at=int(expires_at))
    except (binascii.Error, ValueError):
        return None  # signed with our secret, but by a version that wrote something else


def _signature(secret: bytes, words: str) -> str:
    return hmac.new(secret, _PURPOSE + words.encode(), hashlib.sha256).hexdigest()
