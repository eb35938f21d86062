"""The simulated batch API: states, files and faults, as OpenAI's has them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from processor.simulator.batch_settings import BATCH_FAULTS, BatchSettings, split_faults
from processor.simulator.provider import SimulatedProvider
from processor.simulator.settings import INSTANT

JSON = dict[str, Any]


def lines(count: int, *, prompt: str = "hi") -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": prompt}]}
    rows = ({"custom_id": f"j{i}", "method": "POST", "url": "/v1/chat/completions", "body": body} for i in range(count))
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


class Client:
    """Calls a provider whose batches take 100 s."""

    def __init__(self, **settings: Any) -> None:
        batches = BatchSettings(duration_s=100.0, **settings)
        self.provider = SimulatedProvider(replace(INSTANT, batches=batches, track_identities=True))
        self.at = 0.0

    def raw(
        self, method: str, path: str, body: bytes = b"", query: str = "", **headers: str
    ) -> tuple[int | None, bytes]:
        script = self.provider.handle(method, f"/v1{path}", headers, body, self.at, query=query)
        return script.status, b"".join(step.data for step in script.steps)

    def __call__(self, method: str, path: str, body: JSON | None = None, query: str = "") -> JSON:
        data = self.raw(method, path, b"" if body is None else orjson.dumps(body), query)[1]
        answer: JSON = orjson.loads(data)
        return answer

    def submit(self, data: bytes) -> JSON:
        form = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        form += b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n' + data + b"\r\n--b--\r\n"
        uploaded = self.raw("POST", "/files", form, **{"content-type": "multipart/form-data; boundary=b"})[1]
        wanted = {
            "input_file_id": orjson.loads(uploaded)["id"],
            "endpoint": "/v1/chat/completions",
            "metadata": {"a": "b"},
        }
        return self("POST", "/batches", wanted)

    def results(self, batch: JSON, which: str) -> list[JSON]:
        name = batch[f"{which}_file_id"]
        return (
            []
            if name is None
            else [orjson.loads(row) for row in self.raw("GET", f"/files/{name}/content")[1].splitlines()]
        )


def test_batch_goes_through_its_states_and_answers_each_line() -> None:
    client = Client()
    batch = client.submit(lines(3))
    states = []
    for client.at in (0.0, 50.0, 95.0, 100.0):
        states.append(client("GET", f"/batches/{batch['id']}")["status"])
    assert states == ["validating", "in_progress", "finalizing", "completed"]
    ended = client("GET", f"/batches/{batch['id']}")
    assert ended["metadata"] == {"a": "b"}
    assert [row["custom_id"] for row in client.results(ended, "output")] == ["j0", "j1", "j2"]
    assert ended["error_file_id"] is None


@pytest.mark.parametrize(
    ("fault", "status", "answered", "errors"),
    [
        ("batch_expired", "expired", 2, 2),
        ("batch_failed", "failed", 0, 0),
        ("batch_all_failed", "completed", 0, 4),
        ("batch_missing", "completed", 0, 0),
        ("batch_refused", "completed", 0, 4),
        ("batch_odd", "completed", 0, 4),
    ],
)
def test_fault_of_a_batch(fault: str, status: str, answered: int, errors: int) -> None:
    client = Client(rates={fault: 1.0})
    batch = client.submit(lines(4))
    client.at = 100.0
    ended = client("GET", f"/batches/{batch['id']}")
    assert ended["status"] == status
    assert len(client.results(ended, "output")) == answered
    assert len(client.results(ended, "error")) == errors


def test_batch_above_the_limit_of_enqueued_tokens_is_accepted_and_then_fails() -> None:
    client = Client(enqueued_tokens=100)
    first, second = client.submit(lines(4)), client.submit(lines(4, prompt="other"))
    client.at = 100.0
    assert client("GET", f"/batches/{first['id']}")["status"] == "completed"
    ended = client("GET", f"/batches/{second['id']}")
    assert (ended["status"], ended["errors"]["data"][0]["code"]) == ("failed", "token_limit_exceeded")


def test_batch_whose_creation_lost_its_response_is_listed() -> None:
    client = Client(rates={"batch_lost_reply": 1.0})
    with pytest.raises(orjson.JSONDecodeError):
        client.submit(lines(1))
    assert [batch["metadata"] for batch in client("GET", "/batches")["data"]] == [{"a": "b"}]


def test_list_of_batches_has_pages_with_the_newest_first() -> None:
    client = Client()
    names = [client.submit(lines(1, prompt=f"{number}"))["id"] for number in range(3)]
    page = client("GET", "/batches", query="limit=2")
    assert [batch["id"] for batch in page["data"]] == [names[2], names[1]]
    assert page["has_more"]
    rest = client("GET", "/batches", query=f"limit=2&after={page['last_id']}")
    assert [batch["id"] for batch in rest["data"]] == [names[0]]


def test_cancelled_batch_keeps_what_was_answered() -> None:
    client = Client()
    batch = client.submit(lines(10))
    client.at = 50.0
    assert client("POST", f"/batches/{batch['id']}/cancel")["status"] == "cancelling"
    client.at = 60.0
    ended = client("GET", f"/batches/{batch['id']}")
    assert ended["status"] == "cancelled"
    assert len(client.results(ended, "output")) == 5
    assert {row["error"]["code"] for row in client.results(ended, "error")} == {"batch_cancelled"}
    assert client.raw("POST", f"/batches/{batch['id']}/cancel")[0] == 400


def test_file_is_gone_once_deleted() -> None:
    client = Client()
    name = client.submit(lines(1))["input_file_id"]
    assert client("DELETE", f"/files/{name}")["deleted"]
    assert client.raw("GET", f"/files/{name}")[0] == 404


def test_line_that_asks_for_a_stream_fails_the_batch() -> None:
    client = Client()
    batch = client.submit(lines(1).replace(b'"model":"m"', b'"model":"m","stream":true'))
    client.at = 100.0
    ended = client("GET", f"/batches/{batch['id']}")
    assert (ended["status"], ended["errors"]["data"][0]["line"]) == ("failed", 1)


def test_faults_of_batches_stand_among_the_others() -> None:
    rest, settings = split_faults("all=0.1,batch_missing=0.5", BatchSettings())
    assert rest == "all=0.1"
    assert settings.rates == {"batch_missing": 0.5}
    with pytest.raises(ValueError, match="batch_missing"):
        split_faults("batch_mising=0.5", BatchSettings())
    assert all(name.startswith("batch_") for name in BATCH_FAULTS)
