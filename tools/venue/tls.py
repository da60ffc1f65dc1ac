"""Throw-away papers for a venue over TLS: an authority, and a certificate that it signed.

    issue(folder) ──► Papers(ca, certificate, key)      ca is what a client is to trust

The authority's own key is forgotten at once: nobody can sign with it later, and whoever trusts
the file trusts this venue alone. The certificate names 127.0.0.1 and localhost.
"""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# What each client of ours reads its authorities from: OpenSSL's own name serves
# websocket-client and httpx, and gRPC brings its own roots and its own name.
TRUST: Final = ("SSL_CERT_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")

_DAY: Final = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Papers:
    """Where the PEM files are: the authority's certificate, the venue's, and the venue's key."""

    ca: Path
    certificate: Path
    key: Path

    def trust(self) -> dict[str, str]:
        """Return the environment in which a client trusts this venue, and nobody else."""
        return dict.fromkeys(TRUST, str(self.ca))


def issue(folder: Path, *, expired: bool = False) -> Papers:
    """Write new papers into `folder`, valid for a day; `expired` ones were, until yesterday."""
    now = datetime.datetime.now(datetime.UTC)
    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    signed_by = _name("A stand-in's throw-away authority")
    ca = (
        _paper(signed_by, signed_by, authority.public_key(), now + 2 * _DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(authority, hashes.SHA256())
    )
    key_of_ca = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        _paper(_name("localhost"), signed_by, own.public_key(), now + (-_DAY if expired else _DAY))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(key_of_ca, critical=False)
        .sign(authority, hashes.SHA256())
    )
    papers = Papers(folder / "ca.pem", folder / "venue.pem", folder / "venue.key")
    papers.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    papers.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    papers.key.touch(mode=0o600)
    papers.key.write_bytes(
        own.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return papers


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _paper(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, end: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(end - 3 * _DAY)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
