"""Identity tokens as Google makes them, signed with a key of the test's own, and a server that publishes that key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from google.auth import crypt, jwt

from tests.contract.scripted_http import Asked, Said, said

CALLER = "dumont-caller@pro.iam.gserviceaccount.com"
AUDIENCE = "https://us-central1-pro.cloudfunctions.net/heartbeat-check"
PATH = "/oauth2/v3/certs"


class Google:
    """One account's tokens, and the JWK set. `kid` names the key that signs now."""

    def __init__(self, private: RSAPrivateKey | None = None) -> None:
        self.kid = "first"
        self.private = private or generate_private_key(public_exponent=65537, key_size=2048)
        self.answers: list[Said] = []
        """What is said in place of the set, first to last, for as long as there is any."""
        self.max_age = 20_000
        self.more: list[dict[str, str]] = []
        """Other keys of the set."""

    def __call__(self, asked: Asked) -> Said:
        if self.answers:
            return self.answers.pop(0)
        if asked.path != PATH:
            return said(404, {})
        return said(
            200, {"keys": [*self.more, self.jwk]}, Cache_Control=f"public, max-age={self.max_age}, must-revalidate"
        )

    @property
    def jwk(self) -> dict[str, str]:
        return jwk_of(self.private, self.kid)

    @property
    def public_pem(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """What Google says in a token for a service account; None leaves a claim out."""
        now = int(time.time())
        made = {
            "iss": "https://accounts.google.com",
            "aud": AUDIENCE,
            "azp": "1017",
            "sub": "1017",
            "email": CALLER,
            "email_verified": True,
            "iat": now,
            "exp": now + 3600,
            **changes,
        }
        return {name: value for name, value in made.items() if value is not None}

    def token(self, **changes: Any) -> str:
        """A token, signed by Google's own library."""
        pem = self.private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        signer = crypt.RSASigner.from_string(pem, self.kid)  # type: ignore[no-untyped-call]
        made: bytes = jwt.encode(signer, self.claims(**changes))  # type: ignore[no-untyped-call]
        return made.decode()

    def unsigned(self, **changes: Any) -> str:
        return f"{segment({'alg': 'none', 'typ': 'JWT', 'kid': self.kid})}.{segment(self.claims(**changes))}."

    def signed_with_the_public_key(self) -> str:
        """HS256 with what everybody knows as the secret."""
        text = f"{segment({'alg': 'HS256', 'typ': 'JWT', 'kid': self.kid})}.{segment(self.claims())}"
        return f"{text}.{encoded(hmac.new(self.public_pem, text.encode(), hashlib.sha256).digest())}"

    def stripped(self, **changes: Any) -> str:
        """A token as Cloud Run hands it on once it has checked it."""
        return f"{self.token(**changes).rpartition('.')[0]}.SIGNATURE_REMOVED_BY_GOOGLE"


def jwk_of(private: RSAPrivateKey, kid: str) -> dict[str, str]:
    numbers = private.public_key().public_numbers()
    return {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid, "n": number(numbers.n), "e": number(numbers.e)}


def segment(content: object) -> str:
    return encoded(json.dumps(content).encode())


def number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
