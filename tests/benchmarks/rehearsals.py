"""Forecasts beside real runs over HTTP: ``python -m tests.benchmarks.rehearsals``. About fifteen minutes.

Each setting is run with five seeds against the simulator on a loopback port. Then it is rehearsed with five seeds and
estimated, with the replies of the five runs as the sample. The tables show means: of `process rehearse` and, where
there are no faults, of `process estimate`, as ratios to the runs. Real time takes part: a busy machine makes runs late.

    rehearsals [--seeds 5] [--at-once 4]       runs at the same time
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

from processor.output.paths import OutputPaths
from processor.protocols.chat import OVERHEAD, PRIMING_TOKENS
from processor.simulator.faults import Faults
from processor.simulator.rate_limiter import LimiterKind
from processor.simulator.settings import SimulatorSettings
from processor.tokens import encoding_files
from tests.benchmarks.measure import show
from tests.support.cli_world import Server, Shell, chat_job

PRICES = {"gpt-4o-mini": (0.15, 0.6), "gpt-4o": (2.5, 10.0), "o-other": (1.0, 4.0)}
"""US dollars for a million tokens of prompts, and of replies."""
WITHIN = 0.05
COUNTS_WITHIN = 3
"""A number of requests may differ by so many, where that is more than `WITHIN`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A run of some seconds. ``rpm`` and ``tpm`` are limits of the server, which announces them."""

    flags: str
    jobs: int
    rpm: int | None = None
    tpm: int | None = None
    kind: LimiterKind = "sliding"
    faults: str = ""
    models: tuple[str, ...] = ("gpt-4o-mini",)
    prompt_words: int = 5
    reply_tokens: tuple[int, int] = (10, 40)

    @property
    def name(self) -> str:
        server = f"server {self.rpm} a minute" if self.rpm else ""
        models = f"{len(self.models)} models" if len(self.models) > 1 else ""
        return ", ".join(filter(None, (self.flags, server, self.faults, models)))

    def of_server(self, seed: int) -> SimulatorSettings:
        return SimulatorSettings(
            seed=seed,
            rpm=self.rpm,
            tpm=self.tpm,
            kind=self.kind,
            faults=Faults.parse(self.faults),
            first_token_s=0.5,
            first_token_jitter=0.0,
            speed_tps=50.0,
            reply_tokens=self.reply_tokens,
        )

    def job(self, at: int) -> dict[str, Any]:
        prompt = " ".join(["Say", *(f"word{at % 7}" for _ in range(at % (2 * self.prompt_words)))])
        return chat_job(f"j{at}", prompt=prompt, max_tokens=200, model=self.models[at % len(self.models)])


SETTINGS = (
    Setting(flags="--concurrency 2", jobs=70),
    Setting(flags="--concurrency 8", jobs=280),
    Setting(flags="--concurrency 24", jobs=850, models=("gpt-4o-mini", "gpt-4o", "o-other")),
    Setting(flags="--rpm 600 --concurrency 100", jobs=600),
    Setting(flags="--rpm 120 --concurrency 20", jobs=120, models=("gpt-4o-mini", "gpt-4o")),
    Setting(flags="--rpm 300 --concurrency 100", jobs=300, rpm=6_000, tpm=10**7),
    Setting(flags="--tpm 120000 --concurrency 100", jobs=220, prompt_words=60, rpm=6_000, tpm=10**7),
    Setting(flags="--rpm 1200 --concurrency 4", jobs=80, reply_tokens=(20, 100)),
    Setting(flags="--concurrency 50", jobs=400, rpm=200),
    Setting(flags="--concurrency 60", jobs=600, rpm=900, kind="minute", tpm=10**7),
    Setting(flags="--concurrency 8", jobs=250, faults="error_500=0.05"),
    Setting(flags="--concurrency 16", jobs=500, faults="cut=0.03,reset_mid=0.02", models=("gpt-4o-mini", "gpt-4o")),
)
SAMPLE = "sample.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What a run took and used, or is said to."""

    seconds: float
    requests: float
    refused: float
    completion: float
    cost_usd: float

    @classmethod
    def mean_of(cls, played: list[Played]) -> Played:
        return cls(
            seconds=mean(one.seconds for one in played),
            requests=mean(one.requests for one in played),
            refused=mean(one.refused for one in played),
            completion=mean(one.completion for one in played),
            cost_usd=mean(one.cost_usd for one in played),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    seconds: float
    prompt: int
    at_most_usd: float


class Place:
    """The folder of one setting, with its jobs and prices."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        self._setting = setting
        self._shell = Shell(folder)
        self._shell.environ["OPENAI_BASE_URL"] = "http://127.0.0.1:9/v1"
        self._shell.write("jobs.jsonl", *(setting.job(at) for at in range(setting.jobs)))
        tables = (f'[prices."{name}"]\ninput = {price}\noutput = {reply}\n' for name, (price, reply) in PRICES.items())
        (folder / "config.toml").write_text("".join(tables))
        self.prompt_tokens = 0
        """Of all jobs, as the run has counted them."""

    def run(self, seed: int) -> Played:
        server = Server(self._setting.of_server(seed), count_tokens=prompt_tokens)
        words = self._setting.flags.split()
        out, summary = f"r{seed}.jsonl", f"s{seed}.json"
        try:
            flags = ("--quiet", "--summary-json", summary, "--base-url", server.base_url, *words)
            ended = self._shell("jobs.jsonl", "--out", out, *flags, timeout_s=600)
            assert ended.code == 0, ended.err
        finally:
            server.close()
        found = json.loads((self._shell.folder / summary).read_text())
        self.prompt_tokens = found["tokens"]["computed_beside_reported"]["prompt"]
        return Played(
            seconds=found["elapsed_s"],
            requests=found["attempts"],
            refused=sum((entry["status"] or 0) >= 300 for entry in server.requests),
            completion=found["tokens"]["used"]["completion"],
            cost_usd=found["cost_usd"],
        )

    def make_sample(self, seeds: int) -> None:
        """Put the replies of all runs into one file, beside the history of the first: the server's limits."""
        folder = self._shell.folder
        rows = b"".join((folder / f"r{seed}.jsonl").read_bytes() for seed in range(seeds))
        (folder / SAMPLE).write_bytes(rows)
        history = OutputPaths.of(folder / SAMPLE).history
        history.write_bytes(OutputPaths.of(folder / "r0.jsonl").history.read_bytes())

    def rehearse(self, seed: int) -> Played:
        faults = ("--faults", self._setting.faults) if self._setting.faults else ()
        found = self._forecast("rehearse", "--seed", str(seed), *faults)
        return Played(
            seconds=found["seconds"],
            requests=found["requests"],
            refused=sum(found["refused"].values()),
            completion=found["tokens"]["completion"],
            cost_usd=found["cost_usd"],
        )

    def estimate(self) -> Estimated:
        found = self._forecast("estimate")
        everything = found["all"]
        return Estimated(
            seconds=found["time"]["seconds"],
            prompt=everything["prompt_tokens"],
            at_most_usd=everything["cost_usd"]["at_most"],
        )

    def _forecast(self, command: str, *flags: str) -> dict[str, Any]:
        words = (command, "jobs.jsonl", "--like", SAMPLE, "--json", *self._setting.flags.split(), *flags)
        ended = self._shell(*words, timeout_s=600)
        assert ended.code == 0, ended.err
        found: dict[str, Any] = json.loads(ended.out)
        return found


_ENCODING = encoding_files.load("o200k_base")  # not at the first request, which would be late then


def prompt_tokens(text: str) -> int:
    """Count a chat prompt of one message as the program does: the server's count is that of the provider."""
    return len(_ENCODING.encode_ordinary(text)) + OVERHEAD.tokens + PRIMING_TOKENS + 1  # the role


def is_near(said: float, real: float) -> bool:
    return abs(said - real) <= WITHIN * real


def is_near_count(said: float, real: float) -> bool:
    return abs(said - real) <= max(WITHIN * real, COUNTS_WITHIN)


def rehearsal_row(name: str, said: Played, real: Played) -> list[str]:
    is_met = (
        all(is_near(getattr(said, what), getattr(real, what)) for what in ("seconds", "completion", "cost_usd"))
        and is_near_count(said.requests, real.requests)
        and is_near_count(said.refused, real.refused)
    )
    ratios = (said.seconds / real.seconds, said.completion / real.completion, said.cost_usd / real.cost_usd)
    return [
        name,
        f"{real.seconds:.1f} s",
        *(f"{ratio:.3f} x" for ratio in ratios),
        f"{said.requests:.1f} / {real.requests:.1f}",
        f"{said.refused:.1f} / {real.refused:.1f}",
        "met" if is_met else "missed",
    ]


def estimate_row(name: str, said: Estimated, real: list[Played], prompt_tokens: int) -> list[str]:
    seconds, spent_usd = mean(one.seconds for one in real), max(one.cost_usd for one in real)
    is_met = (
        abs(said.seconds / seconds - 1) <= 0.1
        and abs(said.prompt / prompt_tokens - 1) <= 0.01
        and said.at_most_usd >= spent_usd
    )
    ratios = (said.seconds / seconds, said.prompt / prompt_tokens, said.at_most_usd / spent_usd)
    return [name, f"{seconds:.1f} s", *(f"{ratio:.3f} x" for ratio in ratios), "met" if is_met else "missed"]


def measure(folder: Path, seeds: int, in_parallel: Callable[..., list[Any]]) -> tuple[list[list[str]], list[list[str]]]:
    """Play all settings. Return the rows of both tables."""
    places = [Place(_made(folder / str(at)), setting) for at, setting in enumerate(SETTINGS)]
    pairs = [(place, seed) for seed in range(seeds) for place in places]
    runs = in_parallel(lambda pair: pair[0].run(pair[1]), pairs)
    for place in places:
        place.make_sample(seeds)
    plays = in_parallel(lambda pair: pair[0].rehearse(pair[1]), pairs)
    rehearsed, estimated = [], []
    for at, (place, setting) in enumerate(zip(places, SETTINGS, strict=True)):
        real, said = runs[at :: len(places)], plays[at :: len(places)]
        rehearsed.append(rehearsal_row(setting.name, Played.mean_of(said), Played.mean_of(real)))
        if not setting.faults:
            estimated.append(estimate_row(setting.name, place.estimate(), real, place.prompt_tokens))
    return rehearsed, estimated


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(options.at_once) as threads:
        rehearsed, estimated = measure(Path(name), options.seeds, lambda work, items: list(threads.map(work, items)))
    titles = ["setting", "run", "time", "reply tokens", "cost", "requests said / sent", "refused", "within 5 %"]
    show("process rehearse, as ratios to the run", titles, rehearsed)
    titles = ["setting", "run", "time", "prompt tokens", "at most / spent", "time within 10 %, prompt 1 %"]
    show("process estimate, as ratios to the run", titles, estimated)


if __name__ == "__main__":
    main()
