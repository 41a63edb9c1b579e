"""The ports: what operations need of the world. One adapter a file in `adapters/`; contract suites in `tests/contract`.

Every adapter bounds each call in time (below `CALL_SECONDS_MAX`), so that a lease outlasts any call made under it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import msgspec

from dumont.domain.errors import BlobRefused, InvalidInput
from dumont.domain.keys import ApiKey
from dumont.domain.offers import Offer, OfferQuery
from dumont.domain.records import Record, SshEndpoint
from dumont.domain.statuses import InstanceStatus, ProviderInstance
from dumont.optional_ports import Dns, SweepSchedule

R = TypeVar("R", bound=Record)
T = TypeVar("T")

CALL_SECONDS_MAX = 45.0
"""No single port call takes longer; an invocation's lease (60 s) is renewed before each."""


# --- Store --------------------------------------------------------------------------------------------------------


class Where(msgspec.Struct, frozen=True):
    """One condition of a query: `field` (a top-level field of the record), an operator (==, <= or in), a value.

    The value of `in` is a tuple of at most 30 (Firestore's limit); the record's field is one of them.
    """

    field: str
    op: str
    value: str | int | float | bool | tuple[str | int, ...]


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """A query on one collection; all of them are made in `dumont.queries`, which `infra`'s indexes follow."""

    where: tuple[Where, ...] = ()
    order_by: str | None = None
    descending: bool = False
    limit: int = 1000


class Transaction(Protocol):
    """Reads, then writes, all or nothing. Nothing read here changes before the commit, or the whole work runs again."""

    def get(self, kind: type[R], record_id: str) -> R | None:
        """The record, or None."""
        ...

    def put(self, record: Record) -> None:
        """Write the record, whether or not it was there."""
        ...

    def create(self, record: Record) -> None:
        """Write the record unless one of its id is there; then it stays as it was, and nothing is raised."""
        ...

    def delete(self, kind: type[Record], record_id: str) -> None:
        """Remove the record if it is there."""
        ...


class Store(Protocol):
    """Records, with transactions. Raises `Contention`, or `StoreUnavailable` where an outcome may be unknown."""

    def get(self, kind: type[R], record_id: str) -> R | None:
        """The record as last committed, or None."""
        ...

    def find(self, kind: type[R], query: Query) -> list[R]:
        """The records that pass the query. Outside a transaction: by the time they are read they may have changed."""
        ...

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction and commit; on a conflict run it again, so it has no effect but its writes.

        An exception raised by `work` rolls back and propagates.
        """
        ...


# --- Bus ----------------------------------------------------------------------------------------------------------


class Bus(Protocol):
    """Messages to workers, at least once, in no order. Raises `BusUnavailable`."""

    def publish(self, topic: str, message: Mapping[str, str]) -> None:
        """Send a message to the function that listens to the topic."""
        ...


# --- Provider -----------------------------------------------------------------------------------------------------


class Rental(msgspec.Struct, frozen=True, kw_only=True):
    """What to rent. `bid_usd_per_hour` None is on-demand; `on_start` is at most 4,096 characters."""

    label: str
    image: str
    disk_gb: float
    bid_usd_per_hour: float | None = None
    on_start: str = ""
    environment: Mapping[str, str] = {}


class Provider(Protocol):
    """A GPU market. Each call raises a `ProviderError`; its type says whether it had an effect."""

    name: str

    def search(self, query: OfferQuery) -> list[Offer]:
        """Every offer that passes the query, from all pages, in no order; filters are checked again here."""
        ...

    def create(self, offer: Offer, rental: Rental) -> str:
        """Rent the offer and answer with the instance's id. Never retried inside: a lost answer is `ProviderDown`,
        and the caller looks for the label before it tries again.
        """
        ...

    def get(self, instance_id: str) -> ProviderInstance:
        """The instance. Raises `NotFound` only if the provider says that there is none."""
        ...

    def list(self, label_prefix: str) -> list[ProviderInstance]:
        """Every instance of ours whose label begins so, from all pages. Raises rather than answer with a part."""
        ...

    def start(self, instance_id: str) -> None:
        """Start a stopped instance. Raises `StartRefused` (it may be queued: `stop` cancels)."""
        ...

    def stop(self, instance_id: str) -> None:
        """Stop an instance; its disk goes on billing."""
        ...

    def destroy(self, instance_id: str) -> None:
        """Ask for its destruction; of one that is gone already, this succeeds. Only `get` proves that it is gone."""
        ...

    def attach_ssh_key(self, instance_id: str, public_key: str) -> None:
        """Let the key in. Attaching it twice is attaching it once."""
        ...

    def logs(self, instance_id: str, *, tail: int = 100) -> str:
        """The last lines of the instance's log."""
        ...

    def change_bid(self, instance_id: str, bid_usd_per_hour: float) -> None:
        """Change an interruptible instance's bid."""
        ...

    def credit_usd(self) -> float | None:
        """What the account can still spend; None if it does not say."""
        ...


# --- Shell --------------------------------------------------------------------------------------------------------


class CommandResult(msgspec.Struct, frozen=True, kw_only=True):
    """A command's end: exit status (−1 if a signal ended it) and its output, each cut at `Shell`'s limit."""

    exit_status: int
    stdout: bytes
    stderr: bytes


class ShellSession(Protocol):
    """An open connection to one host."""

    host_key: str
    """The host's public key as OpenSSH writes it ("ssh-ed25519 AAAA…"); to be pinned."""

    def run(self, command: str, *, stdin: bytes = b"", timeout_seconds: float = 30.0) -> CommandResult:
        """Run a command by the login's shell. Raises `ShellUnreachable` if the connection breaks or time is up."""
        ...

    def close(self) -> None:
        """Close it; closing twice is closing once."""
        ...


class Shell(Protocol):
    """SSH to machines."""

    public_key: str
    """The control plane's own public key, to be attached to instances."""

    def connect(self, endpoint: SshEndpoint, *, host_key: str | None, timeout_seconds: float = 10.0) -> ShellSession:
        """Connect. With `host_key`, any other key raises `HostKeyChanged`; with None, the first one seen is taken and
        is the caller's to pin. Raises `ShellUnreachable` or `ShellRefused`.
        """
        ...


# --- Clock and ids ------------------------------------------------------------------------------------------------


class Clock(Protocol):
    """Time."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait. The sweep does, and who waits for a moment; else an operation ends its invocation, with a deadline."""
        ...


class Ids(Protocol):
    """Randomness: identifiers and bytes that nobody can guess."""

    def new(self, prefix: str) -> str:
        """A new identifier, such as "op-8f3c…": lower-case letters, digits and hyphens."""
        ...

    def random_bytes(self, count: int) -> bytes:
        """Bytes that nobody can guess."""
        ...


def _no_blobs() -> Blobs:
    raise BlobRefused("no object store is configured (DUMONT_BLOBS)")


def _no_data_key(machine: str) -> bytes:
    raise BlobRefused(f"no key is configured to encrypt snapshots of {machine} with (DUMONT_DATA_MASTER_KEY)")


def _no_agent_secret() -> bytes:
    raise InvalidInput("no key is configured to make tokens with", field="DUMONT_TOKEN_KEY")


def _no_subscription_secret(_subscription: str, _generation: int) -> bytes:
    raise InvalidInput("no key is configured to sign webhooks with", field="DUMONT_TOKEN_KEY")


class EngineFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What a host needs to run the snapshot engine: the program, and the lock of the packages that make it fast."""

    program: bytes
    wheels: bytes


def _no_engine() -> EngineFiles:
    raise BlobRefused("no snapshot engine is at hand")


@dataclass(frozen=True, kw_only=True)
class Ports:
    """Everything that an operation needs, in one hand. `shell` is made at its first use: few functions need one."""

    store: Store
    bus: Bus
    providers: Mapping[str, Provider]
    make_shell: Callable[[], Shell]
    clock: Clock
    ids: Ids
    deployment: str
    make_blobs: Callable[[], Blobs] = _no_blobs
    data_key: Callable[[str], bytes] = _no_data_key
    """A machine's name → the 32 bytes that its snapshots are encrypted with."""
    public_url: str = ""
    """Where agents reach our functions; "" where they cannot: then machines run without an agent, unwatched."""
    agent_secret: Callable[[], bytes] = _no_agent_secret
    """What agents' tokens are made with."""
    token_secret: Callable[[], bytes] = _no_agent_secret
    """What the private half of the pair is made of that signs callers' tokens: 32 bytes."""
    bootstrap_key: ApiKey | None = None
    """The key of the deployment's settings, by which one can always get in."""
    make_schedule: Callable[[], SweepSchedule] | None = None
    """What starts the sweeps, where it can be paused while nothing runs."""
    make_dns: Callable[[], Dns] | None = None
    dns_zone: str = ""
    """Where machines' names stand in DNS: NAME.zone; "" where they do not."""
    alerts: bool = False
    """Whether somebody is to be told what happens by itself (`domain.alerts`): then it is written down, and a worker
    tells it."""
    subscriptions: bool = False
    """Whether programs may want to be told (`domain.subscriptions`): then who does is looked up when there is news."""
    subscription_secret: Callable[[str, int], bytes] = _no_subscription_secret
    """A subscription's id and its secret's generation → the 32 bytes that its messages are signed with."""
    engine: Callable[[], EngineFiles] = _no_engine
    """The snapshot engine, as the files that go to hosts."""


# --- Blobs --------------------------------------------------------------------------------------------------------

KeyRight = Literal["write", "read"]
"""`write`: put new objects (in pieces too) and nothing else: no reading, no listing, no deleting. `read`: get objects
whose names are known, and nothing else."""


class StoreKey(msgspec.Struct, frozen=True, kw_only=True):
    """What a host needs to reach its part of an object store.

    `kind` b2 and s3: an S3 `endpoint` (URL), path style, Signature Version 4 with `region`, `key_id` and `secret`. b2
    takes no x-amz-checksum-* header and no If-None-Match on writes. `kind` folder: `endpoint` is a folder's path, and
    neither key nor end are enforced. `prefix` is where all names must begin; `expires_at` in seconds since the epoch,
    None if it does not end by itself.
    """

    kind: Literal["b2", "s3", "folder"]
    endpoint: str
    region: str
    bucket: str
    prefix: str
    key_id: str
    secret: str
    expires_at: float | None

    def __repr__(self) -> str:
        return f"StoreKey(kind={self.kind!r}, bucket={self.bucket!r}, prefix={self.prefix!r}, key_id={self.key_id!r})"


class BlobSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One version of an object, as the store lists it.

    `md5` and `sha1` are hexadecimal, of the whole content, and None where the store keeps none (objects sent in
    pieces). `uploaded_at` in seconds since the epoch. `is_latest`: it is what its name stands for now; a host may hide
    or cover an object by its name, and the version stays. `version_id` is "" where the store has no versions.
    """

    key: str
    size: int
    md5: str | None
    sha1: str | None
    uploaded_at: float
    version_id: str
    is_latest: bool


class Blobs(Protocol):
    """One bucket of an object store, for the control plane: small objects, listings, keys for hosts.

    Each call raises a `BlobError`, ends within `CALL_SECONDS_MAX`, and tries again by itself what can be tried again.
    """

    def mint_key(self, prefix: str, right: KeyRight, valid_seconds: int, *, holder: str = "") -> StoreKey:
        """A new key for names that begin with `prefix` alone. Raises `BlobRefused` where the store makes no keys.

        `holder`: an operation's id (letters, digits, hyphens), by which `revoke_keys` finds it.
        """
        ...

    def revoke_key(self, key_id: str) -> None:
        """End a minted key now; of one that has ended already, this succeeds."""
        ...

    def revoke_keys(self, holder: str) -> None:
        """End every key that was minted for a holder, also one whose minter never learned its id."""
        ...

    def list(self, prefix: str) -> list[BlobSeen]:
        """Every version of every object with the prefix, hidden ones too, from all pages, by name and newest first.
        Raises rather than answer with a part.
        """
        ...

    def get(self, key: str, *, max_bytes: int, version_id: str | None = None) -> bytes:
        """An object's content: what its name stands for now, or that version. Raises `BlobNotFound`, `BlobTooLarge`,
        `BlobDamaged`.
        """
        ...

    def put(self, key: str, data: bytes) -> BlobSeen:
        """Store a small object under a name, over what was there."""
        ...

    def delete(self, blobs: Iterable[BlobSeen]) -> None:
        """Delete these versions, for ever. Of those that are gone already, this succeeds."""
        ...

    def delete_all(self, prefix: str) -> None:
        """Delete all that begins with the prefix (not ""), for ever: all versions, what hides them, unfinished uploads.
        Raises `BlobUnavailable` if there is more than one call has time for: ask again.
        """
        ...

    def exists(self, key: str) -> bool:
        """Whether the name stands for an object now."""
        ...


__all__ = [
    "CALL_SECONDS_MAX", "BlobSeen", "Blobs", "Bus", "Clock", "CommandResult", "EngineFiles", "Ids",
    "InstanceStatus", "KeyRight", "Ports", "Provider", "ProviderInstance", "Query", "Rental", "Shell",
    "ShellSession", "Store", "StoreKey", "Transaction", "Where",
]  # fmt: skip
