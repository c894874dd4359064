"""Strict reading: a mapping from YAML becomes a frozen dataclass, or a ValueError names the key.

Knows nothing of params.yaml; `params.py` and the decoders' Config classes are what it builds.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, cast

T = TypeVar("T")
LARGEST = 2**32 - 1  # size of any number: what NumPy, scikit-learn and PyTorch take as a seed


def build(cls: type[T], content: Any, where: str, key: str = "") -> T:
    """The dataclass `cls` from a mapping.

    where: file, for the message; key: dotted key of the mapping in that file. Raises ValueError for
    unknown and missing keys (with the nearest field name), for values of another type (a bool is no
    number, an int is a float), for numbers that are not finite or beyond LARGEST, and for what
    `__post_init__` refuses.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"{where}: {key or 'the file'} is {content!r}, expected a mapping")
    fields = {f.name: f for f in dataclasses.fields(cast(Any, cls))}
    prefix = f"{key}." if key else ""
    for name in content:
        if name not in fields:
            near = difflib.get_close_matches(str(name), fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"fields: {', '.join(fields)}"
            raise ValueError(
                f"{where}: {prefix}{name} is not a field of {_class_name(cls)} ({hint})"
            )
    for name, f in fields.items():
        if (
            name not in content
            and f.default is dataclasses.MISSING
            and f.default_factory is dataclasses.MISSING
        ):
            raise ValueError(f"{where}: {prefix}{name} is missing")
    hints = typing.get_type_hints(cls)
    values = {
        name: _convert(hints[name], value, where, f"{prefix}{name}")
        for name, value in content.items()
    }
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {prefix}{error}") from None


def _convert(hint: Any, value: Any, where: str, key: str) -> Any:
    """The value as the annotated type, containers immutable; ValueError for another type."""
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        for arm in args:
            if _fits(arm, value):
                return _convert(arm, value, where, key)
    elif dataclasses.is_dataclass(hint):
        return build(cast(Any, hint), value, where, key)
    elif origin is tuple and isinstance(value, list | tuple):
        items = args[:1] * len(value) if args[-1] is Ellipsis else args
        if len(items) == len(value):
            pairs = enumerate(zip(items, value, strict=True))
            return tuple(_convert(item, v, where, f"{key}[{i}]") for i, (item, v) in pairs)
    elif isinstance(origin, type) and issubclass(origin, Mapping) and isinstance(value, Mapping):
        return {
            _name(k, where, key): _convert(args[1], v, where, f"{key}.{k}")
            for k, v in value.items()
        }
    elif _fits(hint, value):
        _check_size(value, where, key)
        return float(value) if hint is float else value
    raise ValueError(
        f"{where}: {key} is {value!r} ({type(value).__name__}), expected {_describe(hint)}"
    )


def _fits(hint: Any, value: Any) -> bool:
    if typing.get_origin(hint) is Literal:
        return any(
            type(value) is type(option) and value == option for option in typing.get_args(hint)
        )
    if isinstance(value, bool):
        return hint is bool
    if hint is float:
        return isinstance(value, int | float)
    plain = typing.get_origin(hint) or hint
    return isinstance(value, list if plain is tuple else plain)


def _check_size(value: Any, where: str, key: str) -> None:
    # Written so that NaN, which is neither smaller nor larger, is refused too.
    if isinstance(value, int | float) and not abs(value) <= LARGEST:
        raise ValueError(
            f"{where}: {key} is {value}, expected a number from {-LARGEST} to {LARGEST}"
        )


def _name(value: Any, where: str, key: str) -> str:
    if not isinstance(value, str) or not all(c.isalnum() or c in "_-" for c in value):
        raise ValueError(
            f"{where}: {key} has the entry {value!r}; names consist of letters, digits, '_' and '-'"
        )
    return value


def _describe(hint: Any) -> str:
    origin = typing.get_origin(hint)
    args = typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(repr(option) for option in args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(arm) for arm in args)
    if origin is tuple:
        if args[-1] is Ellipsis:
            return f"a list of {_describe(args[0])}"
        return f"a list of {len(args)} values"
    return "a mapping" if origin else str(getattr(hint, "__name__", hint))


def _class_name(cls: type) -> str:
    """A class as people know it: with the decoder's or the family's name in front."""
    _, found, rest = cls.__module__.rpartition("decoders.")
    if not found:
        _, found, rest = cls.__module__.rpartition("generators.")
    return f"{rest.split('.')[0]}.{cls.__name__}" if found else cls.__name__


def check_known(
    value: str, allowed: Iterable[str], where: str, key: str, what: str = "known"
) -> None:
    """Raise ValueError, naming what is allowed and what is near, unless the value is allowed."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(
            f"{where}: {key}: {value!r} is not {what}; choose from {', '.join(allowed)}"
            f"{suggest(value, allowed)}"
        )


def suggest(value: str, allowed: Iterable[str]) -> str:
    """' (did you mean x?)' with the allowed value nearest to what came, or '' if none is near."""
    near = difflib.get_close_matches(value, list(allowed), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def choices(section: Any) -> None:
    """Raise ValueError unless every Literal field of the dataclass has one of its values."""
    for name, hint in typing.get_type_hints(type(section)).items():
        if typing.get_origin(hint) is Literal and getattr(section, name) not in (
            allowed := typing.get_args(hint)
        ):
            raise ValueError(
                f"{name} is {getattr(section, name)!r}, expected one of {', '.join(allowed)}"
            )


def at_least(section: Any, least: int, *names: str) -> None:
    """Raise ValueError unless each named number of the dataclass is `least` or more."""
    for name in names:
        if getattr(section, name) < least:
            raise ValueError(f"{name} is {getattr(section, name)}, expected at least {least}")


def at_most(section: Any, most: int, *names: str) -> None:
    """Raise ValueError unless each named number of the dataclass is `most` or less."""
    for name in names:
        if getattr(section, name) > most:
            raise ValueError(f"{name} is {getattr(section, name)}, expected at most {most}")


def above_zero(section: Any, *names: str) -> None:
    """Raise ValueError unless each named number of the dataclass is more than 0."""
    for name in names:
        if getattr(section, name) <= 0:
            raise ValueError(f"{name} is {getattr(section, name)}, expected a number above 0")


def fraction(section: Any, *names: str) -> None:
    """Raise ValueError unless each named number of the dataclass lies between 0 and 1."""
    for name in names:
        if not 0 <= getattr(section, name) <= 1:
            raise ValueError(f"{name} is {getattr(section, name)}, expected a fraction from 0 to 1")
