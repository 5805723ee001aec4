# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for Ollama: see README.md beside the package."""

# build_release.py writes the version of the release into the copy that it packs.
VERSION = "0.32.15"
