"""What the answers say of the project itself: billing, APIs, permissions, quotas, accounts, secrets, the state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dumont.domain.deployment.questions import Heard, Row
from dumont.domain.deployment.wanted import APIS, PERMISSIONS, Function, Wanted
from dumont.domain.findings import Finding, missing, ok, unknown, warning


def last(name: object) -> str:
    """What stands after the last slash of a resource's name."""
    return str(name or "").rpartition("/")[2]


def project(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """Whether it is there, and not on its way out."""
    state = heard.body.get("lifecycleState")
    if heard.is_absent:
        create = f"gcloud projects create {wanted.project}"
        yield missing("project", wanted.project, "there is no such project, or you may not see it", create)
    elif state == "ACTIVE":
        yield ok("project", wanted.project, "is there")
    else:
        says = f"is {state}: Google deletes it" if state else "its state cannot be read"
        yield missing("project", wanted.project, says, f"gcloud projects undelete {wanted.project}")


def billing(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """Whether somebody pays."""
    if heard.body.get("billingEnabled") is True:
        yield ok("billing", "billing", "is on")
        return
    link = f"gcloud billing projects link {wanted.project} --billing-account=ACCOUNT"
    says = "is off: nothing can be deployed (`gcloud billing accounts list` shows your accounts)"
    yield missing("billing", "billing", says, link)


def services(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """Each API that something of ours calls or is made by."""
    enabled = {last(row.get("name")) for row in heard.rows if row.get("state", "ENABLED") == "ENABLED"}
    off = [api for api in APIS if api not in enabled]
    # One command for all: Google takes 20 at once, and minutes for each.
    enable = f"gcloud services enable {' '.join(off)} --project={wanted.project}"
    for api in APIS:
        yield missing("apis", api, "is off", enable) if api in off else ok("apis", api, "is on")


def permissions(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """What you, who ask, may do. Cloud Build deploys as dumont-deployer, whatever you may do."""
    given = heard.body.get("permissions") or []
    lacking = [permission for permission in PERMISSIONS if permission not in given]
    mend = wanted.grant(*dict.fromkeys(PERMISSIONS[permission] for permission in lacking)) if lacking else ""
    for permission in PERMISSIONS:
        if permission in lacking:
            yield missing("permissions", permission, "you lack it: you cannot deploy yourself", mend)
        else:
            yield ok("permissions", permission, "you have it")


def accounts(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """Whom functions, builds and calls are."""
    there = {str(row.get("email", "")).partition("@")[0]: row for row in heard.rows}
    for name in wanted.accounts:
        row = there.get(name)
        if row is None:
            mend = wanted.bootstrap if name == "dumont-deployer" else wanted.deploy
            yield missing("accounts", name, "there is no such service account", mend)
        elif row.get("disabled"):
            mend = f"gcloud iam service-accounts enable {row['email']} --project={wanted.project}"
            yield missing("accounts", name, "is disabled: whatever runs as it fails", mend)
        else:
            yield ok("accounts", name, "is there")


def secret(wanted: Wanted, name: str, heard: Heard) -> Iterator[Finding]:
    """One secret; whether it has a value, never which."""
    if heard.is_absent:
        yield missing("secrets", name, "is not there", wanted.prepare)
    elif heard.body.get("versions"):
        yield ok("secrets", name, "has a value")
    else:
        by_b2 = f".venv/bin/python infra/b2_setup.py {wanted.bucket or 'B2_BUCKET'} --project {wanted.project}"
        by_hand = f"gcloud secrets versions add {name} --project={wanted.project} --data-file=-"
        mend = by_b2 if name.startswith("dumont-b2-") else f"infra/secrets.sh {wanted.project}"
        mend = mend if name in wanted.declared.secrets.values() else by_hand
        yield missing("secrets", name, "has no value: what uses it does not start", mend)


def state(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """The bucket of Terraform's state, of the settings and of the releases."""
    name = f"gs://{wanted.state_bucket}"
    if heard.is_absent:
        yield missing("terraform", name, "is not there: Terraform has nowhere to keep its state", wanted.bootstrap)
        return
    configured = heard.body.get("iamConfiguration")
    shut = configured.get("publicAccessPrevention") if isinstance(configured, dict) else None
    versioning = heard.body.get("versioning")
    change = f"gcloud storage buckets update {name}"
    if not (isinstance(versioning, dict) and versioning.get("enabled")):
        yield missing("terraform", name, "keeps no versions: a broken state would be lost", f"{change} --versioning")
    elif shut != "enforced":
        yield warning("terraform", name, "could be opened to the world", f"{change} --public-access-prevention")
    else:
        yield ok("terraform", name, "is there, and keeps versions")


def settings(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """The deployment's settings, which Terraform cannot do without."""
    name = f"gs://{wanted.state_bucket}/dumont.tfvars"
    if heard.is_absent:
        yield missing("terraform", name, "is not there: a deployment has no settings", wanted.bootstrap)
    elif not wanted.bucket:
        yield missing("terraform", name, "names no `bucket` for snapshots, which has no default", wanted.bootstrap)
    else:
        yield ok("terraform", name, "is there")


# --- Quotas -------------------------------------------------------------------------------------------------------

_MIB = 1 << 20


def quotas(wanted: Wanted, heard: Heard) -> Iterator[Finding]:
    """Cloud Run refuses a function whose instances, all of them, would take more than its region's quota.

    https://cloud.google.com/run/docs/configuring/max-instances-limits: CPU in thousandths of a processor and memory in
    bytes. They are also the limit for all functions at once, which only counts while they run.
    """
    for metric, unit, per_unit in (("cpu_allocation", "CPUs", 1000), ("mem_allocation", "MiB", _MIB)):
        limit = _limit(f"run.googleapis.com/{metric}", wanted.region, heard.rows)
        name = f"run.googleapis.com/{metric}"
        if limit is None:
            see = f"https://console.cloud.google.com/iam-admin/quotas?project={wanted.project}"
            yield unknown("quotas", name, f"Google tells no limit for {wanted.region}", f"see {see}")
            continue
        needs = {each: _needs(wanted, function)[metric] for each, function in wanted.declared.functions.items()}
        most = max(needs, key=lambda each: needs[each])
        share = f"{needs[most] / per_unit:g} of {limit / per_unit:g} {unit} in {wanted.region}"
        if limit < 0 or needs[most] <= limit:
            told = "no limit" if limit < 0 else f"{most}, the largest, may take {share}"
            yield ok("quotas", name, told)
            continue
        over = sorted(each for each, need in needs.items() if need > limit)
        mend = (
            f"gcloud beta quotas preferences create --service=run.googleapis.com --project={wanted.project} "
            f"--quota-id={_QUOTA_IDS[metric]} --preferred-value={needs[most]} --dimensions=region={wanted.region}"
        )
        says = f"{', '.join(over)}: {most} wants {share}, and is refused; or set instances_max lower in dumont.tfvars"
        yield missing("quotas", name, says, mend)


_QUOTA_IDS = {"cpu_allocation": "CpuAllocPerProjectRegion", "mem_allocation": "MemAllocPerProjectRegion"}


def _needs(wanted: Wanted, function: Function) -> Mapping[str, int]:
    instances = function.instances_max or wanted.instances_max
    return {
        "cpu_allocation": function.cpu_thousandths * instances,
        "mem_allocation": function.memory_mib * _MIB * instances,
    }


def _limit(metric: str, region: str, rows: tuple[Row, ...]) -> int | None:
    """The effective limit of a metric in a region; -1 is none at all, None is not told."""
    general: int | None = None
    for row in rows:
        if row.get("metric") != metric:
            continue
        for limit in _rows(row.get("consumerQuotaLimits")):
            if "{region}" not in str(limit.get("unit")):
                continue
            for bucket in _rows(limit.get("quotaBuckets")):
                dimensions = bucket.get("dimensions")
                value = _whole(bucket.get("effectiveLimit"))
                if not dimensions:
                    general = value
                elif isinstance(dimensions, dict) and dimensions.get("region") == region and value is not None:
                    return value
    return general


def _rows(value: Any) -> list[Row]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _whole(value: Any) -> int | None:
    """Google writes 64-bit numbers as texts."""
    try:
        return int(value)
    except (TypeError, ValueError):
        return None
