"""Makes the objects of a run from its plan and settings."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from processor.app.cluster import WorkersShown, open_cluster
from processor.app.job_source import MAX_FORECAST_BYTES, ordered_jobs, planned_lines, unfinished_jobs
from processor.app.plan import Plan
from processor.config.api_keys import KeyCommand
from processor.config.endpoint_resolution import EndpointAccess, default_path
from processor.core.errors import ConfigError, KeyCommandFailed
from processor.core.events import Listener, Notice, Transport
from processor.core.models import Target
from processor.core.process_errors import LocalModelFailed
from processor.core.urls import endpoint_address
from processor.cost.price_list import PriceList
from processor.endpoints.pool import EndpointPool
from processor.input.job_files import JobFiles
from processor.output.index_entry import RunTarget
from processor.output.sink import Sink
from processor.protocols.registry import PROTOCOLS
from processor.scheduler import LOOK_AHEAD, Dependencies, Forecast, RunOptions, forecast
from processor.terminal.echo import Echo
from processor.tokens.counter import TokenCounter

if TYPE_CHECKING:
    from processor.cluster.remote import RemoteTransport
    from processor.http.client import HttpTransport
    from processor.http.key_renewal import KeyRenewal
    from processor.http.settings import TransportSettings
    from processor.local_model.transport import LocalModel
    from processor.scheduler.reply_validation import ReplyValidation

LOCAL_CONCURRENCY = 4
"""Requests that a local model answers at a time, where the user does not say."""

SIMULATED_FIRST_TOKEN_S = 0.1
SIMULATED_SPEED_TPS = 400.0
SIMULATED_BATCH_S = 3.0
"""How long the simulator of a trial run takes for a batch, as the two above for a reply: a person watches it."""


class OpenedTransport(NamedTuple):
    """What a run sends its requests with."""

    targets: Sequence[Target]
    """Where the requests go, for each endpoint."""
    send: Transport
    workers: WorkersShown | None = None
    """None where the run sends its requests itself."""


def concurrency(plan: Plan, max_connections: int, workers: WorkersShown | None = None) -> int:
    """The most requests in flight: the plan's number, or as many as there may be connections."""
    max_connections = (workers.max_connections if workers else 0) or max_connections
    if plan.echo:
        return 1
    default = max_connections if plan.settings.local is None else LOCAL_CONCURRENCY
    return min(plan.settings.fixed_concurrency or default, max_connections)


def run_target(plan: Plan, accesses: Sequence[EndpointAccess], schema: str | None = None) -> RunTarget:
    """What the rows of earlier runs are compared with: not the address of a server that the run starts.

    ``schema``: the digest of that which all output is checked against.
    """
    if plan.settings.local is not None:
        return RunTarget(schema=schema, shard=plan.shard)
    addresses = (endpoint_address(access.target.base_url, path) for access in accesses for path in PROTOCOLS)
    model = plan.settings.model
    sent = (access.settings.model_sent(model) for access in accesses if access.settings and model is not None)
    models = frozenset(name for name in (model, *sent) if name is not None)
    return RunTarget(addresses=frozenset(addresses), models=models, schema=schema, shard=plan.shard)


async def open_target(plan: Plan, accesses: Sequence[EndpointAccess], stack: AsyncExitStack) -> Target:
    """Return where the calls of a batch API go, with the key: the endpoint, or a simulator that this starts."""
    return await first_target(accesses[0]) if accesses else await _start_simulator(plan, stack)


@asynccontextmanager
async def open_transport(
    plan: Plan, accesses: Sequence[EndpointAccess], transport: Transport | None, emit: Listener
) -> AsyncIterator[OpenedTransport]:
    """Yields where requests go and what sends them: the given transport, else HTTP, from here or from a cluster.

    Without an access the target is a simulator that this starts on a loopback address. Raises ConfigError.
    """
    async with AsyncExitStack() as stack:
        local: LocalModel | None = None
        workers: WorkersShown | None = None
        if not accesses:
            targets = [await _start_simulator(plan, stack)]
        elif transport is not None:
            targets = [access.target for access in accesses]
        elif (path := accesses[0].local_model) is not None:
            local = await _start_local_model(plan, path, emit, stack)
            targets = [local.target]
        else:
            targets = [await first_target(access) for access in accesses]
        if transport is None:
            transport, workers = await _open_http(plan, accesses, targets, emit, stack)
        yield OpenedTransport(targets, transport if local is None else local.transport(transport), workers)


async def _start_local_model(plan: Plan, path: Path, emit: Listener, stack: AsyncExitStack) -> LocalModel:
    from processor.local_model.child import LocalModelSettings
    from processor.local_model.transport import LocalModel

    settings = LocalModelSettings(
        path=path,
        parallel=concurrency(plan, sys.maxsize),
        context_tokens=plan.settings.local_context_tokens,
    )
    try:
        return await stack.enter_async_context(LocalModel(settings, _emit_text(emit, is_warning=True)))
    except LocalModelFailed as error:
        raise ConfigError(str(error)) from None


async def first_target(access: EndpointAccess) -> Target:
    """The target with its key, for which a command may have to be run. Raises ConfigError."""
    if access.key_command is None:
        return access.target
    from processor.config.key_command import run_key_command

    try:
        return replace(access.target, key=await run_key_command(access.key_command.args))
    except KeyCommandFailed as error:
        where = "" if access.settings is None else f"the endpoint {access.settings.name!r}: "
        raise ConfigError(f"{where}no key: {error}") from None


def transport_settings(plan: Plan, accesses: Sequence[EndpointAccess]) -> TransportSettings:
    from processor.http.settings import TransportSettings

    return TransportSettings(
        timeouts=plan.settings.waiting,
        max_reply_bytes=plan.settings.max_reply_bytes,
        ca_file=plan.settings.ca_file,
        trust_env=bool(accesses),
        stream=plan.settings.stream,
        echo=plan.echo,
    )


async def _open_http(
    plan: Plan,
    accesses: Sequence[EndpointAccess],
    targets: Sequence[Target],
    emit: Listener,
    stack: AsyncExitStack,
) -> tuple[Transport, WorkersShown | None]:
    from processor.http.client import HttpTransport

    settings = transport_settings(plan, accesses)
    http = await stack.enter_async_context(HttpTransport(settings, on_notice=_emit_text(emit)))
    for target in targets:
        http.prepare(target, default_path(plan.settings, accesses))
    sender: HttpTransport | RemoteTransport = http
    workers = None
    if plan.settings.ray.address is not None:
        sender, workers = await open_cluster(plan, accesses, targets, settings, emit, stack)
    send: Transport = sender
    for access, target in zip(accesses, targets, strict=bool(accesses)):
        if access.key_command is not None:
            send = await stack.enter_async_context(_key_renewal(sender, send, target, access.key_command))
    return send, workers


def _emit_text(emit: Listener, *, is_warning: bool = False) -> Callable[[str], None]:
    """Return a function that emits a text as a notice."""
    now = asyncio.get_running_loop().time
    return lambda text: emit(Notice(at=now(), text=text, is_warning=is_warning))


def _key_renewal(
    sender: HttpTransport | RemoteTransport, send: Transport, target: Target, command: KeyCommand
) -> KeyRenewal:
    """``send``: what is sent through, ``sender`` or the renewal of another endpoint's key around it."""
    from processor.config.key_command import run_key_command
    from processor.http.key_renewal import KeyRenewal

    fetch = partial(run_key_command, command.args)
    return KeyRenewal(send, target, fetch, ttl_s=command.ttl_s, on_renewed=sender.replace_key)


async def _start_simulator(plan: Plan, stack: AsyncExitStack) -> Target:
    from processor.simulator.batch_settings import BatchSettings
    from processor.simulator.http_server import serve
    from processor.simulator.provider import SimulatedProvider
    from processor.simulator.settings import SimulatorSettings

    limits = plan.settings.limits
    settings = SimulatorSettings(
        rpm=max(1, round(limits.rpm)) if limits.rpm else None,
        tpm=max(1, round(limits.tpm)) if limits.tpm else None,
        speed_tps=SIMULATED_SPEED_TPS,
        first_token_s=SIMULATED_FIRST_TOKEN_S,
        batches=BatchSettings(duration_s=SIMULATED_BATCH_S),
        epoch_s=time.time(),
    )
    server = await serve(SimulatedProvider(settings))
    stack.push_async_callback(server.close)
    return Target(base_url=server.base_url)


def dependencies(
    plan: Plan,
    job_files: JobFiles,
    sink: Sink,
    transport: Transport,
    endpoints: EndpointPool,
    emit: Listener,
    prices: PriceList,
    validation: ReplyValidation | None = None,
) -> Dependencies:
    return Dependencies(
        source=ordered_jobs(plan, job_files, sink, run_options(plan))
        if plan.order != "file"
        else unfinished_jobs(plan, job_files, sink),
        read_again=partial(aiter, job_files) if job_files.can_be_read_again else None,
        source_name=plan.jobs_name,
        sink=sink,
        endpoints=endpoints,
        transport=transport,
        counter=TokenCounter(plan.settings.encoding, asyncio.to_thread),
        emit=emit,
        wall_clock=time.time,
        printer=Echo() if plan.echo else None,
        prices=prices,
        validation=validation,
    )


def forecast_of(plan: Plan, job_files: JobFiles, sink: Sink) -> Forecast | None:
    """What the run will send; None where that is not known: for a pipe, a large file, or without earlier rows.

    Reads the job file. Raises ConfigError.
    """
    size = job_files.size
    if size is None or size > MAX_FORECAST_BYTES or not (sink.recovered.replied or sink.recovered.failed):
        return None
    return forecast(planned_lines(plan, job_files), sink.job_index, run_options(plan))


def run_options(plan: Plan) -> RunOptions:
    settings = plan.settings
    return RunOptions(
        grace_s=settings.grace_s,
        look_ahead=1 if plan.echo else LOOK_AHEAD,
        limit=plan.limit,
        shard=plan.shard,
        retry_failed=plan.retry_failed,
        resend_changed=settings.changed == "resend",
        simulated=plan.simulate,
        stream=settings.stream,
    )
