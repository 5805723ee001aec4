# Copyright (c) The selfhosted.llm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has llama-server read its settings: USER ENVIRONMENT_FILE GPU BINARY ARGUMENT…

It reads environment and arguments, lists the GPUs that it sees, and ends; no model is loaded. Fails with what it says of the settings,
or, where GPU is not empty, if it sees none.
"""

import subprocess
import sys

user, environment_file, gpu, binary, *arguments = sys.argv[1:]
# systemd reads the file, as it will for the service.
properties = [f"User={user}", f"EnvironmentFile={environment_file}", "RuntimeMaxSec=120"]
command = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", *(f"--property={one}" for one in properties), binary]
tried = subprocess.run([*command, *arguments, "--list-devices"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
if tried.returncode != 0:
    sys.exit(f"{tried.stdout.strip() or 'it says nothing'}\n{binary} ended with {tried.returncode}")
devices = tried.stdout.partition("Available devices:")[2].split("\n")
if gpu and not any(line.strip() not in ("", "(none)") for line in devices):
    sys.exit(
        f"llama-server sees no GPU {gpu}. Look whether the driver runs (nvidia-smi, rocminfo or vulkaninfo), whether this build of "
        "llama-server can use it (with Debian's: libggml0-backend-vulkan or libggml0-backend-hip in llama_server_packages), and at "
        "llama_server_gpu_variable. Without gpu a server runs on the CPU."
    )
