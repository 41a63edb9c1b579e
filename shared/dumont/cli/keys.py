"""The command line's own SSH key: `$XDG_CONFIG_HOME/dumont/id_ed25519`, made when it is first needed."""

from __future__ import annotations

from pathlib import Path

from dumont.cli.credentials import config_folder, write_private
from dumont.cli.errors import FAILED, USAGE, CliError


def key_file(folder: Path | None = None) -> Path:
    """Where the private key is, in the user's folder or in another; it may not exist yet."""
    return (folder or config_folder()) / "id_ed25519"


def ensure_key(*, folder: Path | None = None) -> tuple[Path, str]:
    """The private key's file and the public key as OpenSSH writes it; a new pair if there is none."""
    path = key_file(folder)
    public = path.with_name(path.name + ".pub")
    if path.exists():
        if not public.exists():
            write_private(public, _public_of(path) + "\n")
        return path, public.read_text(encoding="utf-8").strip()
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.OpenSSH, forms.NoEncryption()).decode()
    line = key.public_key().public_bytes(forms.Encoding.OpenSSH, forms.PublicFormat.OpenSSH).decode() + " dumont-cli"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(path, private)
    write_private(public, line + "\n")
    return path, line


def private_key_text() -> str:
    """The private key, for a connection; raises `CliError` if this user has none."""
    path = key_file()
    if not path.exists():
        raise CliError(
            f"there is no SSH key at {path}, so no machine lets this user in",
            exit_code=FAILED,
            code="no_ssh_key",
            hint="`dumont up` makes one and has it let in; a machine started elsewhere knows the key made there",
        )
    return path.read_text(encoding="utf-8")


def read_public_key(file: Path) -> str:
    """A public key from a file such as ~/.ssh/id_ed25519.pub; a private key is refused and never sent."""
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"cannot read {file}: {error}", exit_code=USAGE, code="invalid_input") from error
    if "PRIVATE KEY" in text or len(text.splitlines()) != 1:
        raise CliError(
            f"{file} is not a public key",
            exit_code=USAGE,
            code="invalid_input",
            safe="Nothing was sent.",
            hint=f"name the public one, often {file}.pub",
        )
    return text


def _public_of(path: Path) -> str:
    from cryptography.hazmat.primitives import serialization as forms

    try:
        key = forms.load_ssh_private_key(path.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise CliError(
            f"{path} cannot be read as an SSH key: {error}", code="bad_ssh_key", hint="move it away; a new one is made"
        ) from error
    return key.public_key().public_bytes(forms.Encoding.OpenSSH, forms.PublicFormat.OpenSSH).decode() + " dumont-cli"
