# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the certificates of a CA bundle that the distribution does not ship: extra_certificates.py BUNDLE DISTRIBUTION_FOLDER OUT_FOLDER

Those are the ones somebody added to this machine, such as the authority of a proxy that inspects TLS. The nodes need them too.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)


def body(pem: str) -> str:
    """The base64 text alone, so that line breaks do not matter."""
    return "".join(pem.split())


def main(bundle: Path, shipped_in: Path, out: Path) -> None:
    if not bundle.exists():
        return
    shipped = {
        body(pem) for path in shipped_in.rglob("*.crt") for pem in CERTIFICATE.findall(path.read_text(encoding="utf-8", errors="replace"))
    }
    for pem in CERTIFICATE.findall(bundle.read_text(encoding="utf-8", errors="replace")):
        if body(pem) not in shipped:
            digest = hashlib.sha256(body(pem).encode()).hexdigest()[:16]
            (out / f"host-{digest}.crt").write_text(pem + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
