#!/usr/bin/env bash
# Runs the program against servers of other projects, with the Python of this environment:
#   bash tests/independent_servers.sh [FOLDER]     FOLDER keeps the servers; default: a temporary one
# Needs npm for aimock; without it that server is left out.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=${1:-$(mktemp -d)}
mkdir -p "$folder"
if [ $# -eq 0 ]; then trap 'rm -rf "$folder"' EXIT; fi

install_package() { # NAME VERSION BINARY
  [ -x "$folder/$1/bin/$3" ] && return
  python -m venv "$folder/$1"
  "$folder/$1/bin/python" -m pip install --quiet --disable-pip-version-check "$1==$2"
}
install_package llmock 0.2.2 llmock
install_package mock-ai-api 0.1.1 uvicorn
if command -v npm >/dev/null && [ ! -x "$folder/aimock/node_modules/.bin/llmock" ]; then
  mkdir -p "$folder/aimock"
  npm install --silent --no-fund --no-audit --prefix "$folder/aimock" @copilotkit/aimock@1.43.0
fi
INDEPENDENT_SERVERS="$folder" python -m pytest -m independent tests/behaviour/http/test_independent_servers.py
