# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import ipaddress
import typing as t

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from ansible_collections.selfhosted.llm.plugins.plugin_utils.certificates import problems

NOW = datetime.datetime.now(datetime.UTC)


class Pair:
    """A certificate and its key, signed by another pair or by itself."""

    def __init__(self, name: str, alternatives: t.Sequence[x509.GeneralName] = (), signer: Pair | None = None, days: int = 1) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(self.subject)
            .issuer_name(signer.subject if signer else self.subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - datetime.timedelta(days=30))
            .not_valid_after(NOW + datetime.timedelta(days=days))
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        self.certificate = builder.sign(signer.key if signer else self.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def pem(self, passphrase: bytes | None = None) -> str:
        how = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()


ROOT = Pair("root")
MIDDLE = Pair("middle", signer=ROOT)
SITE = Pair(
    "site",
    [x509.DNSName("api.example.org"), x509.DNSName("*.chat.example.org"), x509.IPAddress(ipaddress.ip_address("192.0.2.11"))],
    signer=MIDDLE,
)
NAMES = ["api.example.org", "a.chat.example.org", "192.0.2.11"]


def test_what_is_fine() -> None:
    assert problems(SITE.certificate, SITE.pem(), NAMES) == []
    assert problems(SITE.certificate + MIDDLE.certificate + ROOT.certificate, SITE.pem(), NAMES) == []


@pytest.mark.parametrize("name", ["chat.example.org", "a.b.chat.example.org", "www.api.example.org", "192.0.2.12"])
def test_names_that_it_is_not_for(name: str) -> None:
    (problem,) = problems(SITE.certificate, SITE.pem(), [name, "api.example.org"])
    assert f"not for {name}:" in problem


def test_a_common_name_is_none() -> None:
    assert "not for bare" in problems((bare := Pair("bare")).certificate, bare.pem(), ["bare"])[0]


def test_another_key() -> None:
    (problem,) = problems(SITE.certificate, MIDDLE.pem(), NAMES)
    assert "not that of the first certificate" in problem


def test_the_authority_first() -> None:
    found = problems(MIDDLE.certificate + SITE.certificate, SITE.pem(), [])
    assert any("not that of the first certificate" in problem for problem in found)
    assert any("out of order" in problem for problem in found)


def test_one_that_has_ended() -> None:
    old = Pair("old", [x509.DNSName("old")], days=-1)
    (problem,) = problems(old.certificate, old.pem(), ["old"])
    assert "the certificate ended on" in problem


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        ("/etc/ssl/site.pem", SITE.pem(), "not a PEM text: use lookup"),
        ("-----BEGIN X-----", SITE.pem(), "has no certificate in it"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", SITE.pem(), "the certificate cannot be read"),
        (SITE.certificate, "/etc/ssl/site.key", "the key is not a PEM text"),
        (SITE.certificate, SITE.pem(b"hush"), "the key has a passphrase"),
        (SITE.certificate, "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----", "the key cannot be read"),
    ],
)
def test_what_is_no_certificate_or_no_key(certificate: str, key: str, words: str) -> None:
    (problem,) = problems(certificate, key, NAMES)
    assert words in problem
    assert "c2VjcmV0" not in problem
