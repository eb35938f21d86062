"""The ``dataclass`` of this package: the same classes as those of the standard library, made and filled faster.

For a frozen class the standard library compiles six methods, which takes about a millisecond: a tenth of the time until
a run sends its first request. Here only the constructor is compiled, and the others are shared code.

The constructor of the standard library calls ``object.__setattr__`` for each field, 1,600 processor instructions each.
For the hundred fields of a job's values that was an eighth of all that the job costs apart from its reply. This one
builds an instance of a mutable class with the same slots, assigns the fields, and then makes it an instance of the
frozen class. Python allows that because both classes have the same memory layout.

Calling a class with keyword arguments makes a dictionary of them, and an array of that again. ``constructor_of``
returns a function instead, which takes half the time: for the values that are made for each job.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:
    import dataclasses
    from dataclasses import MISSING, FrozenInstanceError, fields, is_dataclass
    from operator import attrgetter

    _OWN_METHODS = {
        "__init__",
        "__new__",
        "__post_init__",
        "__repr__",
        "__eq__",
        "__hash__",
        "__setattr__",
        "__reduce__",
    }
    """A class that defines one of these is left to the standard library."""

    def dataclass(cls=None, /, *, frozen=False, slots=False, **options):
        """As ``dataclasses.dataclass``."""

        def make(cls):
            is_plain = _has_fast_bases(cls) and _OWN_METHODS.isdisjoint(vars(cls))
            if frozen and slots and is_plain and options.keys() <= {"kw_only"}:
                return _make_frozen(cls, **options)
            return dataclasses.dataclass(frozen=frozen, slots=slots, **options)(cls)

        return make if cls is None else make(cls)

    def _has_fast_bases(cls):
        return all(base is object or ("__new__" in vars(base) and is_dataclass(base)) for base in cls.__bases__)

    def _make_frozen(cls, **options):
        made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=True, **options)(cls)
        all_fields = fields(made)
        made.__new__ = _compile_new(made, all_fields)
        made.__repr__ = _repr_method([field.name for field in all_fields if field.repr])
        compared = [field.name for field in all_fields if field.compare]
        made.__eq__, made.__hash__ = _comparison_methods(attrgetter(*compared) if compared else type)
        made.__setattr__, made.__delattr__ = _refuse_assignment, _refuse_deletion
        made.__reduce__ = _reduce
        return made

    def _compile_new(cls, all_fields):
        """Compile ``__new__(cls, *, a, b=default)`` with an assignment for each field, as ``dataclass`` does it.

        ``cls`` has a default where all fields are passed by keyword: see ``constructor_of``.
        """
        is_derived = cls.__bases__ != (object,)  # its layout is not that of a class with the same slots
        mutable = cls if is_derived else type(cls.__name__, (), {"__slots__": [field.name for field in all_fields]})
        namespace = {"new_object": object.__new__, "mutable": mutable, "MISSING": MISSING, "default_cls": cls}
        is_kw_only = all(field.kw_only for field in all_fields)
        parameters, assignments = ["cls=default_cls" if is_kw_only else "cls"], []
        for field in all_fields:
            name, value = field.name, field.name
            if field.kw_only and "*" not in parameters:
                parameters.append("*")
            if field.default_factory is not MISSING:
                namespace[f"factory_{name}"] = field.default_factory
                value = f"factory_{name}() if {name} is MISSING else {name}"
                parameters.append(f"{name}=MISSING")
            elif field.default is not MISSING:
                namespace[f"default_{name}"] = field.default
                parameters.append(f"{name}=default_{name}")
            else:
                parameters.append(name)
            if is_derived:
                namespace[f"set_{name}"] = getattr(cls, name).__set__
            assignments.append(f"    set_{name}(self, {value})" if is_derived else f"    self.{name} = {value}")
        lines = [
            f"def __new__({', '.join(parameters)}):",
            "    self = new_object(mutable)" if is_derived else "    self = mutable()",
            *assignments,
            *(() if is_derived else ("    self.__class__ = cls",)),
            "    return self",
        ]
        exec("\n".join(lines), namespace)  # noqa: S102 (of field names only, as dataclass itself does)
        return namespace["__new__"]

    def _repr_method(names):
        def __repr__(self):  # noqa: N807
            values = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
            return f"{type(self).__qualname__}({values})"

        return __repr__

    def _comparison_methods(values_of):
        def __eq__(self, other):  # noqa: N807
            return values_of(self) == values_of(other) if other.__class__ is self.__class__ else NotImplemented

        def __hash__(self):  # noqa: N807
            return hash(values_of(self))

        return __eq__, __hash__

    def _refuse_assignment(self, name, value):
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    def _refuse_deletion(self, name):
        raise FrozenInstanceError(f"cannot delete field {name!r}")

    def _reduce(self):
        """Pickle and copy by the constructor, which has parameters without defaults."""
        return _rebuild, (type(self), {field.name: getattr(self, field.name) for field in fields(self)})


def constructor_of(cls: Callable[P, T]) -> Callable[P, T]:
    """Return a function that does what calling the class does, in half the time.

    The class is a frozen one of this module, with keyword arguments only.
    """
    return cast(Callable[P, T], cls.__new__)


def _rebuild(cls: type, values: dict[str, object]) -> object:
    return cls(**values)
