"""A real language model behind a real server, neither of which is ours, as a program of its own: it is native code.

``python model_server.py WEIGHTS [embeddings]`` prints the server's address, and serves until its standard input is
closed. With ``embeddings`` it serves these, and generates no text.
"""

from __future__ import annotations

import os
import sys

import xllamacpp

MODEL = "smollm2-135m"
IN_FLIGHT = 4
TOKENS_EACH = 2048


def main(weights: str, kind: str = "text") -> None:
    params = xllamacpp.CommonParams()
    params.model.path = weights
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = IN_FLIGHT
    params.n_ctx = IN_FLIGHT * TOKENS_EACH
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    if kind == "embeddings":
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)  # at once: to return would wait for requests that are still being answered


if __name__ == "__main__":
    main(*sys.argv[1:])
