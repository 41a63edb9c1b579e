"""All findings of a look at one project, in the order in which they are mended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from statistics import median

from dumont.domain.deployment import part_checks, project_checks
from dumont.domain.deployment.questions import Heard, Question, all_of, first, untold
from dumont.domain.deployment.wanted import Wanted
from dumont.domain.findings import Finding, skew

Check = Callable[[Wanted, Heard], Iterator[Finding]]

CHECKS: Mapping[str, tuple[str, Check]] = {
    "project": ("project", project_checks.project),
    "billing": ("billing", project_checks.billing),
    "services": ("apis", project_checks.services),
    "permissions": ("permissions", project_checks.permissions),
    "quotas": ("quotas", project_checks.quotas),
    "state": ("terraform", project_checks.state),
    "settings": ("terraform", project_checks.settings),
    "accounts": ("accounts", project_checks.accounts),
    "database": ("firestore", part_checks.database),
    "indexes": ("indexes", part_checks.indexes),
    "ttl": ("ttl", part_checks.ttl),
    "unindexed": ("exemptions", part_checks.unindexed),
    "functions": ("functions", part_checks.functions),
    "topics": ("topics", part_checks.topics),
    "subscriptions": ("subscriptions", part_checks.subscriptions),
    "jobs": ("schedule", part_checks.jobs),
}
"""Question → the area of its findings, and what reads its answer. Secrets have a question each, and come after the
settings: a plan is refused while one has no value."""

SINGLE = frozenset({"project", "database", "state", "settings"})
"""Whose 404 says that the thing itself is not there. Of a list, and of a secret's API, it is no such word."""


def findings(wanted: Wanted, heard: Mapping[str, Heard]) -> list[Finding]:
    """What the answers say, by the questions' names. A question without an answer is a finding of its own."""
    questions = {question.name: question for question in (first(wanted.project), *all_of(wanted))}
    found = [skew("clock", "Google", _ahead(heard))]
    for name, (area, check) in CHECKS.items():
        found += _read(area, check, questions[name], heard, wanted)
        if name == "settings":
            for secret in wanted.secrets:
                found += _read_secret(secret, questions[f"secret {secret}"], heard, wanted)
    return found


def _read(area: str, check: Check, question: Question, heard: Mapping[str, Heard], wanted: Wanted) -> Iterator[Finding]:
    answer = heard.get(question.name, Heard(status=0, why="it was not asked in time"))
    if answer.is_answer or (answer.is_absent and question.name in SINGLE):
        yield from check(wanted, answer)
    elif answer.is_absent and _database_is_missing(heard, area):
        yield from check(wanted, Heard(status=200))
    else:
        yield untold(area, question, answer, wanted)


def _read_secret(secret: str, question: Question, heard: Mapping[str, Heard], wanted: Wanted) -> Iterator[Finding]:
    answer = heard.get(question.name, Heard(status=0, why="it was not asked in time"))
    if answer.is_answer or answer.is_absent:
        yield from project_checks.secret(wanted, secret, answer)
    else:
        yield untold("secrets", question, answer, wanted)


def _database_is_missing(heard: Mapping[str, Heard], area: str) -> bool:
    """Without a database Firestore's lists are 404 too: then nothing is in them."""
    database = heard.get("database")
    return area in ("indexes", "ttl", "exemptions") and database is not None and database.is_absent


def _ahead(heard: Mapping[str, Heard]) -> float | None:
    told = [answer.ahead_seconds for answer in heard.values() if answer.ahead_seconds is not None]
    return median(told) if told else None
