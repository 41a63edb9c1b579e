"""B2's native API: the account, its buckets and its keys. The API's versions differ in how they tell of them."""

from __future__ import annotations

import base64
import binascii
import re

from dumont.local.object_store.catalogue import Bucket
from dumont.local.object_store.files import Files
from dumont.local.object_store.http import Request
from dumont.local.object_store.keys import Key, Keyring
from dumont.local.object_store.native_parameters import Call, Parameters, limit_of, text
from dumont.local.object_store.refusals import Refused, bad_request

_BUCKET_NAME = re.compile(r"(?!b2-)[A-Za-z0-9][A-Za-z0-9-]{4,61}[A-Za-z0-9]")


class NativeAccount:
    """Answers about the account."""

    def __init__(self, files: Files, keyring: Keyring) -> None:
        self._files = files
        self._catalogue = files.catalogue
        self._keyring = keyring
        self.calls: dict[str, Call] = {
            "b2_create_bucket": ("bucket", self._create_bucket),
            "b2_delete_bucket": ("bucket", self._delete_bucket),
            "b2_list_buckets": ("bucket", self._list_buckets),
            "b2_create_key": ("key", self._create_key),
            "b2_list_keys": ("key", self._list_keys),
            "b2_delete_key": ("key", self._delete_key),
        }

    def authorize(self, request: Request, version: int) -> Parameters:
        """`b2_authorize_account`."""
        self._files.enter(request, "authorize")
        try:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            key_id, _, secret = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            scheme, key_id, secret = "", "", ""
        key = self._keyring.find(key_id) if scheme.lower() == "basic" else None
        if key is None or key.secret != secret:
            raise Refused(401, "unauthorized", "invalid credentials")
        names = {bucket.id: bucket.name for bucket in self._catalogue.buckets()}
        ours = [{"id": bucket_id, "name": names.get(bucket_id)} for bucket_id in key.bucket_ids or ()]
        first = ours[0] if ours else {"id": None, "name": None}
        storage: Parameters = {
            "apiUrl": request.base_url,
            "downloadUrl": request.base_url,
            "s3ApiUrl": request.base_url,
            "recommendedPartSize": self._files.recommended_part_bytes,
            "absoluteMinimumPartSize": self._files.minimum_part_bytes,
        }
        capabilities: Parameters = {"capabilities": list(key.capabilities), "namePrefix": key.prefix or None}
        answer: Parameters = {
            "accountId": self._keyring.account_id,
            "authorizationToken": self._keyring.give_token(key),
            "applicationKeyExpirationTimestamp": _milliseconds(key.expires_at),
        }
        if version >= 4:
            storage["allowed"] = {"buckets": ours or None, **capabilities}
            return {**answer, "apiInfo": {"storageApi": storage, "groupsApi": {}}}
        flat = {"bucketId": first["id"], "bucketName": first["name"], **capabilities}
        if version == 3:
            return {**answer, "apiInfo": {"storageApi": {**storage, **flat, "infoType": "storageApi"}}}
        minimum = {"minimumPartSize": storage["recommendedPartSize"]} if version == 1 else {}
        return {**answer, **storage, **minimum, "allowed": flat}

    def _create_bucket(self, _: Request, key: Key, asked: Parameters, __: int) -> Parameters:
        key.allow("writeBuckets")
        name = text(asked, "bucketName")
        if not _BUCKET_NAME.fullmatch(name):
            raise bad_request("a bucket's name has 6 to 63 letters, digits and hyphens, and does not begin with b2-")
        if asked.get("bucketType") != "allPrivate":
            raise bad_request("the local object store has private buckets alone")
        return self._bucket_row(self._catalogue.create_bucket(name))

    def _delete_bucket(self, _: Request, key: Key, asked: Parameters, __: int) -> Parameters:
        bucket = self._catalogue.bucket(bucket_id=text(asked, "bucketId"))
        key.allow("deleteBuckets", bucket=bucket)
        self._catalogue.delete_bucket(bucket)
        return self._bucket_row(bucket)

    def _list_buckets(self, _: Request, key: Key, asked: Parameters, __: int) -> Parameters:
        if not key.can("listAllBucketNames") and not key.can("listBuckets"):
            key.allow("listBuckets")
        wanted = [
            bucket
            for bucket in self._catalogue.buckets()
            if asked.get("bucketId") in (None, bucket.id) and asked.get("bucketName") in (None, bucket.name)
        ]
        if key.bucket_ids is not None and not key.can("listAllBucketNames"):
            # As B2: a restricted key must name its bucket, and may ask for no other.
            if not ("bucketId" in asked or "bucketName" in asked):
                key.allow("listBuckets")
            for bucket in wanted:
                key.allow("listBuckets", bucket=bucket)
        return {"buckets": [self._bucket_row(bucket) for bucket in wanted]}

    def _create_key(self, _: Request, key: Key, asked: Parameters, version: int) -> Parameters:
        key.allow("writeKeys")
        ids = asked.get("bucketIds") if version >= 4 else asked.get("bucketId") and [asked["bucketId"]]
        made = self._keyring.create(
            name=text(asked, "keyName"),
            capabilities=asked.get("capabilities") or (),
            valid_seconds=asked.get("validDurationInSeconds"),
            buckets=[self._catalogue.bucket(bucket_id=bucket_id) for bucket_id in ids] if ids else None,
            prefix=asked.get("namePrefix") or "",
        )
        return {**self._key_row(made, version), "applicationKey": made.secret}

    def _list_keys(self, _: Request, key: Key, asked: Parameters, version: int) -> Parameters:
        key.allow("listKeys")
        limit = limit_of(asked, "maxKeyCount")
        start = asked.get("startApplicationKeyId", "")
        keys = [found for found in self._keyring.all() if found.id >= start]
        following = keys[limit].id if len(keys) > limit else None
        return {"keys": [self._key_row(k, version) for k in keys[:limit]], "nextApplicationKeyId": following}

    def _delete_key(self, _: Request, key: Key, asked: Parameters, version: int) -> Parameters:
        key.allow("deleteKeys")
        return self._key_row(self._keyring.delete(text(asked, "applicationKeyId")), version)

    def _bucket_row(self, bucket: Bucket) -> Parameters:
        hidden = {"isClientAuthorizedToRead": False, "value": None}
        return {
            "accountId": self._keyring.account_id,
            "bucketId": bucket.id,
            "bucketName": bucket.name,
            "bucketType": "allPrivate",
            "bucketInfo": {},
            "corsRules": [],
            "lifecycleRules": [],
            "options": ["s3"],
            "revision": 1,
            "defaultServerSideEncryption": {"isClientAuthorizedToRead": True, "value": {"mode": None}},
            "fileLockConfiguration": hidden,
            "replicationConfiguration": hidden,
        }

    def _key_row(self, key: Key, version: int) -> Parameters:
        ids = None if key.bucket_ids is None else list(key.bucket_ids)
        buckets = {"bucketIds": ids} if version >= 4 else {"bucketId": ids and ids[0]}
        return {
            "accountId": self._keyring.account_id,
            "applicationKeyId": key.id,
            "keyName": key.name,
            "capabilities": list(key.capabilities),
            "expirationTimestamp": _milliseconds(key.expires_at),
            "namePrefix": key.prefix or None,
            "options": ["s3"],
            **buckets,
        }


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)
