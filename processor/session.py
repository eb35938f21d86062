"""A run from the outside: opens the files, makes the rooms, shows what happens, closes everything, names the end."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from processor import config
from processor.config import Access, Settings
from processor.errors import ConfigError, OutputError
from processor.events import Event, Listen, RunStarted, Stream
from processor.limits.gate import Gate
from processor.limits.settings import LaneLimits, LimitSettings
from processor.models import Target
from processor.pipeline import Outcome, Rooms, Run, Terms
from processor.providers import ANY
from processor.reading.formats import Defaults
from processor.reading.source import Source
from processor.results.journal import Journal
from processor.results.stdout import StandardOutput
from processor.retrying.backoff import Backoff
from processor.retrying.decisions import Policy
from processor.terminal import opening, progress, rows, screen, status, summary
from processor.terminal.echo import Echo
from processor.terminal.tally import Tally
from processor.tokens.counter import TokenCounter

LOOK_AHEAD = 256
"""Jobs read and waiting beside those in flight: how far a lane that is held up can hide another's jobs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run, where to, and how to speak of it."""

    jobs: str
    """Path of the job file; ``-`` is stdin."""
    out: str
    """Path of the results file; ``-`` is stdout."""
    settings: Settings
    limit: int | None = None
    retry_failed: bool = False
    simulate: bool = False
    echo: bool = False
    progress: bool = True
    quiet: bool = False
    log_file: Path | None = None
    summary_json: Path | None = None
    command: Sequence[str] = field(default_factory=tuple)
    """The words of the command line, to be shown as the way to go on."""


def default_out(jobs: str, *, simulate: bool) -> str:
    """Where replies go when nobody said. Raises ConfigError for stdin, which has no name."""
    if jobs == "-":
        raise ConfigError("jobs from stdin need --out")
    return f"{Path(jobs).stem}.{'simulated' if simulate else 'results'}.jsonl"


def run(plan: Plan, environ: Mapping[str, str] | None = None) -> int:
    """The whole run, on a loop of its own. Returns the exit code; raises ConfigError before anything is sent."""
    environ = config.environment(os.environ if environ is None else environ)
    access = None if plan.simulate else config.access(plan.settings, environ)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(plan, access))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _run(plan: Plan, access: Access | None) -> int:
    async with AsyncExitStack() as stack:
        source = _source(plan)
        stack.callback(source.close)
        sink = _sink(plan)
        tally = Tally()
        shown = progress.Progress(
            tally, "notices" if plan.echo else progress.mode(progress=plan.progress, quiet=plan.quiet)
        )
        listen = _listeners(plan, tally, shown, stack)
        target, stream = await stack.enter_async_context(_transport(plan, access))
        _open(plan, access, source, sink, listen)
        run = Run(_rooms(plan, access, source, sink, stream, target, listen), _terms(plan))
        stack.enter_context(_signals(run, tally))
        with shown:
            outcome = await run()
    _close(plan, tally, outcome)
    return outcome.exit_code


# ---------------------------------------------------------------- the rooms


def _source(plan: Plan) -> Source:
    settings = plan.settings
    defaults = Defaults(endpoint=settings.endpoint, model=settings.model)
    return Source(plan.jobs, defaults, max_line_bytes=settings.max_line_bytes)


def _sink(plan: Plan) -> Journal | StandardOutput:
    if plan.out == "-":
        return StandardOutput()
    output = plan.settings.output
    try:
        return Journal(
            Path(plan.out), simulated=plan.simulate, fsync=output.fsync, fsync_interval_s=output.fsync_interval_s
        )
    except OutputError as error:
        raise ConfigError(str(error)) from None


def _listeners(plan: Plan, tally: Tally, shown: progress.Progress, stack: AsyncExitStack) -> Listen:
    listeners: list[Listen] = [tally, shown]
    if plan.log_file:
        from processor.logbook import Logbook

        logbook = Logbook(plan.log_file, time.time)
        stack.callback(logbook.close)
        listeners.append(logbook)

    def listen(event: Event) -> None:
        for listener in listeners:
            listener(event)

    return listen


@asynccontextmanager
async def _transport(plan: Plan, access: Access | None) -> AsyncIterator[tuple[Target, Stream]]:
    from processor.transport.http import HttpTransport
    from processor.transport.settings import TransportSettings

    waiting = plan.settings.waiting
    settings = TransportSettings(
        connect_timeout_s=waiting.connect_timeout_s,
        first_byte_timeout_s=waiting.first_byte_timeout_s,
        stall_timeout_s=waiting.stall_timeout_s,
        request_timeout_s=waiting.request_timeout_s,
        max_reply_bytes=plan.settings.max_reply_bytes,
        ca_file=plan.settings.ca_file,
        trust_env=access is not None,
        echo=plan.echo,
    )
    async with AsyncExitStack() as stack:
        target = access.target if access else await _simulator(plan, stack)
        yield target, await stack.enter_async_context(HttpTransport(settings))


async def _simulator(plan: Plan, stack: AsyncExitStack) -> Target:
    from processor.simulator.core import Provider
    from processor.simulator.server import serve
    from processor.simulator.settings import SimulatorSettings

    limits = plan.settings.limits
    settings = SimulatorSettings(
        rpm=round(limits.rpm) if limits.rpm else None,
        tpm=round(limits.tpm) if limits.tpm else None,
        speed_tps=400.0,
        first_token_s=0.1,
    )
    server = await serve(Provider(settings))
    stack.push_async_callback(server.close)
    return Target(base_url=server.base_url)


def _rooms(
    plan: Plan,
    access: Access | None,
    source: Source,
    sink: Journal | StandardOutput,
    stream: Stream,
    target: Target,
    listen: Listen,
) -> Rooms:
    concurrency = 1 if plan.echo else plan.settings.concurrency
    return Rooms(
        source=aiter(source),
        source_name=plan.jobs,
        sink=sink,
        gate=Gate(_limits(plan.settings, access), listen=listen, concurrency=concurrency),
        stream=stream,
        target=target,
        counter=TokenCounter(plan.settings.encoding, asyncio.to_thread),
        listen=listen,
        wall=time.time,
        echo=Echo() if plan.echo else None,
    )


def _limits(settings: Settings, access: Access | None) -> LimitSettings:
    def lane(limits: config.ModelLimits) -> LaneLimits:
        return LaneLimits(rpm=limits.rpm, tpm=limits.tpm, input_tpm=limits.input_tpm, output_tpm=limits.output_tpm)

    provider = access.provider if access else ANY
    return LimitSettings(
        default=lane(settings.limits),
        per_model={model: lane(limits) for model, limits in settings.limits.models.items()},
        charging=settings.limits.charging or provider.charging,
    )


def _terms(plan: Plan) -> Terms:
    settings, waiting = plan.settings, plan.settings.waiting
    backoff = Backoff(min_s=waiting.backoff_min_s, max_s=waiting.backoff_max_s)
    return Terms(
        policy=Policy(max_attempts=settings.max_attempts, backoff=backoff, max_wait_s=waiting.max_wait_s),
        max_outage_s=waiting.max_outage_s,
        grace_s=settings.grace_s,
        open_jobs=1 if plan.echo else settings.concurrency + LOOK_AHEAD,
        limit=plan.limit,
        retry_failed=plan.retry_failed,
        resend_changed=settings.changed == "resend",
        simulated=plan.simulate,
    )


# ---------------------------------------------------------------- what a person sees


def _open(plan: Plan, access: Access | None, source: Source, sink: Journal | StandardOutput, listen: Listen) -> None:
    jobs = source.count()
    if jobs is not None and plan.limit is not None:
        jobs = min(jobs, plan.limit)
    journal = sink if isinstance(sink, Journal) else None
    done = journal.replied if journal else 0
    done = done if jobs is None else min(done, jobs)
    if not plan.quiet:
        limits = plan.settings.limits
        rows.show(
            opening.rows(
                opening.Opening(
                    source=plan.jobs,
                    jobs=jobs,
                    done=done,
                    results=plan.out,
                    endpoint=access.target.base_url if access else "",
                    key_from=access.key_from if access else None,
                    concurrency=1 if plan.echo else plan.settings.concurrency,
                    rpm=limits.rpm,
                    tpm=limits.tpm,
                    own_limits=tuple(limits.models),
                    simulated=plan.simulate,
                    maybe_billed=journal.maybe_billed if journal else 0,
                )
            )
        )
    listen(RunStarted(at=asyncio.get_running_loop().time(), jobs=jobs, done=done))


def _close(plan: Plan, tally: Tally, outcome: Outcome) -> None:
    errors = Path(plan.out).with_name(f"{Path(plan.out).stem}.errors.jsonl")
    closing = summary.Closing(
        results=plan.out,
        errors=str(errors) if plan.out != "-" and errors.exists() else None,
        command=shlex.join(plan.command) if plan.command and plan.jobs != "-" and plan.out != "-" else None,
    )
    if plan.summary_json:
        import orjson

        with suppress(OSError):
            plan.summary_json.write_bytes(orjson.dumps(summary.summary_json(tally, closing)) + b"\n")
    if not plan.quiet:
        rows.show(summary.rows(tally, closing))
    if outcome.why and outcome.exit_code != 130:
        screen.complain(outcome.why)


class _signals:  # noqa: N801
    """Ctrl-C and SIGTERM stop the run in order, a second one at once; SIGUSR1 asks what it is doing."""

    def __init__(self, run: Run, tally: Tally) -> None:
        self._run = run
        self._tally = tally
        self._asked = 0

    def __enter__(self) -> None:
        loop = asyncio.get_running_loop()
        for number, name in ((signal.SIGINT, "interrupted (Ctrl-C)"), (signal.SIGTERM, "interrupted (SIGTERM)")):
            loop.add_signal_handler(number, self._interrupt, name)
        loop.add_signal_handler(signal.SIGUSR1, self._say)

    def __exit__(self, *error: object) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            loop.remove_signal_handler(number)

    def _interrupt(self, name: str) -> None:
        self._asked += 1
        if self._asked == 1:
            self._run.stop(name, exit_code=130)
        else:
            self._run.abort()

    def _say(self) -> None:
        now = asyncio.get_running_loop().time()
        lines = [status.line(self._tally, now)]
        lines += [f"  in flight: {care.job.custom_id} (line {care.job.line})" for care in self._run.in_flight]
        screen.stderr().write("\n".join(lines) + "\n")
