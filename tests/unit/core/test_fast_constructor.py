"""``fast_constructor``: the same values as a frozen dataclass of the usual kind."""

from __future__ import annotations

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.fast_constructor import fast_constructor


@fast_constructor
@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: int
    y: int = 2
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsualPoint:
    x: int
    y: int = 2
    label: str | None = None


@fast_constructor
@dataclass(frozen=True, slots=True)
class Pair:
    first: int
    second: int = 0


@given(st.fixed_dictionaries({"x": st.integers()}, optional={"y": st.integers(), "label": st.text()}))
def test_values_equal_those_of_a_usual_frozen_dataclass(values: dict[str, int]) -> None:
    point, usual = Point(**values), UsualPoint(**values)  # type: ignore[arg-type]

    assert [getattr(point, one.name) for one in fields(point)] == [getattr(usual, one.name) for one in fields(usual)]
    assert repr(point) == repr(usual).replace("UsualPoint", "Point")
    assert point == Point(**values) and hash(point) == hash(Point(**values))  # type: ignore[arg-type]


def test_instances_are_frozen() -> None:
    point = Point(x=1)

    with pytest.raises(FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(FrozenInstanceError):
        del point.x


def test_instances_can_be_pickled_copied_and_replaced() -> None:
    point = Point(x=1, label="a")

    assert pickle.loads(pickle.dumps(point)) == copy.copy(point) == copy.deepcopy(point) == point
    assert replace(point, y=5) == Point(x=1, y=5, label="a")


def test_wrong_arguments_are_refused_by_name() -> None:
    with pytest.raises(TypeError, match="'x'"):
        Point()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'z'"):
        Point(x=1, z=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional"):
        Point(1)  # type: ignore[call-arg]


def test_positional_fields_stay_positional() -> None:
    assert Pair(1) == Pair(first=1, second=0)


def test_unsupported_classes_are_refused() -> None:
    @dataclass(frozen=True, slots=True)
    class WithFactory:
        values: list[int] = field(default_factory=list)

    @dataclass(frozen=True, slots=True)
    class Derived(Pair):
        third: int = 0

    class_with_dict: type = dataclass(frozen=True)(type("WithDict", (), {"__annotations__": {"x": int}}))
    for cls in (WithFactory, Derived, class_with_dict):
        with pytest.raises(TypeError):
            fast_constructor(cls)
