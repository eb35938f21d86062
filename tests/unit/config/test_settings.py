"""Flags overrule the environment, that overrules config.toml, that the defaults; every mistake is one line."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from processor.config.settings import Limits, ModelLimits, Output, Settings, Waiting, environment, load
from processor.core.errors import ConfigError

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(text: str, *, environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    Path("config.toml").write_text(text, encoding="utf-8")
    return load(None, flags, environ or {})


def complaint(text: str, **flags: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        configured(text, **flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- what overrules what


def test_without_anything_the_defaults_hold() -> None:
    assert load(None, {}, {}) == Settings()


def test_the_file_overrules_the_defaults() -> None:
    assert configured('model = "m"\nconcurrency = 3').model == "m"


def test_flags_overrule_the_file() -> None:
    settings = configured('model = "m"\nconcurrency = 3', model="n", concurrency=None)
    assert (settings.model, settings.concurrency) == ("n", 3)


def test_the_environment_overrules_the_file_and_flags_the_environment() -> None:
    environ = {"OPENAI_BASE_URL": "https://of.environment/v1"}
    file = 'base_url = "https://of.file/v1"'
    assert configured("").base_url is None
    assert configured(file).base_url == "https://of.file/v1"
    assert configured(file, environ=environ).base_url == "https://of.environment/v1"
    assert configured(file, environ=environ, base_url="https://of.flag/v1").base_url == "https://of.flag/v1"


def test_the_environments_address_is_that_of_openais_protocol_not_of_a_provider_named_otherwise() -> None:
    environ = {"OPENAI_BASE_URL": "https://of.environment/v1"}
    assert configured('provider = "openai"', environ=environ).base_url == "https://of.environment/v1"
    assert configured('provider = "groq"', environ=environ).base_url is None
    assert configured("", environ=environ, provider="groq").base_url is None


def test_a_flags_provider_comes_with_its_own_address() -> None:
    assert configured('base_url = "https://of.file/v1"', provider="groq").base_url is None


def test_an_empty_variable_says_nothing() -> None:
    assert configured('base_url = "https://of.file/v1"', environ={"OPENAI_BASE_URL": ""}).base_url


def test_rpm_and_tpm_of_flags_are_general_limits_beside_the_files() -> None:
    settings = configured('[limits]\nrpm = 10\ninput_tpm = 5\n[limits."gpt-4o"]\ntpm = 7', rpm=20, tpm=30)
    assert settings.limits == Limits(rpm=20, tpm=30, input_tpm=5, models={"gpt-4o": ModelLimits(tpm=7)})


def test_tables_are_read_into_their_values() -> None:
    text = '[waiting]\nmax_wait_s = 5\n[output]\nfsync = "always"\n[limits]\ncharging = "used"'
    settings = configured(text)
    assert settings.waiting == Waiting(max_wait_s=5.0)
    assert settings.output == Output(fsync="always")
    assert settings.limits.charging == "used"


def test_a_whole_number_serves_where_a_number_is_wanted() -> None:
    assert isinstance(configured("grace_s = 5").grace_s, float)


def test_a_file_named_by_a_flag_is_read_instead() -> None:
    Path("other.toml").write_text('model = "m"')
    assert load(Path("other.toml"), {}, {}).model == "m"


# ---------------------------------------------------------------- the file that documents them


def documented() -> dict[str, Any]:
    """Every setting that config.toml names, also where it is commented out."""
    text = (REPOSITORY / "config.toml").read_text(encoding="utf-8")
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    return tomllib.loads("\n".join(line for line in lines if line.startswith("[") or " = " in line.partition("#")[0]))


def test_the_shipped_file_says_nothing_but_the_defaults() -> None:
    assert load(REPOSITORY / "config.toml", {}, {}) == Settings()


def test_it_names_every_setting() -> None:
    table = documented()
    assert set(table) == {item.name for item in fields(Settings)}
    assert set(table["waiting"]) == {item.name for item in fields(Waiting)}
    assert set(table["output"]) == {item.name for item in fields(Output)}
    named = {item.name for item in fields(Limits)} - {"models"}
    assert set(table["limits"]) == named | {"gpt-4o"}


def test_what_it_names_can_be_set() -> None:
    assert asdict(configured("\n".join(_toml(documented())))) is not None


def _toml(table: dict[str, Any], name: str = "") -> list[str]:
    plain = [f"{key} = {_literal(value)}" for key, value in table.items() if not isinstance(value, dict)]
    inner = [
        line for key, value in table.items() if isinstance(value, dict) for line in _toml(value, f'{name}"{key}".')
    ]
    return ([f"[{name.rstrip('.')}]"] if name else []) + plain + inner


def _literal(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("concurency = 3", "config.toml: concurency is no setting; is it concurrency?"),
        ("qqq = 3", "config.toml: qqq is no setting"),
        ("[limits]\nrpn = 3", "config.toml: limits.rpn is no setting; is it rpm?"),
        ('[limits."gpt-4o"]\ntmp = 3', "config.toml: limits.gpt-4o.tmp is no setting; is it tpm?"),
        ("[limits]\nmodels = 3", "config.toml: limits.models is no setting"),
        ("limits = 3", "config.toml: limits must be a table, not 3"),
        ("[model]\nx = 1", "config.toml: model must be text, not {'x': 1}"),
        ("model = 3", "config.toml: model must be text, not 3"),
        ("concurrency = 3.5", "config.toml: concurrency must be a whole number, not 3.5"),
        ("concurrency = true", "config.toml: concurrency must be a whole number, not True"),
        ("concurrency = 0", "config.toml: concurrency must be at least 1, not 0"),
        ("max_attempts = 0", "config.toml: max_attempts must be at least 1, not 0"),
        ("max_reply_bytes = -1", "config.toml: max_reply_bytes must be at least 1, not -1"),
        ("allow_http = 1", "config.toml: allow_http must be true or false, not 1"),
        ("[limits]\nrpm = 0", "config.toml: limits.rpm must be more than 0, not 0"),
        ("[limits]\nrpm = -0.5", "config.toml: limits.rpm must be more than 0, not -0.5"),
        ("[limits]\nrpm = inf", "config.toml: limits.rpm must be a number, not inf"),
        ("[limits]\nrpm = nan", "config.toml: limits.rpm must be a number, not nan"),
        ("[limits]\ntpm = true", "config.toml: limits.tpm must be a number, not True"),
        ('[limits]\ntpm = "many"', "config.toml: limits.tpm must be a number, not 'many'"),
        ("[waiting]\nstall_timeout_s = 0", "config.toml: waiting.stall_timeout_s must be more than 0, not 0"),
        ("grace_s = -1", "config.toml: grace_s must be 0 or more, not -1"),
        ('changed = "drop"', "config.toml: changed must be one of keep, resend, not 'drop'"),
        ("[output]\nfsync = true", "config.toml: output.fsync must be one of always, interval, never, not True"),
        ("[waiting]\nbackoff_max_s = 0.5", "backoff_max_s must not be less than backoff_min_s"),
        (
            'endpoint = "/v1/embeddings"',
            "the endpoint must be /v1/chat/completions or /v1/completions, not '/v1/embeddings'",
        ),
        ("model = ", "config.toml is no TOML: Invalid value (at end of document)"),
    ],
)
def test_a_mistake_in_the_file_names_its_place(text: str, message: str) -> None:
    assert complaint(text) == message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"rpm": 0.0}, "--rpm must be more than 0, not 0"),
        ({"concurrency": 0}, "--concurrency must be at least 1, not 0"),
        ({"max_attempts": -1}, "--max-attempts must be at least 1, not -1"),
        ({"grace_s": float("nan")}, "--grace must be a number, not nan"),
        ({"endpoint": "/x"}, "the endpoint must be /v1/chat/completions or /v1/completions, not '/x'"),
    ],
)
def test_a_mistake_in_a_flag_names_the_flag(flags: dict[str, Any], message: str) -> None:
    assert complaint("", **flags) == message


def test_no_grace_at_all_is_possible() -> None:
    assert configured("grace_s = 0").grace_s == 0


def test_a_number_beyond_all_numbers_is_none() -> None:
    assert complaint(f"[limits]\nrpm = 1{'0' * 400}").startswith("config.toml: limits.rpm must be a number, not 1000")


def test_a_file_that_is_named_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"^there is no nowhere\.toml$"):
        load(Path("nowhere.toml"), {}, {})


def test_a_folder_is_no_file() -> None:
    Path("config.toml").mkdir()
    with pytest.raises(ConfigError, match=r"^cannot read config\.toml: is a directory$"):
        load(None, {}, {})


def test_a_file_that_is_no_text_says_so() -> None:
    Path("config.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"^config\.toml is no TOML: "):
        load(None, {}, {})


# ---------------------------------------------------------------- .env


def test_a_dotenv_file_adds_to_the_environment_and_does_not_overrule_it() -> None:
    Path(".env").write_text("ONE=of-file\nTWO='of file'\nEMPTY\n")
    assert environment({"ONE": "of environment"}) == {"ONE": "of environment", "TWO": "of file"}


def test_without_one_the_environment_is_all_there_is() -> None:
    environ = {"ONE": "1"}
    assert environment(environ) is environ


def test_one_that_is_no_text_is_one_clear_line() -> None:
    Path(".env").write_bytes(b"ONE=\xff\xfe\n")
    with pytest.raises(ConfigError, match=r"^\.env is not UTF-8$"):
        environment({})
