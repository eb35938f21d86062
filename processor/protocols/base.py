"""The interface of an API's protocol: what is sent for a job, and how the response becomes the body of a reply.

A protocol does no I/O and keeps no state: one object serves all jobs of its API. ``registry`` lists them.
"""

from __future__ import annotations

import typing
from abc import ABC, abstractmethod
from collections.abc import Sequence, Set
from dataclasses import replace
from typing import ClassVar

from processor.core.errors import StatusError
from processor.core.fast_dataclass import constructor_of, dataclass
from processor.core.models import JSON, Job, RequestSize, Usage
from processor.protocols.finish_reasons import is_refusal
from processor.protocols.option_refusals import refuses_stream
from processor.protocols.reported_usage import usage_in
from processor.protocols.request_limits import RequestLimits
from processor.tokens.rules import ModelCounter, TokenCount, count_characters, tokens_in


class ReplyEnding(typing.NamedTuple):
    """How a reply ended."""

    finish_reasons: tuple[str, ...]
    """In the words of the API: each reason once."""
    is_cut_short: bool
    """It, or one choice of it, ended at the limit of output tokens."""
    is_unconfirmed: bool
    """It came to a clean end without a reason that is known to mean success."""


STREAM_FIELDS = ("stream", "stream_options")
"""Parameters of a request that change how the reply is sent, and not what it says."""
_new_size = constructor_of(RequestSize)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """What is known of a server's options for one model. The defaults hold until a response shows otherwise."""

    streamed: bool = True
    """Ask for an event stream, unless the job says no. False where the user wants none."""
    stream_refused: bool = False
    """The server refuses streams: only a job that asks for one itself is still sent so."""
    include_usage: bool = True
    """Ask for the token usage at the end of a stream."""
    disable_obfuscation: bool = False
    """Ask for a stream without random padding. OpenAI's own servers only: others may refuse the option."""
    output_limit_field: str | None = None
    """The field under which the server accepts the limit of output tokens; None: as the job names it."""


class Accumulator(typing.Protocol):
    """Assembles the events of a stream to the body that the same reply has unstreamed. Gets whole
    events; knows nothing of the network or the clock."""

    @property
    def altered(self) -> Set[str]:
        """What had to be changed of the reply: see ``lenient_json``. Final once ``result`` has returned."""

    @property
    def has_content(self) -> bool:
        """Generated content (text, reasoning, a refusal, a tool call) has come."""

    @property
    def saw_end_marker(self) -> bool:
        """The stream's end marker has come: events behind it are ignored."""

    @property
    def is_complete(self) -> bool:
        """Nothing of the reply is missing. Token usage and the end marker may still follow."""

    def feed(self, events: Sequence[bytes]) -> None:
        """Take the data of the next events. Raises ProtocolError, or the StatusError of an error event."""

    def pop_text(self) -> str:
        """The text of the first choice that has come since the last call."""

    def result(self) -> JSON:
        """The assembled body. Raises StreamTruncated while it is not complete, ProtocolError where it is empty."""


class Protocol(ABC):
    """One API. A subclass per API, in a file of its own; a line in ``registry`` makes it known to the program."""

    path: ClassVar[str]
    """The API path, e.g. ``/v1/embeddings``."""
    input_field: ClassVar[str]
    """The field that every request of this API has: it marks a line of the job file as a bare request body."""
    prompt_fields: ClassVar[tuple[str, ...]]
    """The fields of a request whose characters count as its prompt."""
    end_marker: ClassVar[bytes]
    """Bytes that end a stream: data that contains them is parsed at once, other data may wait for more."""

    generates_text: ClassVar[bool] = True
    """Whether replies have text, whose form can be checked."""

    headers: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Sent with every request of this API, unless the endpoint sets them itself."""

    # ------------------------------------------------------------ requests

    @abstractmethod
    def validate(self, body: JSON) -> None:
        """Raises InvalidJob where the server could only refuse the request."""

    def check_limits(self, body: JSON, limits: RequestLimits) -> None:  # noqa: B027 (most APIs have none)
        """Raises InvalidJob where a provider with these limits could only refuse the request, which is valid."""

    @abstractmethod
    def from_short(self, fields: JSON) -> JSON:
        """The request body for a short job: ``prompt``, perhaps ``system``, and request parameters.

        This method may change ``fields``. Raises InvalidJob.
        """

    def from_bare(self, fields: JSON) -> JSON:
        """The request body for a bare job, whose fields are those of its API.

        A field may be known from other APIs: it gets its place here, or is refused. This method may change ``fields``.
        Raises InvalidJob.
        """
        return fields

    def is_streamed(self, job: Job, options: RequestOptions) -> bool:
        """Whether the reply is asked for as an event stream."""
        asked = job.body.get("stream")
        if asked is False or not options.streamed:
            return False
        return asked is True or not (options.stream_refused or self.cannot_be_streamed(job.body))

    def cannot_be_streamed(self, body: JSON) -> bool:
        """Whether the API is known to answer this request unstreamed only."""
        return False

    @abstractmethod
    def encode(self, job: Job, options: RequestOptions) -> bytes:
        """The request body as it is sent. Fields that the job sets itself keep their values."""

    def adapt(self, error: StatusError, job: Job, options: RequestOptions) -> RequestOptions | None:
        """The options to send the job again with, where ``error`` refuses one that this program had added; else None.

        ``options``: those that the request was sent with.
        """
        if self.is_streamed(job, options) and job.body.get("stream") is not True and refuses_stream(error):
            return replace(options, stream_refused=True)
        return None

    # ------------------------------------------------------------ responses

    @abstractmethod
    def accumulator(self, job: Job) -> Accumulator:
        """An accumulator for the streamed reply to this job."""

    @abstractmethod
    def parse_json(self, data: bytes) -> JSON:
        """An unstreamed reply. Raises ProtocolError, or the StatusError of an error that came with a good status."""

    def parse_reply(self, data: bytes, job: Job) -> JSON:
        """The unstreamed reply to this job. Raises as ``parse_json``, and ProtocolError where a part is missing."""
        body = self.parse_json(data)
        self.check_answers_all(body, job.body)
        return body

    def check_answers_all(self, body: JSON, request: JSON) -> None:  # noqa: B027 (most replies are whole or cut off)
        """Raises ProtocolError where the body of a reply does not answer all that the request asks for."""

    @abstractmethod
    def text(self, body: JSON) -> str:
        """What a person reads of a reply: its text, else a refusal or tool calls; empty where there is none."""

    @abstractmethod
    def finish_reasons(self, body: JSON) -> list[str]:
        """Why the reply ended, in the words of the API: each reason once."""

    @abstractmethod
    def is_cut_short(self, body: JSON, request: JSON) -> bool:
        """Whether the reply, or one choice of it, ended at the limit of output tokens. Both are bodies."""

    def is_unconfirmed(self, body: JSON) -> bool:
        """Whether the reply came to a clean end without a reason that is known to mean success."""
        return False

    def ending(self, body: JSON, request: JSON) -> ReplyEnding:
        """The three above together. Both are bodies."""
        return ReplyEnding(
            tuple(self.finish_reasons(body)), self.is_cut_short(body, request), self.is_unconfirmed(body)
        )

    def is_refused(self, body: JSON) -> bool:
        """Whether the model, or a filter, refused to write the reply, or one choice of it."""
        return any(is_refusal(reason) for reason in self.finish_reasons(body))

    def reported_usage(self, body: JSON) -> Usage | None:
        """The server's own token count in a reply, under either pair of names; None where it makes no sense."""
        return usage_in(body)

    def usage_json(self, usage: Usage) -> JSON | None:
        """The computed usage as a reply of this API holds it; None where replies have no usage."""
        return usage.as_json()

    # ------------------------------------------------------------ output that is to be JSON

    def output_schema(self, body: JSON) -> typing.Any:
        """The JSON Schema that a request asks its output to follow; None where it asks for none."""
        return None

    def outputs(self, reply: JSON, request: JSON) -> list[str]:
        """The text of each choice, or the arguments of the tool that it calls. Both are bodies."""
        return [self.text(reply)]

    def ask_again(self, request: JSON, output: str, question: str) -> JSON | None:
        """The body that asks the same once more, with the output of the last reply and what is wrong with it; None
        where this API, or this request, has no place for them."""
        return None

    # ------------------------------------------------------------ tokens

    def request_size(self, job: Job, counter: ModelCounter, *, counts_characters: bool = True) -> RequestSize:
        """What the request asks of the limits. ``counts_characters``: False where none of them counts characters."""
        prompt = self.count_prompt(job.body, counter)
        return _new_size(
            path=job.path,
            model=job.model,
            prompt_tokens=prompt.tokens,
            prompt_estimated=prompt.estimate_reasons,
            prompt_chars=self._prompt_chars(job.body) if counts_characters else None,
            max_tokens=self.max_output_tokens(job.body),
            choices=self.generated_choices(job.body),
        )

    def count_prompt(self, body: JSON, counter: ModelCounter) -> TokenCount:
        """The prompt's tokens, counted once even if several choices are asked for. Estimated from the characters until
        the encoding is loaded."""
        reasons: set[str] = set()
        if counter.is_loaded:
            tokens = self._count_prompt(body, counter, reasons)
        else:
            tokens = tokens_in(self._prompt_chars(body)) + self._prompt_overhead(body)
        return counter.token_count(tokens, reasons)

    def count_reply(self, reply: JSON, request: JSON, counter: ModelCounter) -> TokenCount:
        """The tokens generated for a reply, over all choices. Both are bodies."""
        reasons: set[str] = set()
        return counter.token_count(self._count_reply(reply, request, counter, reasons), reasons)

    def max_output_tokens(self, body: JSON) -> int | None:
        """The most tokens that a choice may have; None where the request does not say."""
        return None

    def choices(self, body: JSON) -> int:
        """How many replies the request asks for at once."""
        return 1

    def generated_choices(self, body: JSON) -> int:
        """How many replies are generated, and charged, for the request. Not all of them may be sent."""
        return self.choices(body)

    @abstractmethod
    def _count_prompt(self, body: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        """Adds to ``reasons`` why the count is an estimate: see ``tokens.rules``. Never raises, for any JSON."""

    @abstractmethod
    def _count_reply(self, reply: JSON, request: JSON, counter: ModelCounter, reasons: set[str]) -> int:
        """As ``_count_prompt``, for the body of a reply."""

    def _prompt_overhead(self, body: JSON) -> int:
        """Tokens of a prompt beside those of its text, for the estimate by characters."""
        return 0

    def _prompt_chars(self, body: JSON) -> int:
        characters = 0
        for field in self.prompt_fields:
            if field in body:
                characters += count_characters(body[field])
        return characters
