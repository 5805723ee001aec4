#!/bin/sh
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Compiles the hash-locked requirements that ship with the roles from the .in files beside them.
# Run it after changing a version there: scripts/lock.sh [--upgrade] [uv pip compile options]
# Without --upgrade, versions that still fit are kept. Needs uv (UV=/path/to/uv if it is not on PATH).

set -eu

cd "$(dirname "$0")/.."
uv=${UV:-uv}

# compile <lowest Python> <requirements.in> [options]: universal, so one lock serves every architecture and newer Python versions.
# A file .excludes beside it lists what is left out of the resolution altogether.
compile() {
    python=$1 source=$2
    shift 2
    lock=${source%.in}.txt
    excludes=${source%.in}.excludes
    if [ -f "$excludes" ]; then
        set -- --excludes "$excludes" "$@"
    fi
    echo "$lock" >&2
    # Which index was asked depends on who asked; a lock must not carry it.
    "$uv" pip compile --quiet --universal --python-version "$python" --no-python-downloads \
        --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate \
        --custom-compile-command "make locks" --output-file "$lock" "$@" "$source"
}

compile 3.8 roles/_python_app/files/uv.in "$@"
compile 3.10 roles/litellm_proxy/files/requirements.in "$@"
# The same versions with a database as without.
cp roles/litellm_proxy/files/requirements.txt roles/litellm_proxy/files/requirements-database.txt
compile 3.10 roles/litellm_proxy/files/requirements-database.in
compile 3.11 roles/open_webui/files/requirements-gateway.in "$@"
compile 3.11 roles/open_webui/files/requirements-full.in "$@"
compile 3.11 roles/open_webui/files/requirements-full-gpu.in "$@"

# Addresses are left out: the lock must fit every registry.
echo roles/litellm_proxy/files/prisma/package-lock.json >&2
(cd roles/litellm_proxy/files/prisma && "${NPM:-npm}" install --package-lock-only --ignore-scripts --omit-lockfile-registry-resolved --no-audit --no-fund --silent)
