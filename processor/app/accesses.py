"""Finds out where a run sends its requests, and with which keys."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from processor.app.cluster import check_cluster
from processor.app.plan import Plan
from processor.config.endpoint_resolution import EndpointAccess, resolve_endpoints
from processor.config.environment import environment
from processor.core.errors import ConfigError
from processor.core.events import Transport


def resolved_accesses(
    plan: Plan, environ: Mapping[str, str] | None, transport: Transport | None
) -> Sequence[EndpointAccess]:
    """Return the address and key of each endpoint; none for the simulator.

    ``environ``: None stands for the environment and ``.env``. A key is not required where there is a ``transport``.
    Raises ConfigError.
    """
    check_cluster(plan, own_transport=transport is not None)
    if plan.simulate:
        if transport is not None:
            raise ConfigError("a run has one transport: the simulator or the given one")
        return ()
    environ = environment(os.environ) if environ is None else environ
    return resolve_endpoints(plan.settings, environ, needs_key=transport is None)
