"""The settings of a run. ``settings_loading`` reads them from flags, environment and files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal

from processor.config.endpoint_settings import EndpointSettings, RetryElsewhere
from processor.config.price_settings import ModelPrices
from processor.config.providers import Auth
from processor.config.setting_values import NonNegative, NonNegativeInt
from processor.core.fast_dataclass import dataclass
from processor.core.models import Timeouts
from processor.ratelimit.settings import HeaderDialect, RateLimits, TokenAccounting

SCHEMA_IN_JOB = "job"
"""The value of ``validate`` that names no file."""

ModelLimits = RateLimits
"""The public name of the limits of one model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(RateLimits):
    """The section ``[limits]``: the limits of all jobs together, and those of single models."""

    charging: TokenAccounting | None = None
    """How the provider counts tokens; None: by its preset."""
    bursts: bool = True
    """False: pace evenly, also where the server allows bursts."""
    models: Mapping[str, RateLimits] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Timeouts):
    """The section ``[waiting]``: the timeouts of one request, and how long the run waits between requests."""

    backoff_min_s: float = 1.0
    backoff_max_s: float = 60.0
    max_wait_s: float = 3600.0
    max_outage_s: float = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The section ``[output]``."""

    fsync: Literal["always", "interval", "never"] = "interval"
    fsync_interval_s: float = 1.0
    accept_weaker: bool = False
    """Say nothing where the file system lacks locks, fsync or replacing a file."""
    publish_interval_s: float = 60.0
    """Results in an object store: rows are published so often."""
    lease_s: float = 120.0
    """Results in an object store: so long after a run was killed another machine may go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The section ``[batch]``: how jobs are sent through a batch API. None: as the provider's preset has it."""

    max_jobs: int | None = None
    """The most jobs in one batch."""
    enqueued_tokens: int | None = None
    """The most prompt tokens in all batches of a model that have not ended; None: found out from refusals."""
    max_submissions: int = 3
    """How often a job is submitted that expires, or of which nothing comes back."""
    poll_min_s: float = 10.0
    poll_max_s: float = 300.0
    """The state of the batches is asked for after the first wait, then after longer ones, up to the second."""
    keep_remote_files: bool = False
    """Leave the files at the provider once their batch is collected."""
    price_factor: NonNegative | None = None
    """What a request costs in a batch, as a share of its price otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RaySettings:
    """The section ``[ray]``: requests are sent from workers in a Ray cluster."""

    address: str | None = None
    """``local``: a cluster on this machine, for this run alone; ``auto``: the one that runs here; or HOST:PORT of the
    head node. None: the run sends its requests itself."""
    workers: int | None = None
    """None: one for each CPU of the cluster, at most as many as the rate limit can occupy."""
    worker_cpus: float = 1.0
    """CPUs that Ray reserves for each worker."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """Further resources that each worker needs: it runs on nodes that have them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The section ``[hooks]``: commands, each a program and its arguments."""

    notice: tuple[str, ...] | None = None
    """Started for each notice of the run, with the event as JSON on its standard input."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """A section ``[providers.NAME]``: changes a preset, or adds one. None: as in the preset."""

    base_url: str | None = None
    api_version: str | None = None
    api_key_env: str | None = None
    api_key_command: tuple[str, ...] | None = None
    auth: Auth | None = None
    headers: Mapping[str, str] | None = None
    endpoint: str | None = None
    charging: TokenAccounting | None = None
    rate_limit_headers: HeaderDialect | None = None
    refuses: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every setting of a run. ``config.toml`` describes each field."""

    provider: str | None = None
    base_url: str | None = None
    local: str | None = None
    """The weights of a model that is served in a process of this run: a GGUF file."""
    local_context_tokens: int = 4096
    """The most tokens of a prompt and its reply together, for a local model."""
    api_key_env: str | None = None
    api_key_command: tuple[str, ...] | None = None
    """A program and its arguments; the last line that it prints is the key."""
    api_key_ttl_s: float = 1800.0
    api_version: str | None = None
    ca_file: str | None = None
    allow_http: bool = False
    stream: bool = True
    """False: ask for every reply as one whole body."""
    endpoint: str | None = None
    """The API path of jobs that name none; None: the provider's."""
    model: str | None = None
    encoding: str | None = None
    concurrency: int | Literal["auto"] = "auto"
    """The number of requests in flight; ``auto``: found by trying, where the server announces no limit."""
    max_attempts: int = 6
    validate: str | None = None
    """The file of the JSON Schema that output is checked against; ``job``: that in each request; None: no checks."""
    strip_fences: bool = False
    """A code fence around an output is no part of what is checked."""
    max_invalid: NonNegativeInt = 2
    """How often a job is asked again, after a reply that is not valid."""
    max_reply_bytes: int = 64 * 2**20
    max_line_bytes: int = 32 * 2**20
    grace_s: NonNegative = 30.0
    changed: Literal["keep", "resend"] = "keep"
    max_cost_usd: NonNegative | None = None
    """The most that all runs on one output may cost together."""
    limits: Limits = Limits()
    waiting: Waiting = Waiting()
    output: Output = Output()
    batch: Batch = Batch()
    ray: RaySettings = RaySettings()
    hooks: Hooks = Hooks()
    providers: Mapping[str, ProviderSettings] = field(default_factory=dict)
    prices: Mapping[str, ModelPrices] = field(default_factory=dict)
    endpoints: tuple[EndpointSettings, ...] = ()
    """Several endpoints in place of ``base_url``, ``provider`` and ``api_key_env``."""
    fallback: bool = False
    """Prefer the endpoints in their order, and use the next one only where those before it have no room."""
    retry_elsewhere: tuple[RetryElsewhere, ...] = ()
    """For which refusals of a job another endpoint is tried."""
    chosen_by: Mapping[str, str] = field(default_factory=dict, compare=False)
    """No setting: the settings that a file chose which was found in the working folder, and not named by the user."""
    ignored_commands: tuple[str, ...] = field(default=(), compare=False)
    """No setting: messages about commands that are not run, because a file in the working folder names them."""

    @property
    def fixed_concurrency(self) -> int | None:
        """The number of requests in flight that the user has given; None for ``auto``."""
        return None if self.concurrency == "auto" else self.concurrency
