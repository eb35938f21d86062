"""Makes the objects of a run from its plan and settings."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from processor.app.plan import Plan
from processor.config import GENERIC
from processor.config.api_keys import KeyCommand
from processor.config.endpoint_resolution import EndpointAccess, default_path
from processor.config.settings import Settings
from processor.core.errors import ConfigError, KeyCommandFailed, OutputError
from processor.core.events import Listener, Notice, Transport
from processor.core.models import Target
from processor.core.secrets import Secret
from processor.core.urls import endpoint_address
from processor.endpoints.pool import Endpoint, EndpointPool
from processor.health.canary import TIMEOUT_WITH_KEY_S, TIMEOUT_WITHOUT_KEY_S
from processor.health.endpoint_health import EndpointHealth
from processor.input.done_job_skipper import SkippedJobs
from processor.input.job_file import InvalidLine, JobFile
from processor.input.job_formats import JobDefaults, ParsedJob
from processor.output.index_entry import RunTarget
from processor.output.results_file import ResultsFile
from processor.output.sink import Sink
from processor.output.stdout_sink import StdoutSink
from processor.protocols.registry import PROTOCOLS
from processor.ratelimit.limiter import RateLimiter
from processor.ratelimit.settings import LimitSettings
from processor.retry.backoff import Backoff
from processor.retry.policy import RetryPolicy
from processor.scheduler import LOOK_AHEAD, Dependencies, Forecast, RunOptions, forecast
from processor.terminal.echo import Echo
from processor.tokens.counter import TokenCounter

if TYPE_CHECKING:
    from processor.http.client import HttpTransport
    from processor.http.key_renewal import KeyRenewal

MAX_FORECAST_BYTES = 16 << 20
"""Larger job files are not compared with the results before the first request: that takes about a second more for each
MAX_FORECAST_BYTES."""


def concurrency(plan: Plan, max_connections: int) -> int:
    """The most requests in flight: the plan's number, or as many as there may be connections."""
    if plan.echo:
        return 1
    return min(plan.settings.fixed_concurrency or max_connections, max_connections)


def open_job_file(plan: Plan, access: EndpointAccess | None) -> JobFile:
    settings = plan.settings
    defaults = JobDefaults(
        endpoint=default_path(settings, access),
        model=settings.model,
        base_url=access.target.base_url if access else None,
        request_limits=(access.provider if access else GENERIC).request_limits,
    )
    return JobFile(plan.jobs, defaults, max_line_bytes=settings.max_line_bytes)


def run_target(plan: Plan, access: EndpointAccess | None) -> RunTarget:
    """What the rows of earlier runs are compared with. The address of a simulator is of no interest."""
    addresses = (endpoint_address(access.target.base_url, path) for path in PROTOCOLS) if access else ()
    return RunTarget(addresses=frozenset(addresses), model=plan.settings.model)


def open_sink(plan: Plan, target: RunTarget) -> Sink:
    """Opens the results file, locks it and repairs it after a crash. Raises ConfigError where that fails."""
    if plan.out == "-":
        return StdoutSink()
    output = plan.settings.output
    try:
        return ResultsFile.open(
            Path(plan.out),
            simulated=plan.simulate,
            target=target,
            fsync=output.fsync,
            fsync_interval_s=output.fsync_interval_s,
        )
    except OutputError as error:
        raise ConfigError(str(error)) from None


@asynccontextmanager
async def open_transport(
    plan: Plan, access: EndpointAccess | None, transport: Transport | None, emit: Listener
) -> AsyncIterator[tuple[Target, Transport]]:
    """Yields where requests go and what sends them: the given transport, else HTTP.

    Without an access the target is a simulator that this starts on a loopback address. Raises ConfigError.
    """
    async with AsyncExitStack() as stack:
        target = access.target if access else await _start_simulator(plan, stack)
        if access and access.key_command and transport is None:
            target = replace(target, key=await _first_key(access.key_command))
        yield target, transport or await _open_http(plan, access, target, emit, stack)


async def _first_key(command: KeyCommand) -> Secret:
    from processor.config.key_command import run_key_command

    try:
        return await run_key_command(command.args)
    except KeyCommandFailed as error:
        raise ConfigError(f"no key: {error}") from None


async def _open_http(
    plan: Plan, access: EndpointAccess | None, target: Target, emit: Listener, stack: AsyncExitStack
) -> Transport:
    from processor.http.client import HttpTransport
    from processor.http.settings import TransportSettings

    settings = TransportSettings(
        timeouts=plan.settings.waiting,
        max_reply_bytes=plan.settings.max_reply_bytes,
        ca_file=plan.settings.ca_file,
        trust_env=access is not None,
        stream=plan.settings.stream,
        echo=plan.echo,
    )
    now = asyncio.get_running_loop().time
    http = await stack.enter_async_context(
        HttpTransport(settings, on_notice=lambda text: emit(Notice(at=now(), text=text)))
    )
    http.prepare(target, default_path(plan.settings, access))
    if access is None or access.key_command is None:
        return http
    return await stack.enter_async_context(_key_renewal(http, target, access.key_command))


def _key_renewal(http: HttpTransport, target: Target, command: KeyCommand) -> KeyRenewal:
    from processor.config.key_command import run_key_command
    from processor.http.key_renewal import KeyRenewal

    fetch = partial(run_key_command, command.args)
    return KeyRenewal(http, target, fetch, ttl_s=command.ttl_s, on_renewed=http.replace_key)


async def _start_simulator(plan: Plan, stack: AsyncExitStack) -> Target:
    from processor.simulator.http_server import serve
    from processor.simulator.provider import SimulatedProvider
    from processor.simulator.settings import SimulatorSettings

    limits = plan.settings.limits
    settings = SimulatorSettings(
        rpm=max(1, round(limits.rpm)) if limits.rpm else None,
        tpm=max(1, round(limits.tpm)) if limits.tpm else None,
        speed_tps=400.0,
        first_token_s=0.1,
    )
    server = await serve(SimulatedProvider(settings))
    stack.push_async_callback(server.close)
    return Target(base_url=server.base_url)


def endpoint(
    plan: Plan, access: EndpointAccess | None, target: Target, emit: Listener, *, concurrency: int
) -> Endpoint:
    settings, waiting = plan.settings, plan.settings.waiting
    backoff = Backoff(min_s=waiting.backoff_min_s, max_s=waiting.backoff_max_s)
    policy = RetryPolicy(max_attempts=settings.max_attempts, backoff=backoff, max_wait_s=waiting.max_wait_s)
    alone_s = TIMEOUT_WITH_KEY_S if target.key else TIMEOUT_WITHOUT_KEY_S
    health = EndpointHealth(
        policy, emit, endpoint=target.address, max_outage_s=waiting.max_outage_s, canary_timeout_s=alone_s
    )
    limits = _limit_settings(settings, access, first_alone_s=alone_s)
    limiter = RateLimiter(limits, emit=health.emit_from_limiter, concurrency=concurrency)
    return Endpoint(target, limiter, health)


def _limit_settings(settings: Settings, access: EndpointAccess | None, *, first_alone_s: float) -> LimitSettings:
    provider = access.provider if access else GENERIC
    return LimitSettings(
        default=settings.limits,
        per_model=settings.limits.models,
        charging=settings.limits.charging or provider.charging,
        dialect=provider.rate_limit_headers,
        bursts=settings.limits.bursts,
        first_alone_s=first_alone_s,
        concurrency_is_fixed=settings.fixed_concurrency is not None,
    )


def dependencies(
    plan: Plan, job_file: JobFile, sink: Sink, transport: Transport, endpoint: Endpoint, emit: Listener
) -> Dependencies:
    return Dependencies(
        source=_unfinished_jobs(plan, job_file, sink),
        read_again=None if job_file.size is None else partial(aiter, job_file),
        source_name="stdin" if plan.jobs == "-" else plan.jobs,
        sink=sink,
        endpoints=EndpointPool(endpoint),
        transport=transport,
        counter=TokenCounter(plan.settings.encoding, asyncio.to_thread),
        emit=emit,
        wall_clock=time.time,
        printer=Echo() if plan.echo else None,
    )


def _unfinished_jobs(
    plan: Plan, job_file: JobFile, sink: Sink
) -> AsyncGenerator[ParsedJob | InvalidLine | SkippedJobs, None]:
    if sink.recovered.replied:
        return job_file.unfinished(partial(sink.job_index.skip_done, permanent=not plan.retry_failed), plan.limit)
    return aiter(job_file)


def forecast_of(plan: Plan, job_file: JobFile, sink: Sink) -> Forecast | None:
    """What the run will send; None where that is not known: for a pipe, a large file, or without earlier rows.

    Reads the job file. Raises ConfigError.
    """
    size = job_file.size
    if size is None or size > MAX_FORECAST_BYTES or not (sink.recovered.replied or sink.recovered.failed):
        return None
    return forecast(islice(job_file.parse_lines(), plan.limit), sink.job_index, run_options(plan))


def run_options(plan: Plan) -> RunOptions:
    settings = plan.settings
    return RunOptions(
        grace_s=settings.grace_s,
        look_ahead=1 if plan.echo else LOOK_AHEAD,
        limit=plan.limit,
        retry_failed=plan.retry_failed,
        resend_changed=settings.changed == "resend",
        simulated=plan.simulate,
        stream=settings.stream,
    )
