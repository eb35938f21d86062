"""When the key of a target is renewed, and whose requests are sent again. Time is virtual."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from processor.core.errors import AccessDenied, KeyCommandFailed, KeyRenewed, RequestError
from processor.core.events import RequestListener
from processor.core.models import Job, Reply, Target
from processor.core.secrets import Secret
from processor.http.key_renewal import KeyRenewal
from processor.simulator.virtual_clock import run

TTL_S = 1800.0
TARGET = Target(base_url="https://llm.example.org/v1", key=Secret("key-0"))


def job(line: int) -> Job:
    return Job(line=line, custom_id=str(line), fingerprint="", path="/v1/embeddings", model="m", body={})


@dataclass
class Provider:
    """A transport that takes the keys in ``accepted``, and a command that prints the keys in ``printed`` in turn."""

    accepted: set[str]
    printed: list[str]
    status: int = 401
    sent: list[str] = field(default_factory=list)
    commands: int = 0
    command_s: float = 1.0

    async def send(self, job: Job, target: Target, on_event: RequestListener) -> Reply:
        assert target.key is not None
        self.sent.append(target.key.value)
        await asyncio.sleep(0.1)
        if target.key.value not in self.accepted:
            raise AccessDenied("expired", status=self.status, scope=None if self.status == 403 else "endpoint")
        return Reply(status_code=200, request_id=None, body={})

    async def fetch(self) -> Secret:
        self.commands += 1
        await asyncio.sleep(self.command_s)
        if not self.printed:
            raise KeyCommandFailed("the key command login failed")
        return Secret(self.printed.pop(0))

    def renewal(self, on_renewed: Callable[[Target, Target], None] = lambda before, after: None) -> KeyRenewal:
        return KeyRenewal(self.send, TARGET, self.fetch, ttl_s=TTL_S, on_renewed=on_renewed)


async def outcome(keys: KeyRenewal, line: int = 1) -> Reply | RequestError:
    try:
        return await keys(job(line), TARGET, lambda event: None)
    except RequestError as error:
        return error


def test_refused_key_is_replaced_by_one_command_for_all_requests() -> None:
    provider = Provider(accepted={"key-1"}, printed=["key-1"])
    renewed: list[tuple[Target, Target]] = []

    async def main() -> None:
        async with provider.renewal(lambda before, after: renewed.append((before, after))) as keys:
            errors = await asyncio.gather(*(outcome(keys, line) for line in range(50)))
            assert all(isinstance(error, KeyRenewed) for error in errors)
            replies = await asyncio.gather(*(outcome(keys, line) for line in range(50)))
            assert all(isinstance(reply, Reply) for reply in replies)

    run(main())
    assert provider.commands == 1
    assert provider.sent == ["key-0"] * 50 + ["key-1"] * 50
    assert [(before.key, after.key) for before, after in renewed] == [(Secret("key-0"), Secret("key-1"))]


def test_same_key_again_is_a_refused_key() -> None:
    provider = Provider(accepted=set(), printed=["key-0"])

    async def main() -> None:
        async with provider.renewal() as keys:
            errors = await asyncio.gather(*(outcome(keys, line) for line in range(3)))
            assert all(isinstance(error, AccessDenied) for error in errors)

    run(main())
    assert provider.commands == 1


def test_refusal_of_the_key_that_replaced_a_refused_one_runs_no_command() -> None:
    provider = Provider(accepted=set(), printed=["key-1", "key-2"])

    async def main() -> None:
        async with provider.renewal() as keys:
            assert isinstance(await outcome(keys, 1), KeyRenewed)
            assert isinstance(await outcome(keys, 2), AccessDenied)

    run(main())
    assert provider.commands == 1


def test_key_that_was_accepted_is_replaced_when_it_expires_in_its_turn() -> None:
    provider = Provider(accepted={"key-1"}, printed=["key-1", "key-2"])

    async def main() -> None:
        async with provider.renewal() as keys:
            assert isinstance(await outcome(keys, 1), KeyRenewed)
            assert isinstance(await outcome(keys, 1), Reply)
            provider.accepted = {"key-2"}
            assert isinstance(await outcome(keys, 2), KeyRenewed)
            assert isinstance(await outcome(keys, 2), Reply)

    run(main())
    assert provider.commands == 2


def test_second_refusal_of_one_job_is_a_refused_key_though_others_are_answered() -> None:
    provider = Provider(accepted={"key-1"}, printed=["key-1", "key-2"])

    async def main() -> None:
        async with provider.renewal() as keys:
            assert isinstance(await outcome(keys, 1), KeyRenewed)
            assert isinstance(await outcome(keys, 2), Reply)
            provider.accepted = set()
            assert isinstance(await outcome(keys, 1), AccessDenied)

    run(main())
    assert provider.commands == 1


def test_request_that_was_sent_with_an_older_key_is_sent_again_without_a_command() -> None:
    provider = Provider(accepted=set(), printed=["key-1"])

    async def main() -> None:
        async with provider.renewal() as keys:
            late = asyncio.create_task(outcome(keys, 1))
            await asyncio.sleep(0.05)
            assert isinstance(await outcome(keys, 2), KeyRenewed)
            assert isinstance(await late, KeyRenewed)

    run(main())
    assert provider.commands == 1


def test_refusal_that_is_not_of_the_key_stays_as_it_is() -> None:
    provider = Provider(accepted=set(), printed=["key-1"], status=403)

    async def main() -> None:
        async with provider.renewal() as keys:
            assert isinstance(await outcome(keys), AccessDenied)

    run(main())
    assert provider.commands == 0


def test_key_is_renewed_when_it_is_old_and_the_same_key_may_stay() -> None:
    provider = Provider(accepted={"key-0", "key-1"}, printed=["key-0", "key-1"])

    async def main() -> None:
        async with provider.renewal() as keys:
            for commands in range(3):
                assert provider.commands == commands
                assert isinstance(await outcome(keys), Reply)
                await asyncio.sleep(TTL_S + 1.5 if commands < 2 else 0)

    run(main())
    assert provider.sent == ["key-0", "key-0", "key-1"]


@pytest.mark.parametrize("is_refused", [False, True])
def test_command_that_fails_later_fails_every_further_request(is_refused: bool) -> None:
    provider = Provider(accepted=set() if is_refused else {"key-0"}, printed=[])

    async def main() -> None:
        async with provider.renewal() as keys:
            if not is_refused:
                assert isinstance(await outcome(keys), Reply)
                await asyncio.sleep(TTL_S + 5)
            for _ in range(2):
                error = await outcome(keys)
                assert isinstance(error, KeyCommandFailed)
                assert str(error) == "the key command login failed"
            await asyncio.sleep(2 * TTL_S)

    run(main())
    assert (provider.commands, len(provider.sent)) == (1, 1)


def test_command_ends_with_the_run() -> None:
    provider = Provider(accepted=set(), printed=["key-1"], command_s=20.0)

    async def main() -> float:
        async with provider.renewal() as keys:
            waiting = asyncio.create_task(outcome(keys))
            await asyncio.sleep(1)
            waiting.cancel()
        return asyncio.get_running_loop().time()

    assert run(main()) < 5


def test_other_targets_keep_their_key() -> None:
    provider = Provider(accepted={"other"}, printed=[])

    async def main() -> None:
        other = Target(base_url=TARGET.base_url, key=Secret("other"))
        async with provider.renewal() as keys:
            await keys(job(1), other, lambda event: None)

    run(main())
    assert provider.sent == ["other"]


def test_keys_of_several_targets_are_renewed_apart() -> None:
    async def main() -> None:
        other_target = Target(base_url="https://other.example.org/v1", key=Secret("other-0"))
        provider, other = Provider({"key-1"}, ["key-1"]), Provider(set(), ["other-1"])
        provider.accepted.add("other-1")
        async with (
            KeyRenewal(provider.send, TARGET, provider.fetch, ttl_s=TTL_S) as inner,
            KeyRenewal(inner, other_target, other.fetch, ttl_s=TTL_S) as keys,
        ):
            for target in (TARGET, other_target):
                with pytest.raises(KeyRenewed):
                    await keys(job(1), target, lambda event: None)
                await keys(job(1), target, lambda event: None)
        assert provider.sent == ["key-0", "key-1", "other-0", "other-1"]
        assert (provider.commands, other.commands) == (1, 1)

    run(main())
