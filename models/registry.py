"""Which weights a model name stands for: resolves names and files, checks digests, reads what an ONNX file declares.

The shipped weights lie in `weights/` beside this module; `digests.json` there lists the SHA-256 of each.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bisift.config import nearest
from bisift.errors import ConfigError, ModelError

KINDS = ("detector", "quality", "lexical")
SHIPPED = {"detector": "detector.onnx", "quality": "quality.onnx", "lexical": "lexical.npz"}
WEIGHTS = Path(__file__).resolve().parent / "weights"
DIGESTS = "digests.json"
TYPICAL = "typical.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """Weights that are there and are what they should be. `metadata` is empty for a lexical table."""

    kind: str
    path: Path
    digest: str
    metadata: Mapping[str, str] = field(default_factory=dict)


def resolve(kind: str, file: str | Path | None = None) -> Model:
    """Return the model of `kind`: the shipped one, or `file`.

    A shipped file must have the digest that `digests.json` lists; another file is taken as it is, and its digest goes
    to the outputs' metadata.

    Raises:
        ConfigError: no such kind.
        ModelError: the file is missing, has another digest than the listed one, is no ONNX file, or is of another kind.
    """
    if kind not in KINDS:
        raise ConfigError(f"no model kind {kind!r}{nearest(kind, KINDS)}: there are {', '.join(KINDS)}")
    path = Path(file) if file is not None else WEIGHTS / SHIPPED[kind]
    try:
        content = path.read_bytes()
    except OSError as error:
        remedy = "give another file" if file is not None else "reinstall bisift, or train it with bisift.models.train"
        raise ModelError(f"{path}: no weights for {kind} ({error.strerror}): {remedy}") from error
    digest = hashlib.sha256(content).hexdigest()
    if file is None and digest != listed(SHIPPED[kind]):
        raise ModelError(f"{path}: digest {digest[:12]}… is not the listed one: reinstall bisift")
    if kind == "lexical":
        return Model(kind=kind, path=path, digest=digest)
    metadata = onnx_metadata(content, path)
    if metadata.get("kind") != kind:
        raise ModelError(f"{path}: holds a model of kind {metadata.get('kind')!r}, not {kind!r}")
    return Model(kind=kind, path=path, digest=digest, metadata=metadata)


def typical() -> dict[str, float]:
    """Return the row features of a typical pair (`models.typical`) by name.

    Raises:
        ModelError: the shipped file is missing or has another digest than the listed one.
    """
    path = WEIGHTS / TYPICAL
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: no values of a typical pair ({error.strerror}): reinstall bisift") from error
    if hashlib.sha256(content).hexdigest() != listed(TYPICAL):
        raise ModelError(f"{path}: its digest is not the listed one: reinstall bisift")
    features: dict[str, float] = json.loads(content)["features"]
    return features


def listed(name: str) -> str:
    """Return the listed SHA-256 of a shipped file.

    Raises:
        ModelError: the list is missing or does not name the file.
    """
    digests = _digests()
    if name not in digests:
        raise ModelError(f"{WEIGHTS / DIGESTS}: does not list {name}")
    return digests[name]


def _digests() -> dict[str, str]:
    try:
        values: dict[str, str] = json.loads((WEIGHTS / DIGESTS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{WEIGHTS / DIGESTS}: unreadable list of digests: {error}") from error
    return values


def onnx_metadata(content: bytes, path: Path) -> dict[str, str]:
    """Read `metadata_props` (field 14 of ModelProto) from a serialised ONNX model, without any ONNX library.

    Raises:
        ModelError: `content` is no protobuf message of that shape.
    """
    try:
        entries = [_fields(value) for number, value in _messages(memoryview(content)) if number == 14]
        return {bytes(entry[1]).decode(): bytes(entry[2]).decode() for entry in entries}
    except (IndexError, KeyError, ValueError) as error:
        raise ModelError(f"{path}: not an ONNX model") from error


def _fields(message: memoryview) -> dict[int, memoryview]:
    return dict(_messages(message))


def _messages(data: memoryview) -> list[tuple[int, memoryview]]:
    """Length-delimited fields of a protobuf message as (field number, bytes); other wire types are skipped.

    Wire format: https://protobuf.dev/programming-guides/encoding/
    """
    found = []
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 0:
            _, at = _varint(data, at)
        elif wire == 2:
            size, at = _varint(data, at)
            if at + size > len(data):
                raise ValueError("truncated field")
            found.append((tag >> 3, data[at : at + size]))
            at += size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
    return found


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
    raise ValueError("varint too long")
