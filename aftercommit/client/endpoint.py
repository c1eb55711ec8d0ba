"""What the clients' methods have from the functions that build their calls: name, parameters, docstring."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, Final, TypeVar

M = TypeVar("M", bound=Callable[..., Any])

_SELF: Final = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)


def described(method: M, build: Callable[..., Any]) -> M:
    """``method``, which shows the parameters of ``build`` after ``self``, and its documentation."""
    functools.update_wrapper(method, build)
    signature = inspect.signature(build)
    parameters = [_SELF, *signature.parameters.values()]
    method.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # every function takes it
    return method
