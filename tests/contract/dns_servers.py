"""Two DNS providers' APIs, as published, over a zone in memory: what the adapters are held against."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.contract.scripted_http import Asked, Said, said

TOKEN = "cf-secret-token-0123456789"
Zone = dict[tuple[str, str], tuple[int, tuple[str, ...]]]
"""(name, kind) → TTL in seconds and the values, sorted, without trailing dots."""


@dataclass
class Server:
    """`before_change` runs before a change is looked at: the place for those who change the zone meanwhile.
    `answers` come first, in turn; `lost` changes are made and their answer is not given."""

    answers: list[Said] = field(default_factory=list)
    lost: int = 0
    before_change: Callable[[], None] = lambda: None
    changes: int = 0

    def __call__(self, asked: Asked) -> Said:
        assert "secret" not in asked.path
        if self.answers:
            return self.answers.pop(0)
        return self.answer(
            asked, urlsplit(asked.path).path, {k: v[0] for k, v in parse_qs(urlsplit(asked.path).query).items()}
        )

    def answer(self, asked: Asked, path: str, query: dict[str, str]) -> Said:
        raise NotImplementedError

    def changed(self, answer: Said) -> Said:
        if answer.status == 200:
            self.changes += 1
            if self.lost:
                self.lost -= 1
                return Said(body=None)
        return answer


@dataclass
class CloudDnsServer(Server):
    """Cloud DNS v1: rrsets.list in pages of two, changes.create, and a token endpoint (RFC 7523)."""

    rrsets: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    tokens: int = 0

    ROOT = "/dns/v1/projects/pro/managedZones/gpu"

    def put(self, name: str, kind: str, ttl: int, *values: str) -> None:
        self.rrsets[f"{name}.", kind] = {"name": f"{name}.", "type": kind, "ttl": ttl, "rrdatas": list(values)}

    def zone(self) -> Zone:
        return {
            (name.rstrip("."), kind): (r["ttl"], tuple(sorted(v.rstrip(".") for v in r["rrdatas"])))
            for (name, kind), r in self.rrsets.items()
        }

    def answer(self, asked: Asked, path: str, query: dict[str, str]) -> Said:
        if path == "/token":
            self.tokens += 1
            return said(200, {"access_token": f"ya29.secret-{self.tokens}", "expires_in": 3600, "token_type": "Bearer"})
        if not asked.headers.get("Authorization", "").startswith("Bearer ya29.secret-"):
            return self._error(401, "authError", "Invalid Credentials")
        if (asked.method, path) == ("GET", f"{self.ROOT}/rrsets"):
            return self._list(query)
        if (asked.method, path) == ("POST", f"{self.ROOT}/changes"):
            self.before_change()
            return self.changed(self._change(asked.json))
        return self._error(404, "notFound", "The 'parameters.managedZone' resource named 'gpu' does not exist.")

    def _list(self, query: dict[str, str]) -> Said:
        found = [r for (name, _), r in sorted(self.rrsets.items()) if name == query["name"]]
        start = int(query.get("pageToken", "0"))
        answer: dict[str, Any] = {"kind": "dns#resourceRecordSetsListResponse"}
        if found:
            answer["rrsets"] = [
                r | {"kind": "dns#resourceRecordSet", "signatureRrdatas": []} for r in found[start : start + 2]
            ]
        if start + 2 < len(found):
            answer["nextPageToken"] = str(start + 2)
        return said(200, answer)

    def _change(self, change: dict[str, Any]) -> Said:
        after = dict(self.rrsets)
        for number, deletion in enumerate(change.get("deletions", [])):
            if after.get((deletion["name"], deletion["type"])) != deletion:
                return self._error(
                    412, "conditionNotMet", f"Precondition not met for 'entity.change.deletions[{number}]'"
                )
            del after[deletion["name"], deletion["type"]]
        for number, addition in enumerate(change.get("additions", [])):
            where = f"entity.change.additions[{number}]"
            if (addition["name"], addition["type"]) in after:
                return self._error(409, "alreadyExists", f"The resource '{where}' named '…' already exists")
            rivals = {kind for name, kind in after if name == addition["name"]}
            if (addition["type"] == "CNAME" and rivals) or "CNAME" in rivals:
                return self._error(
                    400, "cnameResourceRecordSetConflict", f"The resource record set '{where}' is invalid"
                )
            if not addition["name"].endswith(".") or addition["ttl"] < 0:
                return self._error(400, "invalid", f"Invalid value for '{where}.name'")
            after[addition["name"], addition["type"]] = addition
        self.rrsets = after
        return said(200, {"kind": "dns#change", "id": "7", "status": "pending", **change})

    @staticmethod
    def _error(status: int, reason: str, message: str) -> Said:
        detail = {"message": message, "domain": "global", "reason": reason}
        return said(status, {"error": {"code": status, "message": message, "errors": [detail]}})


@dataclass
class CloudflareServer(Server):
    """Cloudflare v4: dns_records listed in pages of at most 100, and batches: deletes, patches, puts, posts."""

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: int = 0

    ROOT = "/client/v4/zones/zone1/dns_records"

    def put(self, name: str, kind: str, ttl: int, *values: str) -> None:
        for value in values:
            self._add({"name": name, "type": kind, "ttl": ttl, "content": value})

    def zone(self) -> Zone:
        found: dict[tuple[str, str], tuple[int, list[str]]] = {}
        for r in self.records.values():
            found.setdefault((r["name"], r["type"]), (r["ttl"], []))[1].append(" ".join(r["content"].split()))
        return {key: (ttl, tuple(sorted(values))) for key, (ttl, values) in found.items()}

    def answer(self, asked: Asked, path: str, query: dict[str, str]) -> Said:
        if asked.headers.get("Authorization") != f"Bearer {TOKEN}":
            quoted = asked.headers.get("Authorization", "")
            return self._error(403, 10000, f"Authentication error: {quoted}")
        if (asked.method, path) == ("GET", self.ROOT):
            return self._list(query)
        if (asked.method, path) == ("POST", f"{self.ROOT}/batch"):
            self.before_change()
            return self.changed(self._batch(asked.json))
        return self._error(404, 7003, "Could not route to this path, perhaps your object identifier is invalid?")

    def _list(self, query: dict[str, str]) -> Said:
        exact = query.get("name.exact", "").casefold()
        found = [r for r in self.records.values() if not exact or r["name"].casefold() == exact]
        size, page = min(int(query.get("per_page", "100")), 2), int(query.get("page", "1"))
        pages = -(-len(found) // size)
        info = {"page": page, "per_page": size, "count": len(found), "total_count": len(found), "total_pages": pages}
        return self._success(found[(page - 1) * size : page * size], result_info=info)

    def _batch(self, batch: dict[str, Any]) -> Said:
        kept = json.loads(json.dumps(self.records))
        for deletion in batch.get("deletes", []):
            if self.records.pop(deletion["id"], None) is None:
                self.records = kept
                return self._error(404, 81044, "Record does not exist.")
        for post in batch.get("posts", []):
            problem = self._refuses(post)
            if problem is not None:
                self.records = kept
                return problem
            self._add(post)
        return self._success({"deletes": [], "patches": None, "puts": None, "posts": []})

    def _refuses(self, post: dict[str, Any]) -> Said | None:
        if post["ttl"] != 1 and not 60 <= post["ttl"] <= 86400:
            return self._error(400, 9021, "Invalid TTL. Must be between 60 and 86400 seconds, or 1 for Automatic.")
        if post["type"] == "SRV" and "data" not in post:
            return self._error(400, 9101, "data is a required data field.")
        same = [r for r in self.records.values() if r["name"] == post["name"]]
        if any(r["type"] == post["type"] and r["content"] == self._content(post) for r in same):
            return self._error(400, 81058, "An identical record already exists.")
        if post["type"] != "SRV" and any((r["type"] == "CNAME") != (post["type"] == "CNAME") for r in same):
            return self._error(400, 81053, "An A, AAAA, or CNAME record with that host already exists.")
        return None

    @staticmethod
    def _content(record: dict[str, Any]) -> str:
        if record["type"] != "SRV":
            return str(record["content"])
        data = record["data"]
        return f"{data['weight']}\t{data['port']}\t{data['target']}"

    def _add(self, post: dict[str, Any]) -> None:
        self.made += 1
        record = {"id": f"r{self.made}", "proxied": False, "proxiable": True, **post}
        if post["type"] == "SRV" and "data" in post:
            data = post["data"]
            record["content"] = f"{data['priority']} {self._content(post)}"
        self.records[record["id"]] = record

    @staticmethod
    def _success(result: object, **more: object) -> Said:
        return said(200, {"success": True, "errors": [], "messages": [], "result": result, **more})

    @staticmethod
    def _error(status: int, code: int, message: str) -> Said:
        errors = [{"code": code, "message": message}]
        return said(status, {"success": False, "errors": errors, "messages": [], "result": None})
