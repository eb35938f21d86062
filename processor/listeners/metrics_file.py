"""The numbers of a run for Prometheus, in a file that is replaced as a whole: ``--metrics-file``.

It suits the textfile collector of node_exporter: no port, and the numbers outlive the run. Names and labels are those
of OpenTelemetry's conventions for generative AI where there are any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from processor.core import platform
from processor.core.errors import ConfigError, reason
from processor.core.private_files import private_opener
from processor.core.secrets import mask_text
from processor.stats.request_histograms import FixedHistogram, RequestHistograms
from processor.stats.run_stats import RunStats

PERIOD_S = 15.0
_TEMP_SUFFIX = ".tmp"

Labels = Mapping[str, str]


class MetricsFile:
    """Writes the file when it is created, every PERIOD_S, and when it is closed.

    Raises ConfigError where it cannot be created. A later error is ignored: a full disk under it stops no run.
    """

    def __init__(
        self,
        path: Path,
        stats: RunStats,
        histograms: RequestHistograms,
        target_labels: Callable[[str], Labels],
        unix_time: Callable[[], float],
    ) -> None:
        """``target_labels`` returns the labels of an endpoint that tell its operation and provider."""
        self._path = path
        self._stats = stats
        self._histograms = histograms
        self._target_labels = target_labels
        self._unix_time = unix_time
        self._done = 0
        self._last_success_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        try:
            self._write()
        except OSError as error:
            raise ConfigError(f"cannot write the metrics {path}: {reason(error)}") from None
        self._schedule()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._update()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(PERIOD_S, self._on_timer)

    def _on_timer(self) -> None:
        self._update()
        self._schedule()

    def _update(self) -> None:
        try:
            self._write()
        except OSError:
            return

    def _write(self) -> None:
        text = mask_text(self._text()).encode("utf-8", "replace")
        if self._path.exists() and not self._path.is_file():
            self._path.write_bytes(text)
            return
        # The file itself is created first: a replacement gets its mode, and is never more open than it.
        self._path.touch(mode=0o666)
        temp = self._path.with_name(self._path.name + _TEMP_SUFFIX)
        with open(temp, "wb", opener=private_opener) as file:
            file.write(text)
        temp.chmod(self._path.stat().st_mode & 0o777)
        platform.replace_file(temp, self._path)

    # ---------------------------------------------------------------- contents

    def _text(self) -> str:
        return "".join(f"{line}\n" for line in (*self._run_lines(), *self._histogram_lines()))

    def _run_lines(self) -> Iterator[str]:
        stats = self._stats
        now = stats.last_event_at
        if stats.done > self._done:
            self._done, self._last_success_at = stats.done, self._unix_time()
        failures = {code: failure.count for code, failure in stats.failures_by_code.items()}
        shares = stats.throughput.bottleneck_shares(now)
        bound_s = {str(name or "nothing"): share * stats.elapsed_s(now) for name, share in shares}
        jobs = {"done": stats.done, "done_earlier": stats.done_earlier, "failed": stats.failed, "left": stats.remaining}
        gauge, counter = partial(_family, kind="gauge"), partial(_family, kind="counter")
        yield from gauge("process_jobs", "Jobs by state.", _by("state", jobs))
        yield from gauge("process_in_flight", "Requests in flight.", _single(stats.in_flight))
        yield from counter("process_requests_total", "Requests of this run.", _single(stats.attempts))
        yield from counter("process_retries_total", "Requests that were sent again.", _by("error_type", stats.retried))
        yield from counter("process_failures_total", "Jobs that failed.", _by("error_type", failures))
        for name, unit in (("rpm", "requests"), ("tpm", "tokens")):
            limits = {group: getattr(limit, name) for group, limit in stats.throughput.limits.items()}
            help_text = f"The limit in force, in {unit} a minute."
            yield from gauge(f"process_limit_{unit}_per_minute", help_text, _by("limit_group", limits))
        yield from counter("process_bound_seconds_total", "Seconds by what the run waited for.", _by("by", bound_s))
        yield from counter("process_cost_usd_total", "Known cost of the replies.", _single(stats.replies.cost_usd))
        help_text = "When the last reply was seen."
        yield from gauge("process_last_success_timestamp_seconds", help_text, _single(self._last_success_at))

    def _histogram_lines(self) -> Iterator[str]:
        for name, help_text, fields in _HISTOGRAMS:
            lines: list[str] = []
            for (endpoint, model), histograms in self._histograms.by_target.items():
                labels = {**self._target_labels(endpoint), **_address(endpoint), "gen_ai_request_model": model}
                for field, more in fields:
                    lines += _histogram(name, {**labels, **more}, getattr(histograms, field))
            if lines:
                yield from (f"# HELP {name} {help_text}", f"# TYPE {name} histogram", *lines)


_HISTOGRAMS: tuple[tuple[str, str, tuple[tuple[str, Labels], ...]], ...] = (
    ("gen_ai_client_operation_duration_seconds", "Seconds to the whole reply.", (("total", {}),)),
    (
        "gen_ai_client_operation_time_to_first_chunk_seconds",
        "Seconds to the first token.",
        (("first_token", {}),),
    ),
    (
        "gen_ai_client_token_usage",
        "Tokens of a request and its reply.",
        (
            ("input_tokens", {"gen_ai_token_type": "input"}),
            ("output_tokens", {"gen_ai_token_type": "output"}),
        ),
    ),
)


Samples = list[tuple[Labels, float | None]]
"""Labels and values; what is not known is None, and left out."""


def _single(value: float | None) -> Samples:
    return [({}, value)]


def _by(label: str, values: Mapping[str, float | None]) -> Samples:
    return [({label: name}, value) for name, value in values.items()]


def _family(name: str, help_text: str, samples: Samples, *, kind: str) -> Iterator[str]:
    known = [(labels, value) for labels, value in samples if value is not None]
    if known:
        yield from (f"# HELP {name} {help_text}", f"# TYPE {name} {kind}")
        yield from (_sample(name, labels, value) for labels, value in known)


def _histogram(name: str, labels: Labels, histogram: FixedHistogram) -> Iterator[str]:
    count = 0
    for bound, number in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        count += number
        yield _sample(f"{name}_bucket", {**labels, "le": "+Inf" if bound == float("inf") else f"{bound:g}"}, count)
    yield _sample(f"{name}_sum", labels, histogram.sum)
    yield _sample(f"{name}_count", labels, count)


def _sample(name: str, labels: Labels, value: float) -> str:
    inner = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
    return f"{name}{{{inner}}} {value:.15g}" if inner else f"{name} {value:.15g}"


def _escaped(text: str) -> str:
    """https://prometheus.io/docs/instrumenting/exposition_formats/#comments-help-text-and-type-information"""
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _address(endpoint: str) -> Labels:
    try:
        parts = urlsplit(endpoint)
        port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    except ValueError:
        return {}
    host = {"server_address": parts.hostname} if parts.hostname else {}
    return {**host, "server_port": str(port)} if host and port else host
