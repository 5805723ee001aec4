# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a certificate, its chain and its key belong together and to the names that they are for."""

from __future__ import annotations

import datetime
import ipaddress
import itertools
import re
import typing as t

# ansible-core itself needs cryptography on the control node. It is imported where it is used: who gives no certificate waits for nothing.
_BLOCK = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def _load(certificate: str, key: str) -> tuple[list[t.Any], t.Any]:
    """The certificates of a PEM text, the host's first, and the key. ValueError says what is wrong with which."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if "-----BEGIN" not in certificate:
        raise ValueError("the certificate is not a PEM text: use lookup('ansible.builtin.file', …) for a file on the control node")
    if "PRIVATE KEY-----" not in key:
        raise ValueError("the key is not a PEM text with a private key")
    if "ENCRYPTED" in key:
        raise ValueError("the key has a passphrase, which nobody types at a start: store it without one, in the vault")
    try:
        chain = [x509.load_pem_x509_certificate(block.encode()) for block in _BLOCK.findall(certificate)]
    except ValueError as exc:
        raise ValueError(f"the certificate cannot be read ({exc})") from exc
    if not chain:
        raise ValueError("the certificate's text has no certificate in it")
    try:
        return chain, load_pem_private_key(key.encode(), None)
    except (TypeError, ValueError) as exc:
        raise ValueError("the key cannot be read") from exc


def _end(certificate: t.Any) -> datetime.datetime:
    # cryptography has the aware one from 42 on.
    end: datetime.datetime = getattr(certificate, "not_valid_after_utc", None) or certificate.not_valid_after.replace(tzinfo=datetime.UTC)
    return end


def _covers(pattern: str, name: str) -> bool:
    """A wildcard stands for one label."""
    if pattern.startswith("*."):
        return "." in name and name.split(".", 1)[1] == pattern[2:].lower()
    return pattern.lower() == name


def _missing(certificate: t.Any, names: t.Iterable[str]) -> list[str]:
    from cryptography import x509

    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        patterns = alternatives.get_values_for_type(x509.DNSName)
        addresses = {str(address) for address in alternatives.get_values_for_type(x509.IPAddress)}
    except x509.ExtensionNotFound:
        patterns, addresses = [], set()
    found = []
    for name in names:
        try:
            covered = str(ipaddress.ip_address(name)) in addresses
        except ValueError:
            covered = any(_covers(pattern, name) for pattern in patterns)
        if not covered:
            found.append(name)
    return found


def problems(certificate: str, key: str, names: t.Iterable[str]) -> list[str]:
    """What is wrong, in sentences that do not repeat the key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    try:
        chain, private = _load(certificate, key)
    except ValueError as exc:
        return [f"{exc}."]
    found = []
    own, public = chain[0], (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if own.public_key().public_bytes(*public) != private.public_key().public_bytes(*public):
        found.append("the key is not that of the first certificate in the text: the host's own comes first, then those that signed it.")
    if _end(own) <= datetime.datetime.now(datetime.UTC):
        found.append(f"the certificate ended on {_end(own):%Y-%m-%d}: give a new one.")
    missing = _missing(own, names)
    if missing:
        found.append(f"the certificate is not for {', '.join(missing)}: clients would refuse it. Get one for these, or take them out.")
    for below, above in itertools.pairwise(chain):
        if below.issuer != above.subject:
            found.append("the chain is out of order: after each certificate comes the one that signed it.")
            break
    return found
