"""The names of the files of one output, and what may stand under them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from processor.core.errors import ConfigError, reason
from processor.core.fast_dataclass import dataclass
from processor.core.text import setting_name
from processor.output.compaction import compacted_path, temp_path
from processor.output.storage import Storage

LINES_CHECKED = 1000
"""Lines without a row at the beginning of a file that show that it is no results file."""
STATE_SUFFIX = ".state"
_SUFFIXES_BESIDE_RESULTS = (
    ".errors.jsonl",
    ".damaged.jsonl",
    ".history.jsonl",
    ".batches.jsonl",
    STATE_SUFFIX,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPaths:
    """The files of one output, all in one folder."""

    replies: Path
    """The results file."""
    failures: Path
    """The errors file."""
    damaged: Path
    """The lines of these two that are not rows. Created only where there are any."""
    history: Path
    """What the limits were, what was used and what bound each run, a line a minute."""
    batches: Path
    """The journal of batches. Created only where jobs are sent in batches."""
    state: Path
    """The lock and the in-flight log."""

    @classmethod
    def of(cls, results: Path) -> OutputPaths:
        """Return the paths that belong to a results file. Where it is a link, they stand beside the file itself.

        Only a final ``.jsonl`` is no part of the stem, so that outputs with other endings share no file.
        """
        if results.is_symlink():
            results = results.resolve()
        stem = results.name.removesuffix(".jsonl") or results.name
        return cls(
            replies=results,
            failures=results.with_name(f"{stem}.errors.jsonl"),
            damaged=results.with_name(f"{stem}.damaged.jsonl"),
            history=results.with_name(f"{stem}.history.jsonl"),
            batches=results.with_name(f"{stem}.batches.jsonl"),
            state=results.with_name(results.name + STATE_SUFFIX),
        )

    @classmethod
    def of_existing(cls, results: Path, *, history_suffices: bool = False) -> OutputPaths:
        """Do the same for an output that is read. Raises ConfigError where there is none, or other text."""
        paths = cls.of(results)
        expected = (paths.replies, paths.failures, *((paths.history,) if history_suffices else ()))
        if not any(path.is_file() for path in expected):
            raise ConfigError(
                f"there is no results file {results}: give the one that a run has written with {setting_name('out')}"
            )
        if not _may_hold_rows(paths.replies):
            raise ConfigError(f"{results} is not a results file: it holds no row")
        return paths

    def refuse_foreign(self, given: Path) -> None:
        """Raise ConfigError where a name leads to a file that this program would not have put there.

        ``given`` is the name of the results file on the command line.
        """
        if given.is_symlink() and not given.exists():
            raise ConfigError(
                f"{given} is a link to {self.replies}, which does not exist: give another {setting_name('out')}"
            )
        for path in (self.failures, self.damaged, self.history, self.batches, self.state):
            self._refuse_links(path)
        for path in (self.replies, self.failures):
            self._refuse_links(temp_path(path))
            self._refuse_links(compacted_path(path))
        name = self.replies.name
        twin = self.replies.with_name(name.removesuffix(".jsonl") if name.endswith(".jsonl") else f"{name}.jsonl")
        if twin.name and twin.with_name(twin.name + STATE_SUFFIX).exists():
            raise ConfigError(f"{given} would share {self.failures} with {twin}: give another {setting_name('out')}")
        self._refuse_file_of_other_results(given)

    def _refuse_links(self, path: Path) -> None:
        """Raise ConfigError where a file beside the results is a link, or has further names (hard links)."""
        if path.is_symlink():
            raise ConfigError(
                f"{path} is a link, and this program makes none: remove it, or give another {setting_name('out')}"
            )
        if path.exists() and path.stat().st_nlink > 1 and path.is_file():
            raise ConfigError(f"{path} has several names (hard links): copy it, or give another {setting_name('out')}")

    def _refuse_file_of_other_results(self, given: Path) -> None:
        """Raise ConfigError where the name is that of a file that belongs to other results, e.g. of their failures."""
        for suffix in _SUFFIXES_BESIDE_RESULTS:
            stem = self.replies.name.removesuffix(suffix)
            owners = (stem,) if suffix == STATE_SUFFIX else (f"{stem}.jsonl", stem)
            for owner in owners if stem not in ("", self.replies.name) else ():
                if self.replies.with_name(owner).is_file() and self.replies.with_name(owner + STATE_SUFFIX).is_file():
                    raise ConfigError(f"{given} belongs to the results in {owner}: give another {setting_name('out')}")

    def take_over_old_names(self, storage: Storage) -> None:
        """Rename files that version 0.1.0 named without the ending of the results file. Raises OSError.

        They are left alone where they belong to the output with the ending ``.jsonl``.
        """
        stem = self.replies.stem
        owner = self.replies.with_name(f"{stem}.jsonl")
        if self.replies.suffix in ("", ".jsonl") or storage.exists(owner) or not storage.exists(self.replies):
            return
        for path, kind in ((self.failures, "errors"), (self.damaged, "damaged")):
            old = self.replies.with_name(f"{stem}.{kind}.jsonl")
            if storage.exists(old) and not storage.exists(path):
                storage.replace(old, path)


def _may_hold_rows(path: Path) -> bool:
    """Whether the file is missing or empty, or has a row among its first lines. Raises ConfigError."""
    from processor.core.json_reading import fields_of, parsed

    lines = 0
    try:
        with open(path, "rb") as file:
            for raw in islice(file, LINES_CHECKED):
                if {"custom_id", "error"} <= fields_of(parsed(raw)).keys():
                    return True
                lines += 1
    except FileNotFoundError:
        return True
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {reason(error)}") from None
    return not lines
