"""B2: the key of this environment, and its bucket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from dumont.domain.findings import Finding, missing, ok, skipped, unknown, warning

AREA = "b2"
NEEDED = (
    *("listBuckets", "listFiles", "readFiles", "writeFiles", "deleteFiles"),
    *("listKeys", "writeKeys", "deleteKeys"),
)
"""What `adapters.b2` asks of its key, as `infra/b2_setup.py` makes it. File lock is not needed."""
VARIABLES = ("B2_APPLICATION_KEY_ID", "B2_APPLICATION_KEY", "DUMONT_BUCKET")


def look(environment: Mapping[str, str]) -> Iterator[Finding]:
    """The key's capabilities, and the bucket."""
    given = {name: environment.get(name, "").strip() for name in VARIABLES}
    absent = [name for name, value in given.items() if not value]
    if len(absent) == len(VARIABLES):
        says = "not known from here: the control plane has the key. Set the three to look at them"
        yield skipped(AREA, "key", f"{says}: {', '.join(VARIABLES)}")
        return
    if absent:
        verb = "is" if len(absent) == 1 else "are"
        says = f"{' and '.join(absent)} {verb} not set, and it takes all three"
        yield missing(AREA, "key", says, " ".join(["export", *(f"{name}=…" for name in absent)]))
        return
    yield from _seen(given["B2_APPLICATION_KEY_ID"], given["B2_APPLICATION_KEY"], given["DUMONT_BUCKET"], environment)


def _seen(key_id: str, key: str, bucket: str, environment: Mapping[str, str]) -> Iterator[Finding]:
    from dumont.domain.errors import BlobRefused, BlobUnavailable

    setup = f"python infra/b2_setup.py {bucket} --out b2.env"
    try:
        from dumont.adapters.b2_look import look as look_at

        seen = look_at(key_id, key, bucket, realm=environment.get("DUMONT_B2_REALM") or "production")
    except ImportError:
        yield skipped(AREA, "key", "b2sdk is not installed here", "make setup")
        return
    except BlobRefused as error:
        yield missing(AREA, "key", f"B2 refuses it ({error})", f"{setup} --rotate")
        return
    except BlobUnavailable as error:
        yield unknown(AREA, "key", f"B2 does not answer: {error}", "dumont doctor")
        return
    yield ok(AREA, "key", "B2 takes it")
    lacking = [name for name in NEEDED if name not in seen.capabilities]
    if seen.restricted_to is not None:
        says = f"it is bound to the bucket {seen.restricted_to}: such a key can make none for hosts"
        yield missing(AREA, "capabilities", says, f"{setup} --rotate")
    elif lacking:
        yield missing(AREA, "capabilities", f"the key lacks {', '.join(lacking)}", f"{setup} --rotate")
    else:
        yield ok(AREA, "capabilities", "all that are needed; file lock is not")
    if seen.kind is None:
        yield missing(AREA, "bucket", f"{bucket} is not there, or the key does not reach it", setup)
        return
    if seen.kind != "allPrivate":
        yield missing(AREA, "bucket", f"{bucket} is {seen.kind}: anybody may read it", setup)
    else:
        yield ok(AREA, "bucket", f"{bucket} is there, and private")
    if seen.loses_versions:
        yield missing(AREA, "lifecycle", "hidden versions are deleted: a host's key could lose what others need", setup)
    elif not seen.cancels_unfinished:
        yield warning(AREA, "lifecycle", "uploads that never ended stay, are billed, and are in no listing", setup)
    else:
        yield ok(AREA, "lifecycle", "unfinished uploads go by themselves, nothing else")
