"""The child process: serves a model over HTTP on the loopback interface until its standard input is closed.

Reads one line of JSON, ``{"path", "key", "port", "parallel", "context_tokens"}``, and answers with one line:
``{"url": ...}`` once requests can be sent, or ``{"error": ...}``. The key is not on the command line, which other users
of the machine can read.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NoReturn


def main() -> NoReturn:
    request = json.loads(sys.stdin.readline())
    server: Any = None  # it stops when it is freed
    try:
        server = _start(**request)
        answer = {"url": str(server.listening_address)}
    except ImportError:
        answer = {"error": "the extra `local` is not installed: pip install 'processor[local]'"}
    except Exception as error:  # noqa: BLE001 - native code raises what it likes
        answer = {"error": str(error) or type(error).__name__}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    sys.stdin.read()  # ends with the process that holds the other end, also where that is killed
    os._exit(0)  # at once: to return would wait for requests that are still being answered


def _start(*, path: str, key: str, port: int, parallel: int, context_tokens: int) -> Any:
    """Loads the model and starts the server."""
    import xllamacpp

    params: Any = xllamacpp.CommonParams()
    params.model.path = path
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.api_keys = [key]
    params.n_parallel = parallel
    params.n_ctx = parallel * context_tokens
    return xllamacpp.Server(params)
