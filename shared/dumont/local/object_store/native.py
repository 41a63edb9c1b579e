"""B2's native API: listings, large files, hiding and deleting. Account, buckets and keys are in `native_account`, what
carries content is in `native_contents`.
"""

from __future__ import annotations

import json
import re

import msgspec

from dumont.local.object_store.catalogue import Bucket, Catalogue, Version
from dumont.local.object_store.files import Files
from dumont.local.object_store.http import Answer, Request
from dumont.local.object_store.keys import Key, Keyring
from dumont.local.object_store.native_account import NativeAccount
from dumont.local.object_store.native_contents import NativeContents, part_row, version_row
from dumont.local.object_store.native_parameters import Call, Parameters, as_json, limit_of, text
from dumont.local.object_store.refusals import Refused, bad_request, no_such_file

BODY_BYTES_MAX = 4 << 20
_PATH = re.compile(r"/b2api/v(\d)/(b2_\w+)(/.*)?")
PARTS_MAX = 1_000


class Native:
    """Answers under `/b2api/` and `/file/`. The API's versions, 1 to 4, differ in how they tell accounts and keys."""

    def __init__(self, files: Files, keyring: Keyring) -> None:
        self._files = files
        self._catalogue: Catalogue = files.catalogue
        self._keyring = keyring
        self._contents = NativeContents(files, keyring)
        self._account = NativeAccount(files, keyring)
        self._calls: dict[str, Call] = {
            **self._account.calls,
            "b2_get_upload_url": ("upload_url", self._get_upload_url),
            "b2_get_upload_part_url": ("upload_url", self._get_upload_part_url),
            "b2_start_large_file": ("start", self._start_large_file),
            "b2_finish_large_file": ("finish", self._finish_large_file),
            "b2_cancel_large_file": ("cancel", self._cancel_large_file),
            "b2_list_parts": ("list_parts", self._list_parts),
            "b2_list_unfinished_large_files": ("list", self._list_unfinished),
            "b2_list_file_names": ("list", self._list_file_names),
            "b2_list_file_versions": ("list", self._list_file_versions),
            "b2_get_file_info": ("head", self._get_file_info),
            "b2_hide_file": ("hide", self._hide_file),
            "b2_delete_file_version": ("delete", self._delete_file_version),
        }

    def handle(self, request: Request) -> Answer:
        """Answer a request, or raise `Refused`."""
        if request.path.startswith("/file/"):
            return self._contents.download_by_name(request)
        found = _PATH.fullmatch(request.path)
        if not found or not 1 <= int(found[1]) <= 4:
            raise Refused(404, "not_found", "no such call")
        version, call, rest = int(found[1]), found[2], found[3] or ""
        if call in ("b2_upload_file", "b2_upload_part"):
            return self._contents.upload(request, call, rest)
        if call == "b2_download_file_by_id":
            return self._contents.download_by_id(request)
        if call == "b2_authorize_account":
            return as_json(self._account.authorize(request, version))
        if call not in self._calls:
            raise bad_request(f"the local object store has no {call}")
        operation, answer = self._calls[call]
        key, _ = self._keyring.of_token(request.headers.get("authorization", ""))
        parameters = self._parameters(request)
        name = parameters.get("fileName")
        if name is None and "fileId" in parameters and operation != "upload_url":
            name = self._version_of(parameters).name
        self._files.enter(request, operation, name)
        return as_json(answer(request, key, parameters, version))

    def refusal(self, refused: Refused, _: Request) -> Answer:
        """How this API says no."""
        answer = as_json({"status": refused.status, "code": refused.code, "message": refused.message})
        answer.status = refused.status
        return answer

    def _parameters(self, request: Request) -> Parameters:
        if request.method == "GET":
            return dict(request.query)
        try:
            read = json.loads(request.body.read_all(BODY_BYTES_MAX) or b"{}")
        except ValueError:
            raise Refused(400, "bad_json", "the body is no JSON") from None
        if not isinstance(read, dict):
            raise Refused(400, "bad_json", "the body is no object")
        return {name: value for name, value in read.items() if value is not None}

    # --- Listings ---

    def _list_file_names(self, _: Request, key: Key, asked: Parameters, __: int) -> Parameters:
        bucket, prefix, limit = self._listing(key, asked)
        start = asked.get("startFileName", "")
        rows = self._catalogue.names(bucket.id, prefix, start, limit + 1)
        following = rows[limit].name if len(rows) > limit else None
        return {"files": self._rows(rows[:limit]), "nextFileName": following}

    def _list_file_versions(self, _: Request, key: Key, asked: Parameters, __: int) -> Parameters:
        bucket, prefix, limit = self._listing(key, asked)
        start = asked.get("startFileName", "")
        start_id = asked.get("startFileId")
        sequence = self._catalogue.version(start_id).sequence if start_id else None
        rows = self._catalogue.versions(bucket.id, prefix, (start, sequence), limit + 1)
        following = rows[limit] if len(rows) > limit else None
        return {
            "files": self._rows(rows[:limit]),
            "nextFileName": following and following.name,
            "nextFileId": following and following.id,
        }

    def _list_unfinished(self, _: Request, key: Key, asked: Parameters, __: int) -> Parameters:
        bucket, prefix, limit = self._listing(key, {**asked, "prefix": asked.get("namePrefix", "")})
        rows = self._catalogue.unfinished(bucket.id, prefix, asked.get("startFileId", ""), limit + 1)
        following = rows[limit].id if len(rows) > limit else None
        return {"files": self._rows(rows[:limit]), "nextFileId": following}

    def _listing(self, key: Key, asked: Parameters) -> tuple[Bucket, str, int]:
        bucket = self._catalogue.bucket(bucket_id=text(asked, "bucketId"))
        prefix = asked.get("prefix", "")
        if asked.get("delimiter"):
            raise bad_request("the local object store lists without delimiters")
        key.allow("listFiles", bucket=bucket, name=prefix)
        return bucket, prefix, limit_of(asked, "maxFileCount")

    def _get_file_info(self, _: Request, key: Key, asked: Parameters, __: int) -> Parameters:
        version = self._version_of(asked)
        key.allow("readFiles", bucket=self._catalogue.bucket(bucket_id=version.bucket_id), name=version.name)
        self._files.must_be_found(version.name)
        return version_row(version, self._keyring.account_id)

    # --- Large files, hiding and deleting ---

    def _get_upload_url(self, request: Request, key: Key, asked: Parameters, version: int) -> Parameters:
        bucket = self._catalogue.bucket(bucket_id=text(asked, "bucketId"))
        key.allow("writeFiles", bucket=bucket)
        token = self._keyring.give_token(key, bucket_id=bucket.id)
        url = f"{request.base_url}/b2api/v{version}/b2_upload_file/{bucket.id}/{token[2:12]}"
        return {"bucketId": bucket.id, "uploadUrl": url, "authorizationToken": token}

    def _get_upload_part_url(self, request: Request, key: Key, asked: Parameters, version: int) -> Parameters:
        started = self._started(key, asked)
        token = self._keyring.give_token(key, file_id=started.id)
        url = f"{request.base_url}/b2api/v{version}/b2_upload_part/{started.id}/{token[2:12]}"
        return {"fileId": started.id, "uploadUrl": url, "authorizationToken": token}

    def _start_large_file(self, _: Request, key: Key, asked: Parameters, __: int) -> Parameters:
        bucket, name = self._catalogue.bucket(bucket_id=text(asked, "bucketId")), text(asked, "fileName")
        key.allow("writeFiles", bucket=bucket, name=name)
        info = msgspec.convert(asked.get("fileInfo", {}), dict[str, str])
        return self._row(self._files.start(bucket, name, asked.get("contentType", "b2/x-auto"), info))

    def _finish_large_file(self, _: Request, key: Key, asked: Parameters, __: int) -> Parameters:
        started = self._started(key, asked)
        digests = asked.get("partSha1Array") or []
        parts = self._catalogue.parts(started.id)
        if [part.number for part in parts] != list(range(1, len(digests) + 1)) or not parts:
            raise Refused(400, "missing_part", "the parts do not go from 1 to the last")
        if [part.sha1 for part in parts] != digests:
            raise Refused(400, "part_sha1_mismatch", "the parts' SHA-1 are not those given")
        return self._row(self._files.finish(started, parts))

    def _cancel_large_file(self, _: Request, key: Key, asked: Parameters, __: int) -> Parameters:
        started = self._started(key, asked)
        self._catalogue.delete(started)
        return self._row(started)

    def _list_parts(self, _: Request, key: Key, asked: Parameters, __: int) -> Parameters:
        started = self._started(key, asked)
        limit = limit_of(asked, "maxPartCount", most=PARTS_MAX)
        first = int(asked.get("startPartNumber", 1))
        parts = [part for part in self._catalogue.parts(started.id) if part.number >= first]
        following = parts[limit].number if len(parts) > limit else None
        return {"parts": [part_row(part, started.id) for part in parts[:limit]], "nextPartNumber": following}

    def _hide_file(self, _: Request, key: Key, asked: Parameters, __: int) -> Parameters:
        bucket, name = self._catalogue.bucket(bucket_id=text(asked, "bucketId")), text(asked, "fileName")
        key.allow("writeFiles", bucket=bucket, name=name)
        newest = self._catalogue.newest(bucket.id, name)
        if newest is None:
            raise Refused(400, "no_such_file", f"File not present: {name}")
        if newest.action == "hide":
            raise Refused(400, "already_hidden", f"file already hidden: {name}")
        return self._row(self._files.hide(bucket, name))

    def _delete_file_version(self, _: Request, key: Key, asked: Parameters, __: int) -> Parameters:
        version = self._version_of(asked, missing=Refused(400, "file_not_present", "File not present"))
        key.allow("deleteFiles", bucket=self._catalogue.bucket(bucket_id=version.bucket_id), name=version.name)
        if version.name != text(asked, "fileName"):
            raise Refused(400, "file_not_present", "File not present: the id belongs to another name")
        self._catalogue.delete(version)
        return {"fileId": version.id, "fileName": version.name}

    # --- Within ---

    def _version_of(self, asked: Parameters, missing: Refused | None = None) -> Version:
        try:
            return self._catalogue.version(text(asked, "fileId"))
        except Refused:
            raise missing or no_such_file(text(asked, "fileId")) from None

    def _started(self, key: Key, asked: Parameters) -> Version:
        version = self._catalogue.started(text(asked, "fileId"))
        key.allow("writeFiles", bucket=self._catalogue.bucket(bucket_id=version.bucket_id), name=version.name)
        return version

    def _row(self, version: Version) -> Parameters:
        return version_row(version, self._keyring.account_id)

    def _rows(self, versions: list[Version]) -> list[Parameters]:
        return [self._row(version) for version in self._files.found(versions)]
