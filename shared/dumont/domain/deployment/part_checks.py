"""What the answers say of what Terraform makes: functions, topics and pushes, the schedule, Firestore."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dumont.domain.deployment.project_checks import last
from dumont.domain.deployment.questions import Heard, Row
from dumont.domain.deployment.wanted import Index, IndexField, Wanted
from dumont.domain.findings import Finding, missing, ok, warning


def functions(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """Each function: there, and serving."""
    there = {last(row.get("name")): row for row in heard.rows}
    for name in sorted(wanted.declared.functions):
        row = there.get(name)
        if row is None:
            yield missing("functions", name, "is not deployed", wanted.deploy)
            continue
        state = str(row.get("state") or "STATE_UNSPECIFIED")
        logs = f"gcloud functions logs read {name} --gen2 --region={wanted.region} --project={wanted.project}"
        if state == "ACTIVE":
            yield ok("functions", name, f"serves{_version(row)}")
        elif state == "DEPLOYING":
            yield warning("functions", name, "is being deployed: ask again in some minutes")
        else:
            yield missing("functions", name, f"does not serve: {state}{_reasons(row)}", logs)


def _version(row: Row) -> str:
    service = row.get("serviceConfig")
    revision = service.get("revision") if isinstance(service, dict) else None
    since = str(row.get("updateTime") or "")[:16].replace("T", " ")
    parts = [*([f"revision {revision}"] if revision else []), *([f"since {since} UTC"] if since else [])]
    return f": {', '.join(parts)}" if parts else ""


def _reasons(row: Row) -> str:
    listed = row.get("stateMessages")
    said = [str(one.get("message") or one.get("type")) for one in listed or [] if isinstance(one, dict)]
    return f" ({'; '.join(said)[:300]})" if said else ""


# --- Messages -----------------------------------------------------------------------------------------------------


def topics(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """Each topic of work, and each of dead letters."""
    there = {last(row.get("name")) for row in heard.rows}
    for topic in wanted.topics:
        if topic in there:
            yield ok("topics", topic, "is there")
        else:
            yield missing("topics", topic, "is not there", wanted.deploy)


def subscriptions(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """Each push to a worker, and where its dead letters lie."""
    there = {last(row.get("name")): row for row in heard.rows}
    for worker, topic in sorted(wanted.workers.items()):
        row = there.get(topic)
        if row is None:
            says = "is not there: its worker gets no messages, and the sweep alone moves its operations"
            yield missing("subscriptions", topic, says, wanted.deploy)
        else:
            fault = _push_fault(wanted, topic, row)
            right = ok("subscriptions", topic, f"pushes to {worker}, with dead letters")
            yield missing("subscriptions", topic, fault, wanted.deploy) if fault else right
        dead = f"{topic}-dead"
        if dead not in there:
            yield missing("subscriptions", dead, "is not there: dead letters are lost unseen", wanted.deploy)
        else:
            yield ok("subscriptions", dead, "keeps dead letters")


def _push_fault(wanted: Wanted, topic: str, row: Row) -> str:
    """What is wrong with a subscription; "" if nothing is."""
    push = _dict(row.get("pushConfig"))
    token = _dict(push.get("oidcToken"))
    endpoint = str(push.get("pushEndpoint") or "")
    dead = last(_dict(row.get("deadLetterPolicy")).get("deadLetterTopic"))
    if row.get("detached") or last(row.get("topic")) != topic:
        return "is not attached to its topic"
    if not endpoint:
        return "pushes to nobody"
    if not endpoint.startswith("https://") or not endpoint.endswith(f"/projects/{wanted.project}/topics/{topic}"):
        return f"pushes to {endpoint.partition('?')[0]}, which is no worker's door"
    if token.get("serviceAccountEmail") != wanted.caller:
        return f"does not push as {wanted.caller}: the worker refuses it"
    if dead != f"{topic}-dead":
        return "has no dead letters: what no worker can take is tried for an hour, and lost"
    if row.get("state", "ACTIVE") != "ACTIVE":
        return f"is {row.get('state')}: it delivers nothing"
    return ""


# --- Schedule -----------------------------------------------------------------------------------------------------


def jobs(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """Each of Cloud Scheduler's jobs. A paused one is well: sweeps pause while nothing runs."""
    there = {last(row.get("name")): row for row in heard.rows}
    for name, function in sorted(wanted.jobs.items()):
        row = there.get(name)
        at = f"{name} --location={wanted.region} --project={wanted.project}"
        schedule = wanted.declared.functions[function].schedule
        if row is None:
            yield missing(
                "schedule", name, f"is not there: nobody calls {function}, so nothing is noticed", wanted.deploy
            )
        elif row.get("state") not in ("ENABLED", "PAUSED"):
            yield missing("schedule", name, f"is {row.get('state')}", f"gcloud scheduler jobs resume {at}")
        elif row.get("schedule") != schedule:
            yield missing("schedule", name, f"runs at {row.get('schedule')!r}, not {schedule!r}", wanted.deploy)
        elif _dict(row.get("status")).get("code"):
            code = _dict(row.get("status")).get("code")
            yield warning(
                "schedule", name, f"its last call failed (code {code})", f"gcloud scheduler jobs describe {at}"
            )
        elif row.get("state") == "PAUSED":
            yield ok("schedule", name, "is paused, as it is while nothing runs")
        else:
            yield ok("schedule", name, f"calls {function}")


# --- Firestore ----------------------------------------------------------------------------------------------------


def database(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """The database of records: there, of the right kind, where it should be."""
    name = "(default)"
    if heard.is_absent:
        yield missing("firestore", name, "there is no database", wanted.deploy)
        return
    place = wanted.firestore_location or wanted.region
    kind, location = heard.body.get("type"), heard.body.get("locationId")
    alter = f"gcloud firestore databases update --database='(default)' --project={wanted.project}"
    if kind != "FIRESTORE_NATIVE":
        yield missing("firestore", name, f"is of type {kind}, not native", f"{alter} --type=firestore-native")
    elif location != place:
        says = f"lies in {location}, not in {place}, and cannot be moved: say so in dumont.tfvars"
        yield missing("firestore", name, says, f'firestore_location = "{location}"')
    elif heard.body.get("deleteProtectionState") != "DELETE_PROTECTION_ENABLED":
        yield warning("firestore", name, "can be deleted by a slip", f"{alter} --delete-protection")
    elif heard.body.get("pointInTimeRecoveryEnablement") != "POINT_IN_TIME_RECOVERY_ENABLED":
        yield warning("firestore", name, "cannot be put back to an earlier minute", f"{alter} --enable-pitr")
    else:
        yield ok("firestore", name, f"is native, in {location}")


def indexes(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """Each index that a query needs: Firestore refuses the query without it."""
    there = {index: row for row in heard.rows if (index := _index(row)) is not None}
    for index in wanted.declared.indexes:
        row = there.get(index)
        state = row.get("state") if row else None
        if row is None:
            yield missing("indexes", index.name, "is not there: the query is refused", wanted.deploy)
        elif state == "READY":
            yield ok("indexes", index.name, "is ready")
        elif state == "CREATING":
            yield warning("indexes", index.name, "is being built: its query is refused until it is ready")
        else:
            drop = f"gcloud firestore indexes composite delete {last(row.get('name'))} --project={wanted.project}"
            yield missing("indexes", index.name, f"is {state}", f"{drop} && {wanted.deploy}")


def ttl(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """Each collection whose records end by themselves."""
    there = {_field(row): _dict(row.get("ttlConfig")).get("state") for row in heard.rows if "ttlConfig" in row}
    for collection in wanted.declared.expiring:
        field = wanted.declared.expires
        name, state = f"{collection}.{field}", there.get((collection, field))
        enable = (
            f"gcloud firestore fields ttls update {field} --collection-group={collection} --enable-ttl "
            f"--project={wanted.project}"
        )
        if state == "ACTIVE":
            yield ok("ttl", name, "is active")
        elif state == "CREATING":
            yield warning("ttl", name, "is being set up")
        elif state:
            yield missing("ttl", name, f"is {state}", enable)
        else:
            yield missing("ttl", name, "is not there: records that have ended stay, and cost", wanted.deploy)


def unindexed(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """Each field that Firestore must not index by itself: such an index takes 500 writes a second, and no more."""
    there = {_field(row): _dict(row.get("indexConfig")) for row in heard.rows}
    for exemption in wanted.declared.exemptions:
        name = f"{exemption.collection}.{exemption.field}"
        config = there.get((exemption.collection, exemption.field))
        if config is not None and not config.get("indexes"):
            yield ok("exemptions", name, "is not indexed")
        else:
            yield missing("exemptions", name, "is indexed by itself, which slows all writes", wanted.deploy)


def _index(row: Row) -> Index | None:
    """An index of a collection, as it was declared: Firestore adds `__name__` to its end."""
    parts = str(row.get("name") or "").split("/")
    fields = row.get("fields")
    if len(parts) < 3 or not isinstance(fields, list) or row.get("queryScope", "COLLECTION") != "COLLECTION":
        return None
    read = tuple(
        IndexField(str(field.get("fieldPath")), str(field.get("order")))
        for field in fields
        if isinstance(field, dict) and field.get("fieldPath") != "__name__"
    )
    return Index(parts[-3], read)


def _field(row: Row) -> tuple[str, str]:
    """Collection and field of …/collectionGroups/C/fields/F."""
    parts = str(row.get("name") or "").split("/")
    return (parts[-3], parts[-1].strip("`")) if len(parts) >= 3 else ("", "")


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
