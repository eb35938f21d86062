"""The ``dataclass`` of this package makes the same classes as that of the standard library."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError, field, fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processor.core.fast_dataclass import constructor_of, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    x: int
    y: int = 2
    label: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class UsualPoint:
    x: int
    y: int = 2
    label: str | None = None


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


def test_constructor_does_what_calling_the_class_does() -> None:
    point = constructor_of(Point)(x=1, label="a")

    assert point == Point(x=1, label="a") and type(point) is Point
    assert type(constructor_of(Labelled)(x=1)) is Labelled
    with pytest.raises(FrozenInstanceError):
        point.x = 2  # type: ignore[misc]
    with pytest.raises(TypeError, match="'x'"):
        constructor_of(Point)()  # type: ignore[call-arg]


def test_positional_fields_stay_positional() -> None:
    assert Pair(1) == Pair(first=1, second=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Labelled(Point):
    names: list[str] = field(default_factory=list, compare=False)


@dataclass(frozen=True, slots=True)
class Checked:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise ValueError(self.number)


@dataclass(frozen=True, slots=True)
class Nothing:
    pass


def test_derived_class_has_the_fields_of_both() -> None:
    labelled = Labelled(x=1, names=["a"])

    assert [one.name for one in fields(labelled)] == ["x", "y", "label", "names"]
    assert labelled == Labelled(x=1) != Labelled(x=2)
    assert labelled != Point(x=1)
    assert pickle.loads(pickle.dumps(labelled)).names == ["a"]
    assert repr(replace(labelled, y=3)) == "Labelled(x=1, y=3, label=None, names=['a'])"
    with pytest.raises(FrozenInstanceError):
        labelled.x = 2  # type: ignore[misc]


def test_default_factory_makes_a_value_for_each_instance() -> None:
    assert Labelled(x=1).names == [] and Labelled(x=1).names is not Labelled(x=1).names


def test_methods_of_the_class_are_kept() -> None:
    with pytest.raises(ValueError, match="-1"):
        Checked(-1)
    assert Checked(1) == Checked(1)


def test_class_without_fields() -> None:
    assert Nothing() == Nothing() and hash(Nothing()) == hash(Nothing()) and repr(Nothing()) == "Nothing()"


def test_class_that_is_not_frozen_is_a_usual_one() -> None:
    @dataclass(slots=True)
    class Counter:
        count: int = 0

    counter = Counter()
    counter.count += 1
    assert counter == Counter(1)
