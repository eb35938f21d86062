"""Settings from flags, environment, config.toml and defaults; every error is one line."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from processor.config.endpoint_settings import EndpointSettings
from processor.config.environment import environment
from processor.config.settings import Limits, ModelLimits, Output, ProviderSettings, Settings, Waiting
from processor.config.settings_loading import load
from processor.core.errors import ConfigError
from processor.protocols.registry import known_paths

REPOSITORY = Path(__file__).parents[3]

NAME_IT = "name the right one with --config FILE (--config /dev/null for none)"
OTHER_FILE = f"if this file is another program's, {NAME_IT}"
CORRECT_IT = f"correct it, or {NAME_IT}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configured(text: str, *, environ: dict[str, str] | None = None, **flags: Any) -> Settings:
    Path("config.toml").write_text(text, encoding="utf-8")
    return load(None, flags, environ or {})


def config_error(text: str, **flags: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        configured(text, **flags)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- precedence


def test_settings_without_any_source_are_the_defaults() -> None:
    assert load(None, {}, {}) == Settings()


def test_file_overrides_the_defaults() -> None:
    assert configured('model = "m"\nconcurrency = 3').model == "m"


def test_flags_override_the_file() -> None:
    settings = configured('model = "m"\nconcurrency = 3', model="n", concurrency=None)
    assert (settings.model, settings.concurrency) == ("n", 3)


def test_base_url_of_the_environment_overrides_the_file_and_is_overridden_by_the_flag() -> None:
    environ = {"OPENAI_BASE_URL": "https://of.environment/v1"}
    file = 'base_url = "https://of.file/v1"'
    assert configured("").base_url is None
    assert configured(file).base_url == "https://of.file/v1"
    assert configured(file, environ=environ).base_url == "https://of.environment/v1"
    assert configured(file, environ=environ, base_url="https://of.flag/v1").base_url == "https://of.flag/v1"


def test_base_url_of_the_environment_does_not_apply_to_other_providers() -> None:
    environ = {"OPENAI_BASE_URL": "https://of.environment/v1"}
    assert configured('provider = "openai"', environ=environ).base_url == "https://of.environment/v1"
    assert configured('provider = "groq"', environ=environ).base_url is None
    assert configured("", environ=environ, provider="groq").base_url is None


def test_provider_flag_overrides_the_base_url_of_the_file() -> None:
    assert configured('base_url = "https://of.file/v1"', provider="groq").base_url is None


def test_empty_variable_is_ignored() -> None:
    assert configured('base_url = "https://of.file/v1"', environ={"OPENAI_BASE_URL": ""}).base_url


def test_rpm_and_tpm_flags_set_general_limits_and_keep_those_of_the_file() -> None:
    settings = configured('[limits]\nrpm = 10\ninput_tpm = 5\n[limits."gpt-4o"]\ntpm = 7', rpm=20, tpm=30)
    assert settings.limits == Limits(rpm=20, tpm=30, input_tpm=5, models={"gpt-4o": ModelLimits(tpm=7)})


def test_sections_of_the_file_are_parsed() -> None:
    text = '[waiting]\nmax_wait_s = 5\n[output]\nfsync = "always"\n[limits]\ncharging = "used"'
    settings = configured(text)
    assert settings.waiting == Waiting(max_wait_s=5.0)
    assert settings.output == Output(fsync="always")
    assert settings.limits.charging == "used"


def test_whole_number_is_accepted_as_a_number() -> None:
    assert isinstance(configured("grace_s = 5").grace_s, float)


def test_file_named_by_a_flag_is_read_instead_of_config_toml() -> None:
    Path("other.toml").write_text('model = "m"')
    assert load(Path("other.toml"), {}, {}).model == "m"


# ---------------------------------------------------------------- what a found file has chosen


def test_settings_that_a_found_file_chose_are_known() -> None:
    file = 'base_url = "https://of.file/v1"\napi_key_env = "MINE"\nmodel = "m"'
    assert configured(file).chosen_by == dict.fromkeys(("base_url", "api_key_env", "model"), "config.toml")
    assert configured(file, base_url="https://of.flag/v1").chosen_by.keys() == {"api_key_env", "model"}
    of_environment = configured(file, environ={"OPENAI_BASE_URL": "https://of.environment/v1"})
    assert of_environment.chosen_by.keys() == {"api_key_env", "model"}


def test_settings_of_a_file_that_the_user_named_are_the_users_choice() -> None:
    Path("mine.toml").write_text('base_url = "https://of.file/v1"')
    assert load(Path("mine.toml"), {}, {}).chosen_by == {}


def test_address_in_the_dotenv_file_is_chosen_by_it() -> None:
    Path(".env").write_text("OPENAI_BASE_URL=https://of.dotenv/v1\n")
    assert configured("", environ=environment({})).chosen_by == {"base_url": ".env"}
    own = environment({"OPENAI_BASE_URL": "https://of.environment/v1"})
    assert load(None, {}, own).chosen_by == {}


def test_source_of_a_setting_is_no_setting() -> None:
    assert config_error('[chosen_by]\nbase_url = "x"').startswith("config.toml: unknown setting chosen_by")


# ---------------------------------------------------------------- the shipped config.toml


def documented() -> dict[str, Any]:
    """Every setting that config.toml names, also where it is commented out."""
    text = (REPOSITORY / "config.toml").read_text(encoding="utf-8")
    lines = [line.removeprefix("# ") for line in text.splitlines()]
    return tomllib.loads("\n".join(line for line in lines if line.startswith("[") or " = " in line.partition("#")[0]))


def test_shipped_file_sets_the_defaults() -> None:
    assert load(REPOSITORY / "config.toml", {}, {}) == Settings()


def test_shipped_file_names_every_setting() -> None:
    table = documented()
    assert set(table) == {item.name for item in fields(Settings)} - {"chosen_by", "ignored_commands"}
    assert set(table["waiting"]) == {item.name for item in fields(Waiting)}
    assert set(table["output"]) == {item.name for item in fields(Output)}
    named = {item.name for item in fields(Limits)} - {"models"}
    assert set(table["limits"]) == named | {"gpt-4o"}
    assert set(table["endpoints"][0]) == {item.name for item in fields(EndpointSettings)}
    assert set(table["providers"]["mine"]) == {item.name for item in fields(ProviderSettings)}


def test_every_setting_named_in_the_shipped_file_can_be_set() -> None:
    one, several = documented(), documented()
    for name in ("endpoints", "fallback", "retry_elsewhere"):
        del one[name]
    for name in ("base_url", "provider", "api_key_env", "api_key_command", "api_version"):
        del several[name]
    assert asdict(configured("\n".join(_toml(one)))) is not None
    assert configured("\n".join(_toml(several))).endpoints[0].name == "east"


def _toml(table: dict[str, Any], name: str = "") -> list[str]:
    plain = [f"{key} = {_literal(value)}" for key, value in table.items() if not isinstance(value, dict)]
    inner = [
        line for key, value in table.items() if isinstance(value, dict) for line in _toml(value, f'{name}"{key}".')
    ]
    return ([f"[{name.rstrip('.')}]"] if name else []) + plain + inner


def _literal(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{name}" = {_literal(one)}' for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_literal, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("concurency = 3", "config.toml: unknown setting concurency; did you mean concurrency?"),
        ("qqq = 3", "config.toml: unknown setting qqq; " + OTHER_FILE),
        ("[limits]\nrpn = 3", "config.toml: unknown setting limits.rpn; did you mean rpm?"),
        ('[limits."gpt-4o"]\ntmp = 3', "config.toml: unknown setting limits.gpt-4o.tmp; did you mean tpm?"),
        ("[limits]\nmodels = 3", "config.toml: unknown setting limits.models; " + OTHER_FILE),
        ("limits = 3", "config.toml: limits must be a table, not 3"),
        ("[model]\nx = 1", "config.toml: model must be text, not {'x': 1}"),
        ("model = 3", "config.toml: model must be text, not 3"),
        ("concurrency = 3.5", "config.toml: concurrency must be a whole number of at least 1 or auto, not 3.5"),
        ("concurrency = true", "config.toml: concurrency must be a whole number of at least 1 or auto, not True"),
        ("concurrency = 0", "config.toml: concurrency must be a whole number of at least 1 or auto, not 0"),
        ("max_attempts = 0", "config.toml: max_attempts must be a whole number of at least 1, not 0"),
        ("max_reply_bytes = -1", "config.toml: max_reply_bytes must be a whole number of at least 1, not -1"),
        ("allow_http = 1", "config.toml: allow_http must be true or false, not 1"),
        ("[limits]\nrpm = 0", "config.toml: limits.rpm must be a number greater than 0, not 0"),
        ("[limits]\nrpm = -0.5", "config.toml: limits.rpm must be a number greater than 0, not -0.5"),
        ("[limits]\nrpm = inf", "config.toml: limits.rpm must be a number greater than 0, not inf"),
        ("[limits]\nrpm = nan", "config.toml: limits.rpm must be a number greater than 0, not nan"),
        ("[limits]\ntpm = true", "config.toml: limits.tpm must be a number greater than 0, not True"),
        ('[limits]\ntpm = "many"', "config.toml: limits.tpm must be a number greater than 0, not 'many'"),
        (
            "[waiting]\nstall_timeout_s = 0",
            "config.toml: waiting.stall_timeout_s must be a number greater than 0, not 0",
        ),
        ("grace_s = -1", "config.toml: grace_s must be a number of at least 0, not -1"),
        ('changed = "drop"', "config.toml: changed must be one of keep, resend, not 'drop'"),
        ("[output]\nfsync = true", "config.toml: output.fsync must be one of always, interval, never, not True"),
        ("[waiting]\nbackoff_max_s = 0.5", "waiting.backoff_max_s must not be less than waiting.backoff_min_s"),
        (
            'endpoint = "/v1/haikus"',
            f"the endpoint must be {known_paths()}, not '/v1/haikus'",
        ),
        ("model = ", "config.toml is not valid TOML: Invalid value (at end of document); " + CORRECT_IT),
    ],
)
def test_error_in_the_file_names_file_and_setting(text: str, message: str) -> None:
    assert config_error(text) == message


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"rpm": 0.0}, "--rpm must be a number greater than 0, not 0"),
        ({"concurrency": 0}, "--concurrency must be a whole number of at least 1 or auto, not 0"),
        ({"max_attempts": -1}, "--max-attempts must be a whole number of at least 1, not -1"),
        ({"grace_s": float("nan")}, "--grace must be a number of at least 0, not nan"),
        ({"endpoint": "/x"}, f"the endpoint must be {known_paths()}, not '/x'"),
    ],
)
def test_error_in_a_flag_names_the_flag(flags: dict[str, Any], message: str) -> None:
    assert config_error("", **flags) == message


def test_grace_may_be_zero() -> None:
    assert configured("grace_s = 0").grace_s == 0


def test_too_large_number_is_refused() -> None:
    assert config_error(f"[limits]\nrpm = 1{'0' * 400}").startswith(
        "config.toml: limits.rpm must be a number greater than 0, not 1000"
    )


def test_named_file_must_exist() -> None:
    with pytest.raises(ConfigError, match=r"^cannot read nowhere\.toml: no such file or directory$"):
        load(Path("nowhere.toml"), {}, {})


def test_folder_named_config_toml_is_an_error() -> None:
    Path("config.toml").mkdir()
    with pytest.raises(ConfigError, match=r"^cannot read config\.toml: is a directory; make it readable, or "):
        load(None, {}, {})


def test_file_that_is_not_utf8_is_an_error() -> None:
    Path("config.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"^config\.toml is not valid TOML: "):
        load(None, {}, {})


# ---------------------------------------------------------------- .env


def test_dotenv_file_adds_to_the_environment_and_does_not_override_it() -> None:
    Path(".env").write_text("ONE=of-file\nTWO='of file'\nEMPTY\n")
    assert environment({"ONE": "of environment"}) == {"ONE": "of environment", "TWO": "of file"}


def test_empty_variable_does_not_hide_the_value_in_the_dotenv_file() -> None:
    Path(".env").write_text("ONE=of-file\nTWO=\n")
    found = environment({"ONE": " ", "TWO": "of environment"})
    assert found == {"ONE": "of-file", "TWO": "of environment"}
    assert found.from_dotenv == {"ONE"}


def test_values_of_the_dotenv_file_are_not_interpolated() -> None:
    Path(".env").write_text("OPENAI_BASE_URL=https://host/${AWS_SECRET}/v1\n")
    assert environment({"AWS_SECRET": "x"})["OPENAI_BASE_URL"] == "https://host/${AWS_SECRET}/v1"


def test_unreadable_dotenv_file_is_named_with_the_remedy() -> None:
    Path(".env").write_text("ONE=1\n")
    Path(".env").chmod(0)
    try:
        Path(".env").read_bytes()
    except PermissionError:
        with pytest.raises(
            ConfigError, match=r"^cannot read \.env: permission denied; make it readable, or move it away$"
        ):
            environment({})


def test_environment_without_a_dotenv_file_is_that_of_the_process() -> None:
    assert environment({"ONE": "1"}) == {"ONE": "1"}


def test_dotenv_file_that_is_not_utf8_is_an_error() -> None:
    Path(".env").write_bytes(b"ONE=\xff\xfe\n")
    with pytest.raises(ConfigError, match=r"^\.env is not UTF-8: save it as UTF-8, or move it away$"):
        environment({})
