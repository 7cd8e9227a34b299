"""What every configuration is: frozen, bounded, without unknown keys."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kvae.errors import KvaeError

# Bounds keep a forged configuration from asking for more memory than exists.
Width = Annotated[int, Field(ge=1, le=65_536)]
Widths = Annotated[tuple[Width, ...], Field(max_length=16)]
HiddenWidths = Annotated[tuple[Width, ...], Field(min_length=1, max_length=16)]
Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Positive = Annotated[float, Field(gt=0.0)]


class Frozen(BaseModel):
    """Base of every configuration: immutable, finite numbers, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


ConfigT = TypeVar("ConfigT", bound=Frozen)


def parse_config(cls: type[ConfigT], text: str | bytes, origin: str) -> ConfigT:
    """Read a configuration from JSON.

    Parameters
    ----------
    cls
        The configuration class expected.
    text
        JSON text.
    origin
        Where the text came from, for the message.

    Raises
    ------
    KvaeError
        Where the text is not JSON or not a valid configuration; the message
        names the first offending key.
    """
    try:
        return cls.model_validate_json(text)
    except ValidationError as error:
        raise KvaeError(f"{origin}: {first_problem(error)}") from None


def part(cls: type[ConfigT], value: Any) -> ConfigT:
    """Validate a part of a configuration whose class depends on its content.

    Raises
    ------
    ValueError
        With the first problem in one line, for the configuration around it.
    """
    try:
        return cls.model_validate(value)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


def first_problem(error: ValidationError) -> str:
    """First problem of a validation error in one line, with the key it concerns."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ").replace("\n", " ")
    return f"{where}: {message}" if where else message
