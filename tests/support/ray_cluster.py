"""A Ray cluster of three nodes on this machine, in a process of its own, so that pytest does not import Ray.

As a program it starts the cluster and obeys lines on its standard input, each of which it answers with a line of JSON.
The head has no CPU for workers; the other nodes have the resource ``w``.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class RayCluster:
    """Starts the program, and asks it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="r", dir="/tmp"))  # sockets allow no longer path
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "COV"))}
        self.key = secrets.token_hex(24)
        """What the variable RAY_TEST_KEY of all nodes holds."""
        environ |= {
            "RAY_TEST_KEY": self.key,
            "PYTHONPATH": str(ROOT),
            "RAY_TMPDIR": str(self.folder),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = str(self._read()["address"])

    def ask(self, command: str) -> dict[str, Any]:
        """``remove``: end one of the nodes with workers, without notice. ``add``: start another one. ``values``: all
        that the head keeps, as hexadecimal digits."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._read()

    def places_of(self, secret: str) -> list[str]:
        """Return where Ray keeps a text: in its files (logs, spilled objects, sockets' names), or in the values of the
        head node."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        assert len(files) > 20
        values = bytes.fromhex(self.ask("values")["values"])
        assert len(values) > 100
        found = [str(path) for path in files if secret.encode() in path.read_bytes() or secret in path.name]
        return found + (["the values of the head node"] if secret.encode() in values else [])

    def close(self) -> None:
        self._process.communicate(timeout=120)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while not (line := self._process.stdout.readline()).startswith("{"):
            assert line, "the cluster has ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> None:
    import ray
    from ray.cluster_utils import Cluster
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_list

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})

    def add() -> Any:
        return cluster.add_node(num_cpus=2, resources={"w": 2})

    nodes = [add(), add()]
    _answer(address=cluster.address)
    for line in sys.stdin:
        command = line.strip()
        if command == "remove":
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            _answer(nodes=len(nodes))
        elif command == "add":
            nodes.append(add())
            _answer(nodes=len(nodes))
        else:
            ray.init(address=cluster.address, logging_level="ERROR")
            namespaces = [None, b"fun", b"job", b"actor", b"cluster", b"session", b"serve", b"tune", b"workflow"]
            keys = [(key, space) for space in namespaces for key in _internal_kv_list(b"", namespace=space)]
            values = [_internal_kv_get(key, namespace=space) or b"" for key, space in keys]
            ray.shutdown()
            _answer(values=b"\n".join(values).hex())
    cluster.shutdown()


def _answer(**values: Any) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
