#!/bin/sh
# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Packs a release whose program says why it cannot run, and ends. $1: the folder of the release.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$1"
printf '#!/bin/sh\necho "this release is broken on purpose" >&2\nexit 3\n' >"$work/bin/ollama"
chmod 0755 "$work/bin/ollama"
for arch in amd64 arm64; do
  tar --create --zstd --file "$1/ollama-linux-$arch.tar.zst" --directory "$work" bin/ollama
done
cd "$1"
printf '{"amd64": "%s", "arm64": "%s"}\n' "$(sha256sum ollama-linux-amd64.tar.zst | cut -c1-64)" "$(sha256sum ollama-linux-arm64.tar.zst | cut -c1-64)" >checksums.json
