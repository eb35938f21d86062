"""Loading encodings from the packed rank files, without network."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from hashlib import sha1, sha256
from pathlib import Path

import pytest

from processor.core.errors import ConfigError
from processor.tokens import encoding_files
from processor.tokens.encoding_files import ENCODING_FILES

R50K = ENCODING_FILES["r50k_base"]


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provides an empty cache folder, and forgets earlier loads."""
    import tiktoken.registry

    for name in encoding_files.CACHE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr(tiktoken.registry, "ENCODINGS", {})
    monkeypatch.setattr("tiktoken.load.read_file", _read_file_offline)
    encoding_files.load.cache_clear()
    return tmp_path / "caches" / "processor" / "tiktoken"


def _read_file_offline(path: str) -> bytes:
    assert "://" not in path, f"download of {path}"
    return Path(path).read_bytes()


@pytest.mark.parametrize("file", ENCODING_FILES.values(), ids=list(ENCODING_FILES))
def test_each_packed_file_has_the_size_and_hash_that_tiktoken_expects(file: encoding_files.EncodingFile) -> None:
    data = file.unpack()
    assert len(data) == file.size
    assert sha256(data).hexdigest() == file.sha256


@pytest.mark.parametrize("name", ENCODING_FILES)
def test_file_names_and_hashes_are_those_of_the_installed_tiktoken(name: str) -> None:
    import tiktoken_ext.openai_public as public

    code = public.ENCODING_CONSTRUCTORS[name].__code__
    urls = [constant for constant in code.co_consts if isinstance(constant, str) and constant.startswith("https://")]
    assert [sha1(url.encode()).hexdigest() for url in urls] == [ENCODING_FILES[name].cache_name]
    assert ENCODING_FILES[name].sha256 in code.co_consts


def test_loading_unpacks_only_that_encoding_and_restores_the_environment(caches: Path) -> None:
    assert encoding_files.load("r50k_base").encode_ordinary("hello world") == [31373, 995]
    assert [file.name for file in caches.iterdir()] == [R50K.cache_name]
    assert "TIKTOKEN_CACHE_DIR" not in os.environ


def test_a_damaged_cache_file_is_replaced(caches: Path) -> None:
    caches.mkdir(parents=True)
    (caches / R50K.cache_name).write_bytes(b"torn")
    encoding_files.load("r50k_base")
    assert R50K.is_in(caches)


def test_an_intact_cache_file_is_not_written_again(caches: Path) -> None:
    encoding_files.load("r50k_base")
    written = (caches / R50K.cache_name).stat().st_ino
    encoding_files.load.cache_clear()
    encoding_files.load("r50k_base")
    assert (caches / R50K.cache_name).stat().st_ino == written


@pytest.mark.parametrize("setting", encoding_files.CACHE_VARIABLES)
def test_a_configured_cache_folder_that_holds_the_file_is_used(
    setting: str, caches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / R50K.cache_name).write_bytes(R50K.unpack())
    monkeypatch.setenv(setting, str(own))
    encoding_files.load("r50k_base")
    assert not caches.exists()
    assert os.environ[setting] == str(own)


@pytest.mark.parametrize("own", ["empty", "damaged", ""])
def test_a_configured_cache_folder_is_never_written_to(
    own: str, caches: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / own
    folder.mkdir(exist_ok=True)
    if own == "damaged":
        (folder / R50K.cache_name).write_bytes(b"the user's")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(folder) if own else "")
    encoding_files.load("r50k_base")
    if own:
        left = {file.name: file.read_bytes() for file in folder.iterdir()}
        assert left == ({R50K.cache_name: b"the user's"} if own == "damaged" else {})
    assert os.environ["TIKTOKEN_CACHE_DIR"] == (str(folder) if own else "")
    assert R50K.is_in(caches)


def test_without_a_writable_cache_folder_a_temporary_one_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    assert encoding_files.load("r50k_base").n_vocab == 50257
    assert list(temporary.iterdir()) == []


def test_without_any_writable_folder_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    with pytest.raises(ConfigError, match="let XDG_CACHE_HOME name a writable folder"):
        encoding_files.load("r50k_base")


def test_a_failed_write_leaves_no_file(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    caches.mkdir(parents=True)
    with pytest.raises(ConfigError, match="no space left"):
        encoding_files.load("r50k_base")
    assert list(caches.iterdir()) == []


def test_concurrent_installs_leave_one_intact_file(caches: Path) -> None:
    caches.mkdir(parents=True)
    threads = [threading.Thread(target=encoding_files._install, args=(R50K, caches)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [file.name for file in caches.iterdir()] == [R50K.cache_name]
    assert R50K.is_in(caches)


def test_a_relative_cache_home_is_ignored_as_is_a_missing_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert encoding_files._cache_folder() == Path.home() / ".cache" / "processor" / "tiktoken"
    monkeypatch.setattr(Path, "home", homeless)
    assert encoding_files._cache_folder() is None


@pytest.mark.parametrize(
    ("platform", "expected"),
    [("darwin", "Library/Caches/processor/tiktoken"), ("linux", ".cache/processor/tiktoken")],
)
def test_the_cache_folder_is_the_usual_one_of_the_platform(
    platform: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(sys, "platform", platform)
    assert encoding_files._cache_folder() == Path.home() / expected


def test_on_windows_the_cache_folder_is_in_the_local_application_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert encoding_files._cache_folder() == tmp_path / "processor" / "tiktoken"


OFFLINE = """
import asyncio, socket, sys

def no_network(*args, **kwargs):
    raise SystemExit(f"the network was asked for: {args}")

socket.getaddrinfo = socket.create_connection = socket.socket.connect = no_network

from processor.tokens.counter import TokenCounter
assert "tiktoken" not in sys.modules

async def main():
    counter = TokenCounter(None, asyncio.to_thread)
    for model in ("gpt-4o", "gpt-3.5-turbo", "text-davinci-003", "ada", "gpt2", "gpt-oss-20b", "nobody's"):
        await counter.load(model)
        assert counter.for_model(model).count_text("hello world") == 2, model

asyncio.run(main())
assert "requests" not in sys.modules
"""


@pytest.mark.process
def test_every_encoding_loads_with_no_network_and_an_empty_home(tmp_path: Path) -> None:
    environment = {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "HTTPS_PROXY": "http://127.0.0.1:1",
        "HTTP_PROXY": "http://127.0.0.1:1",
    }
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", OFFLINE], env=environment, cwd=root, check=True, timeout=60)
    kept = tmp_path / ".cache" / "processor" / "tiktoken"
    assert {file.name for file in kept.iterdir()} == {file.cache_name for file in ENCODING_FILES.values()}
