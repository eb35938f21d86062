"""A fake LLM provider for tests and for trying the program out. It costs nothing and needs no key.

`provider.SimulatedProvider` is its core: it contains no I/O, no clock and no network. It is used in two ways:

- over HTTP: `http_server.serve` runs it on a loopback port, and `process simulate` runs that server (`cli_server`);
- in memory: `memory_transport.MemoryTransport` puts it behind the transport interface, usually on the virtual clock of
  `virtual_clock`, where hours pass in milliseconds.

`fault_injecting_storage` is the in-memory storage that belongs to the second use.
"""
