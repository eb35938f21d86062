"""The banner, word for word: changing it is a decision."""

from __future__ import annotations

from typing import Any

import pytest

from processor.core.secrets import Secret
from processor.terminal import label_table, startup_banner
from processor.terminal.startup_banner import Banner, EndpointShown


def damage(count: int, *numbers: int) -> startup_banner.Damage:
    return startup_banner.Damage(file="r.jsonl", count=count, line_numbers=numbers, kept_in="r.damaged.jsonl")


KEYLESS = EndpointShown(address="https://api.openai.com/v1", key_from=None)


def banner(**more: Any) -> str:
    usual: dict[str, Any] = {
        "source": "jobs.jsonl",
        "jobs": 2000,
        "results": "results.jsonl",
        "endpoints": (EndpointShown(address="https://api.openai.com/v1", key_from="OPENAI_API_KEY"),),
        "concurrency": 64,
    }
    return label_table.plain_text(startup_banner.banner_rows(Banner(**usual | more)))


def test_banner_names_jobs_endpoint_limits_and_results() -> None:
    assert banner(done=1204, to_send=796, rpm=500, tpm=200_000) == (
        "jobs      jobs.jsonl: 2,000 jobs, 1,204 already done, 796 to do\n"
        "endpoint  https://api.openai.com/v1, key from OPENAI_API_KEY\n"
        "limits    500 requests and 200,000 tokens a minute; at most 64 in flight\n"
        "results   results.jsonl\n"
        "\n"
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, "jobs      jobs.jsonl: 2,000 jobs\n"),
        ({}, "limits    none configured, the server's are detected; at most 64 in flight\n"),
        ({"concurrency": None}, "limits    none configured, the server's are detected\n"),
        ({"done": 2000, "to_send": 0}, "jobs      jobs.jsonl: 2,000 jobs, 2,000 already done, nothing to do\n"),
        (
            {"done": 3, "failed_permanently": 2, "not_jobs": 1, "to_send": 1994},
            "jobs      jobs.jsonl: 2,000 jobs, 3 already done, 2 failed permanently, 1 invalid, 1,994 to do\n",
        ),
        ({"done": 0, "to_send": 2000}, "jobs      jobs.jsonl: 2,000 jobs, 2,000 to do\n"),
        (
            {"earlier_replies": 1204},
            "jobs      jobs.jsonl: 2,000 jobs, 1,204 replies of earlier runs; to do: not known yet\n",
        ),
        ({"source": "-", "jobs": None}, "jobs      stdin\n"),
        (
            {"source": "-", "jobs": None, "earlier_replies": 1},
            "jobs      stdin, 1 reply of earlier runs; to do: not known yet\n",
        ),
        (
            {"endpoints": (EndpointShown(address="https://api.openai.com/v1", key_from=None),)},
            "endpoint  https://api.openai.com/v1, no key\n",
        ),
        ({"simulated": True}, "endpoint  built-in simulator: no data leaves this machine, nothing is billed\n"),
        (
            {"tpm": 9000, "own_limits": ("gpt-4o",)},
            "limits    9,000 tokens a minute; own limits for gpt-4o; at most",
        ),
        ({"results": "-"}, "results   stdout, so a stopped run cannot be resumed\n"),
        (
            {"damage": (damage(1, 3),)},
            "warning   1 damaged line in r.jsonl (line 3), moved to r.damaged.jsonl; these jobs will be sent again\n",
        ),
        (
            {"damage": (damage(9, 1, 2, 3, 4, 5, 6),)},
            "warning   9 damaged lines in r.jsonl (lines 1, 2, 3, 4, 5, ...), "
            "moved to r.damaged.jsonl; these jobs will be sent again\n",
        ),
        ({"possibly_billed": 3}, "warning   3 requests of an earlier run may have been billed without a reply\n"),
        ({"warnings": ("little space",)}, "warning   little space\n"),
    ],
)
def test_banner_adapts_to_the_run(more: dict[str, Any], expected: str) -> None:
    assert expected in banner(**more)


def test_banner_says_that_jobs_are_to_be_typed() -> None:
    text = banner(source="-", jobs=None, is_awaited=True)
    assert text.startswith("jobs      stdin: type or paste jobs, one a line, and end with Ctrl-D\n")


def test_banner_names_each_of_several_endpoints() -> None:
    east = EndpointShown(name="east", address="https://east/v1", key_from="EAST_KEY")
    west = EndpointShown(name="west", address="http://localhost:8000/v1", key_from=None)
    assert (
        "endpoints  east: https://east/v1, key from EAST_KEY\n           west: http://localhost:8000/v1, no key\n"
    ) in banner(endpoints=(east, west))


def test_quiet_banner_has_the_warnings_only() -> None:
    values = Banner(
        source="j",
        jobs=1,
        results="r.jsonl",
        endpoints=(EndpointShown(address="https://host/v1", key_from=None),),
        concurrency=None,
        warnings=("no locks",),
        damage=(damage(1, 7),),
        possibly_billed=2,
    )
    texts = [row.text for row in startup_banner.warning_rows(values)]
    assert texts == [
        "no locks",
        "1 damaged line in r.jsonl (line 7), moved to r.damaged.jsonl; these jobs will be sent again",
        "2 requests of an earlier run may have been billed without a reply",
    ]


def test_control_characters_and_secrets_in_a_row_are_not_shown() -> None:
    Secret("not-a-key-of-anyone")
    endpoint = EndpointShown(address="https://host/not-a-key-of-anyone", key_from="KEY")
    text = banner(
        results="r\x1b[31m\u202e.jsonl",
        endpoints=(endpoint,),
    )
    assert "r\ufffd[31m\ufffd.jsonl\n" in text
    assert "https://host/•••, key" in text
