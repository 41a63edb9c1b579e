"""`infra/` as Terraform would check it with Google's provider at hand, which tests have not: every resource, argument
and block by the provider's schema (6.50, in `tests/data`), every reference, and the expressions by Terraform itself."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

from dumont.domain.errors import InvalidInput
from dumont.domain.names import check_deployment
from tests.unit.infra_support import FILES, INFRA, Block, Evaluated, blocks, contents, is_block, of_kind, terraform

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "data" / "terraform-google-schema.json").read_text(encoding="utf-8")
)
META = {"for_each", "count", "depends_on", "lifecycle"}
COMPUTED = {"email", "id", "member", "name", "number", "service_config", "uptime_check_id"}
"""What the provider adds to a resource, beside its arguments, and is read here."""
RESOURCES = [block for block in blocks() if block.kind in ("resource", "data")]
REFERENCE = re.compile(r"(?<![\w.\"])(data\.)?(google_\w+)\.(\w+)(?:\[[^\]]*\])?(?:\.(\w+))?")

every_resource = pytest.mark.parametrize("block", RESOURCES, ids=lambda block: ".".join(block.labels))


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    return Evaluated(tmp_path_factory.mktemp("terraform"))


# --- By the schema ------------------------------------------------------------------------------------------------


def faults(body: Mapping[str, Any], schema: Mapping[str, Any], place: str) -> Iterator[str]:
    """What the provider would refuse."""
    given = [(name, value) for name, value in contents(body) if name not in META]
    for name, value in given:
        if name not in schema:
            yield f"{place}: no {name} there"
        elif ("block" in schema[name]) is not is_block(value):
            yield f"{place}: {name} is {'a block' if 'block' in schema[name] else 'an argument'}"
        elif "block" in schema[name]:
            for one in value:
                yield from faults(one, schema[name]["block"], f"{place}.{name}")
        elif fault := wrong_type(value, schema[name]["type"]):
            yield f"{place}.{name}: {fault}"
    for name, rule in schema.items():
        if rule.get("required") and name not in dict(given):
            yield f"{place}: {name} is required"


def wrong_type(value: Any, wanted: str) -> str | None:
    """What is wrong with a value that is written out; what is computed shows its type only when it is."""
    if isinstance(value, str) and "${" in value:
        return None
    if wanted.startswith("map"):
        fits = isinstance(value, dict)
    elif wanted.startswith(("list", "set")):
        fits = isinstance(value, list)
    else:
        fits = isinstance(value, {"string": str, "number": int | float, "boolean": bool}[wanted])
        fits = fits and (wanted == "boolean" or not isinstance(value, bool))
    return None if fits else f"{value!r} is no {wanted}"


@every_resource
def test_a_resource_is_as_the_provider_has_it(block: Block) -> None:
    type_name, _ = block.labels
    known = SCHEMA["resources" if block.kind == "resource" else "data"]
    assert type_name in known, f"{block.place}: the provider has no such type"
    assert list(faults(block.body, known[type_name], block.place)) == []


def test_the_check_sees_what_is_wrong() -> None:
    schema = SCHEMA["resources"]["google_pubsub_subscription"]
    body = {
        "name": '"x"',
        "topik": '"x"',
        "ack_deadline_seconds": '"many"',
        "retry_policy": '"10s"',
        "push_config": [{"__is_block__": True, "oidc_token": [{"__is_block__": True, "audience": '"x"'}]}],
    }
    assert sorted(faults(body, schema, "s")) == [
        "s.ack_deadline_seconds: '\"many\"' is no number",
        "s.push_config.oidc_token: service_account_email is required",
        "s.push_config: push_endpoint is required",
        "s: no topik there",
        "s: retry_policy is a block",
        "s: topic is required",
    ]


# --- References ---------------------------------------------------------------------------------------------------


def test_what_is_referred_to_is_there() -> None:
    there = {("data." if block.kind == "data" else "") + ".".join(block.labels) for block in RESOURCES}
    names = {
        "var": {block.labels[0] for block in of_kind("variable")},
        "local": {name for block in of_kind("locals") for name in block.body if not name.startswith("__")},
    }
    missing = []
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        code = re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)
        for data, type_name, name, attribute in REFERENCE.findall(code):
            schema = SCHEMA["data" if data else "resources"].get(type_name, {})
            if f"{data}{type_name}.{name}" not in there:
                missing.append(f"{file.name}: {data}{type_name}.{name}")
            elif attribute and attribute not in schema and attribute not in COMPUTED:
                missing.append(f"{file.name}: {type_name}.{name}.{attribute}")
        for kind, name in re.findall(r"\b(var|local)\.(\w+)", code):
            if name not in names[kind]:
                missing.append(f"{file.name}: {kind}.{name}")
    assert missing == []


def test_nothing_waits_for_itself() -> None:
    graph: dict[str, set[str]] = {}
    for block in RESOURCES:
        graph[".".join(block.labels)] = {f"{t}.{n}" for _, t, n, _ in REFERENCE.findall(repr(block.body))}
    assert len(list(TopologicalSorter(graph).static_order())) == len(RESOURCES)


def test_each_variable_is_used_described_typed_and_checked() -> None:
    code = "\n".join(file.read_text(encoding="utf-8") for file in FILES if file.name != "variables.tf")
    for block in of_kind("variable"):
        assert f"var.{block.labels[0]}" in code, block.place
        assert {"description", "type"} <= set(block.body), block.place
        assert "validation" in block.body or block.body["type"] == "${bool}" or block.body["type"] == "bool", (
            block.place
        )
    assert all("description" in block.body for block in of_kind("output"))


# --- By Terraform itself ------------------------------------------------------------------------------------------


def test_the_files_are_formatted() -> None:
    command = [terraform(), "fmt", "-check", "-recursive", str(INFRA)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"run make infra: {done.stdout}"


def test_checkov_finds_nothing_unexplained() -> None:
    own = INFRA.parent / "build/checkov/bin/checkov"
    program = str(own) if own.exists() else shutil.which("checkov")
    if program is None:
        pytest.skip("checkov is not here: run make checkov; it is too large for the project's own lock")
    command = [program, "--directory", str(INFRA), "--framework", "terraform", "--compact", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-4000:]


def test_what_checkov_is_told_to_leave_says_why() -> None:
    told = [line for file in FILES for line in re.findall(r"#checkov:.*", file.read_text(encoding="utf-8"))]
    assert told
    assert [line for line in told if not re.fullmatch(r"#checkov:skip=CKV2?_GCP_\d+: \w.{10,}", line)] == []


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("project", "Dumont"),
        ("region", "us"),
        ("firestore_location", "europe"),
        ("deployment", "Main"),
        ("bundles", ""),
        ("bucket", "b2-mine"),
        ("public_url", "http://dumont.example"),
        ("public_url", "https://dumont.example/"),
        ("cors_origins", ["https://dumont.example/app"]),
        ("log_level", "LOUD"),
        ("instances_max", 0),
        ("dns", "route53:z"),
        ("dns_zone", "gpu.example.com"),
        ("more_secrets", {"VAST_API_KEY": "mine"}),
        ("alert_emails", ["nobody"]),
        ("alert_channels", ["slack"]),
        ("billing_account", "0123"),
        ("google_budget_usd_per_month", 0.5),
    ],
)
def test_a_variable_refuses_what_cannot_be_right(evaluated: Evaluated, variable: str, value: Any) -> None:
    assert evaluated.refuses(**{variable: value})


def test_the_defaults_are_taken(evaluated: Evaluated) -> None:
    assert not evaluated.refuses()


def test_what_a_plan_evaluates_to_is_of_the_providers_types(evaluated: Evaluated) -> None:
    mine = {"alert_emails": ["team@dumont.example"], "billing_account": "012345-ABCDEF-012345"}
    names = {"dns": "clouddns:names-project/zone", "dns_zone": "gpu.example.com"}
    planned = evaluated.planned(**mine, **names)
    made = {address.partition("[")[0] for address in planned}
    assert made == {".".join(block.labels) for block in RESOURCES if block.kind == "resource"}, (
        "each is made at least once"
    )
    wrong = [
        f"{address}.{name}: {fault}"
        for address, plan in planned.items()
        for name, value in plan.items()
        if "type" in (rule := SCHEMA["resources"][address.partition(".")[0]][name])
        if value is not None and (fault := wrong_type(value, rule["type"]))
    ]
    assert wrong == []


def test_a_deployments_name_is_what_the_code_takes(evaluated: Evaluated) -> None:
    for name in ("main", "2", "a" * 16, "", "Team", "team_2", "a" * 17):
        try:
            check_deployment(name)
        except InvalidInput:
            assert evaluated.refuses(deployment=name)
        else:
            assert not evaluated.refuses(deployment=name)


def test_the_address_is_googles_or_ones_own(evaluated: Evaluated) -> None:
    expression = "[local.public_url, local.public_host, local.public_path]"
    google = "us-central1-dumont-test.cloudfunctions.net"
    assert evaluated.value(expression) == [f"https://{google}", google, ""]
    own = "https://gpu.example.com/api"
    assert evaluated.value(expression, public_url=own) == [own, "gpu.example.com", "/api"]


def test_where_cloudflare_keeps_the_names_who_writes_them_gets_its_token(evaluated: Evaluated) -> None:
    readers = "[for reader in values(local.secret_readers) : reader.function if reader.variable == {}]"
    token = readers.format('"CLOUDFLARE_API_TOKEN"')
    assert evaluated.value(token) == []
    cloudflare = {"dns": "cloudflare:" + "0a" * 16, "dns_zone": "gpu.example.com"}
    namers = evaluated.value('[for n, f in local.functions : n if contains(f.needs, "dns")]')
    assert sorted(evaluated.value(token, **cloudflare)) == namers
    assert evaluated.value("[local.namers, local.dns_project]", **cloudflare) == [[], "dumont-test"]
    google = {"dns": "clouddns:names-project/zone", "dns_zone": "gpu.example.com"}
    assert evaluated.value("[local.namers, local.dns_project]", **google) == [namers, "names-project"]


# --- Secrets ------------------------------------------------------------------------------------------------------


def test_no_secret_is_in_a_file_or_comes_into_the_state() -> None:
    kinds = {block.labels[0] for block in RESOURCES}
    assert not kinds & {"google_secret_manager_secret_version", "google_service_account_key"}
    looks_secret = re.compile(
        r"-----BEGIN|\bdmt_[a-z0-9]{8,32}_[0-9a-f]{64}|\bK00[0-9A-Za-z/+]{20}|AIza[0-9A-Za-z_-]{30}|\b[0-9a-f]{64}\b|ya29\."
    )
    for file in (*INFRA.glob("*"),):
        if file.is_file():
            assert not looks_secret.search(file.read_text(encoding="utf-8")), file.name
    assert not [b.place for b in of_kind("variable") if re.search("secret$|token|password|_key$", b.labels[0])]
