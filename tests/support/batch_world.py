"""Whole runs through the batch API on a virtual clock, with a provider and a disk in memory, which outlive the run."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from processor.batch.batch_budget import BatchBudget
from processor.batch.batch_log import BatchLog
from processor.batch.batch_run import BatchRun
from processor.batch.dependencies import BatchDependencies, BatchOptions
from processor.batch.registry import BATCH_APIS
from processor.batch.sizes import BatchLimits
from processor.config.batch_presets import BatchShape
from processor.core.errors import ConfigError, OutputError
from processor.core.models import JSON
from processor.core.money import pico_usd
from processor.cost.budget import Budget
from processor.cost.price_list import PriceList
from processor.cost.tariff import Tariff
from processor.input.job_file import JobFile
from processor.input.job_formats import JobDefaults
from processor.output.results_file import ResultsFile
from processor.protocols import RequestOptions
from processor.scheduler import RunOptions
from processor.simulator.batch_settings import BatchSettings
from processor.simulator.fault_injecting_storage import FaultInjectingStorage, FaultPlan
from processor.simulator.memory_api_client import MemoryApiClient
from processor.simulator.settings import INSTANT
from processor.simulator.virtual_clock import inline
from processor.tokens.counter import TokenCounter
from tests.support.scheduler_world import JOBS, RESULTS, RunRecord, World, run_to_end, to_jsonl

BATCHES = Path("/out/results.batches.jsonl")
BASE_URL = "http://127.0.0.1/v1"
PATHS = frozenset({"/v1/chat/completions", "/v1/embeddings"})
LIMITS = BatchLimits(jobs=50_000, bytes=200_000_000, inputs=50_000)

ROOTS = {"together": "/together"}
"""By shape: what stands before the API paths."""

COUNTER = TokenCounter("p50k_base", inline)
"""Loaded once: a campaign has hundreds of runs."""

OnBatchStart = Callable[[BatchRun], None]


def upload_path(name: str) -> Path:
    return Path(f"/out/results.{name}.upload")


class BatchWorld(World):
    """A provider whose batches take 100 s."""

    def __init__(
        self,
        *,
        shape: BatchShape = "openai",
        tariff: Tariff | None = None,
        seed: int = 0,
        clock_difference_s: float = 0.0,
        tells_time: bool = True,
        **batches: Any,
    ) -> None:
        """``clock_difference_s``: the provider's clock less this machine's. ``tells_time``: its responses say so."""
        settings = BatchSettings(**{"duration_s": 100.0, **batches})
        epoch_s = 1_800_000_000.0 + clock_difference_s
        super().__init__(replace(INSTANT, batches=settings, seed=seed, epoch_s=epoch_s))
        self.clock_difference_s = clock_difference_s if tells_time else None
        self.tariff = tariff
        self.shape = shape
        self.paths = frozenset({"/v1/messages"}) if shape == "anthropic" else PATHS

    def run_batch(
        self,
        jobs: bytes | Iterable[JSON],
        *,
        run: RunOptions | None = None,
        limits: BatchLimits = LIMITS,
        fault_plan: FaultPlan | None = None,
        on_start: OnBatchStart = lambda run: None,
        max_runs_s: float = 1e6,
        max_cost_usd: float | None = None,
        **options: Any,
    ) -> RunRecord:
        """Play a whole run and return what it did."""
        record = RunRecord(began_at=self.now_s)
        self.runs += 1
        memory = FaultInjectingStorage(self.disk, fault_plan)
        batch_options = BatchOptions(run=run or RunOptions(stream=False), limits=limits, paths=self.paths, **options)
        with tempfile.NamedTemporaryFile() as file:
            file.write(jobs if isinstance(jobs, bytes) else to_jsonl(jobs))
            file.flush()
            source = JobFile(file.name, JobDefaults(model="m"))

            async def main() -> None:
                try:
                    sink = ResultsFile.open(RESULTS, run_in_thread=inline, storage=memory)
                    log = BatchLog(memory, BATCHES)
                except (OutputError, ConfigError) as error:
                    record.exit_code, record.reason = 2, str(error)
                    return
                deps = self._batch_dependencies(source, sink, log, memory, record)
                if max_cost_usd is not None:
                    budget = Budget(pico_usd(max_cost_usd), sink.recovered.spent.pico)
                    in_batches = BatchBudget(budget, deps.prices, COUNTER, sink, BASE_URL, batch_options.price_factor)
                    deps = replace(deps, budget=in_batches)
                work = BatchRun(deps, batch_options)
                on_start(work)
                async with asyncio.timeout(max_runs_s):
                    outcome = await work.run()
                record.exit_code, record.reason = outcome.outcome.exit_code, outcome.outcome.reason
                record.items_read = outcome.stream_rest

            took_s = run_to_end(main(), memory)
            source.close()
        record.steps = memory.steps
        self.now_s += took_s
        record.ended_at = self.now_s
        return record

    def _batch_dependencies(
        self, source: JobFile, sink: ResultsFile, log: BatchLog, memory: FaultInjectingStorage, record: RunRecord
    ) -> BatchDependencies:
        loop, began_at = asyncio.get_running_loop(), self.now_s
        return BatchDependencies(
            read_jobs=partial(aiter, source),
            read_again=partial(aiter, source),
            source_name=JOBS,
            sink=sink,
            log=log,
            storage=memory,
            api=BATCH_APIS[self.shape](
                MemoryApiClient(
                    self.provider,
                    clock_offset_s=began_at,
                    root=ROOTS.get(self.shape, ""),
                    clock_difference_s=self.clock_difference_s,
                ),
                RequestOptions(),
            ),
            base_url=BASE_URL,
            upload_path=upload_path,
            counter=COUNTER,
            prices=PriceList(default=self.tariff),
            emit=record.events.append,
            wall_clock=lambda: 1_800_000_000.0 + began_at + loop.time(),
            run_in_thread=inline,
        )

    # ------------------------------------------------------------ what came of it

    def journal(self) -> list[JSON]:
        return [orjson.loads(line) for line in (self.disk.contents(BATCHES) or b"").splitlines()]

    @property
    def batches_left(self) -> int:
        """Batches that the provider of messages has not deleted."""
        return len(self.provider.message_batches.batches)

    def executed_more_than_once(self) -> list[bytes]:
        """The identities of the requests that the provider has executed twice."""
        return [identity for identity, count in self.provider.billing.billed_by_identity.items() if count > 1]

    def left_files(self) -> list[Path]:
        """Files on the disk beside those of the output."""
        return [path for path in self.disk.names if path.name.endswith((".upload", ".compacting"))]
