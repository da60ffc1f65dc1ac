"""Certificates by which a scheduler, its workers and whoever gives them work trust one another.

    bot sweep certs DIR ──► ca.pem, and of scheduler, worker, client NAME.pem and NAME-key.pem
    DIR ──► security_of ──► Dask's mutual TLS: who shows no certificate of that CA does not get in

The private key of the CA signs these three and is written nowhere: nobody can make a fourth.
"""

import argparse
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from dydx_conn import ConnError

from bot.engines.errors import EngineError
from bot.outlet import as_lines
from bot.system import absent, secret_of

ROLES: Final = ("scheduler", "worker", "client")
_DAYS: Final = 365
_MOST: Final = 64 * 1024


def certs(arguments: argparse.Namespace) -> int:
    """Write certificates to a folder that has none."""
    folder = Path(arguments.folder)
    made = make_certificates(folder, datetime.now(UTC))
    print(as_lines([f"{folder}: {', '.join(path.name for path in made)}"]))
    print("good for a year: copy the folder to each machine, and leave it to its owner alone")
    return 0


def make_certificates(folder: Path, now: datetime) -> list[Path]:
    """Write a CA and what it signed, good for a year; `ConnError` where the folder has any."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    if found := sorted(folder.glob("*.pem")):
        raise ConnError(f"expected a folder without certificates, got {found[0]}")

    def named(words: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, words)])

    def certificate(words: str, key: Any, signer: Any, *, is_ca: bool) -> x509.Certificate:
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        made = (
            x509.CertificateBuilder()
            .subject_name(named(words))
            .issuer_name(named("bot sweep CA"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))  # clocks differ
            .not_valid_after(now + timedelta(days=_DAYS))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=0 if is_ca else None), True)
        )
        if not is_ca:
            made = made.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        return made.sign(signer, hashes.SHA256())

    def pem(of: x509.Certificate) -> bytes:
        return of.public_bytes(serialization.Encoding.PEM)

    authority = ec.generate_private_key(ec.SECP256R1())
    files = {"ca.pem": pem(certificate("bot sweep CA", authority, authority, is_ca=True))}
    for role in ROLES:
        key = ec.generate_private_key(ec.SECP256R1())
        files[f"{role}.pem"] = pem(certificate(f"bot sweep {role}", key, authority, is_ca=False))
        files[f"{role}-key.pem"] = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return [_write(folder / name, content) for name, content in files.items()]


def _write(path: Path, content: bytes) -> Path:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    return path


def require_distributed() -> Any:
    """Return Dask's module; `EngineError` where it is not installed names what installs it."""
    if missing := absent("sweep", "Dask"):
        raise EngineError(missing)
    import distributed

    logging.getLogger("distributed").setLevel(logging.ERROR)
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # the engine reports it

    return distributed


def security_of(folder: Path, role: str) -> Any:
    """Return Dask's mutual TLS for a role (ROLES); `ConnError` for files others may read."""
    paths = [folder / name for name in ("ca.pem", f"{role}.pem", f"{role}-key.pem")]
    for path in paths:
        try:
            secret_of(path, _MOST)
        except OSError as error:
            what = f"expected certificates of bot sweep certs in {folder}"
            raise ConnError(f"{what}, got {path.name}: {error.strerror or error}") from None
    certificate = {f"tls_{role}_cert": str(paths[1]), f"tls_{role}_key": str(paths[2])}
    return require_distributed().Security(
        require_encryption=True, tls_ca_file=str(paths[0]), **certificate
    )
