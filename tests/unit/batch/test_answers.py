"""What batch APIs answer, in whatever shape."""

from __future__ import annotations

import pytest

from processor.batch.answers import id_in, ids_of, name_in, sum_of
from processor.core.errors import ProtocolError


def test_ids_are_texts_or_stand_in_objects() -> None:
    assert ids_of("file-1", None, {"id": "file-2", "object": "file"}, "", {}, 3) == ("file-1", "file-2")


@pytest.mark.parametrize("answer", [{}, {"id": None}, {"id": ""}, {"id": 3}])
def test_answer_without_an_id_is_senseless(answer: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        id_in(answer)


def test_only_whole_numbers_are_counted() -> None:
    assert sum_of(3, None, "4", 2.5, True, 1) == 4


@pytest.mark.parametrize("metadata", [None, "x", {}, {"processor_batch": 3}])
def test_batch_of_another_program_has_no_name(metadata: object) -> None:
    assert name_in({"metadata": metadata}) is None
