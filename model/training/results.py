"""Files that a sweep leaves: names, version, and how one is read. Light, for the report needs no torch."""

import json
import math
from pathlib import Path
from typing import Any

from egret.model.errors import InputError

__all__ = ["RESULT", "STUDY", "VERSION", "parse_result", "read_result"]

RESULT, STUDY = "result.json", "study.json"
VERSION = 2
"""Of both files."""


def parse_result(data: bytes) -> Any:
    """What the ``data`` of a ``result.json`` hold; an infinite perplexity is null there. `ValueError` where no JSON."""
    try:
        content = json.loads(data)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    if isinstance(content, dict):
        for name in ("valid", "test"):
            seen = content.get(name)
            if isinstance(seen, dict) and "perplexity" in seen and seen["perplexity"] is None:
                seen["perplexity"] = math.inf
    return content


def read_result(path: Path) -> dict[str, Any] | None:
    """Content of a finished point's file.

    Parameters
    ----------
    path : Path
        Of its ``result.json``.

    Returns
    -------
    dict or None
        None where there is no such file.

    Raises
    ------
    InputError
        If it cannot be read, or is no result of this version.
    """
    try:
        content = parse_result(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file; remove it to run the point again") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise InputError(f"{path}: not a result of version {VERSION}; remove it to run the point again")
    return content
