"""A schema as a model file holds it: checked field by field, for the file may be anyone's."""

from __future__ import annotations

from ..errors import ModelFileError, listed
from .cells import MISSING
from .schema import MAX_CATEGORIES, MAX_EMBEDDED, VERSION, Column, Schema

__all__ = ["schema_from_json"]


def schema_from_json(data: object) -> Schema:
    """The schema that `Schema.to_json` wrote; ModelFileError where it is anything else.

    >>> columns = [{"name": "x", "kind": "number", "categories": []}]
    >>> schema_from_json({"columns": columns, "target": "y", "classes": None}).columns[0].name
    'x'
    """
    version = data.get("version", 1) if isinstance(data, dict) else 1
    if type(version) is int and version > VERSION:
        raise ModelFileError(
            f"schema has version {version}, and this chainrule reads up to {VERSION}; upgrade it"
        )
    new = version == VERSION and isinstance(data, dict) and "version" in data
    names = ("columns", "target", "classes", *(("version", "ignored") if new else ()))
    fields = _fields(data, names, "schema")
    target = _name(fields["target"], "schema.target")
    columns = _columns(fields["columns"], target, new)
    ignored = _names(fields["ignored"], "schema.ignored", least=0) if new else ()
    taken = {target, *(column.name for column in columns)}
    _demand(not taken & set(ignored), "schema", "names a column twice")
    if fields["classes"] is None:
        return Schema(columns, target, None, ignored)
    classes = _names(fields["classes"], "schema.classes")
    _demand(len(classes) >= 2, "schema.classes", "holds fewer than two classes")
    return Schema(columns, target, classes, ignored)


def _demand(condition: bool, place: str, fault: str) -> None:
    if not condition:
        raise ModelFileError(f"{place} {fault}; the model file is damaged or was altered")


def _fields(data: object, names: tuple[str, ...], place: str) -> dict[str, object]:
    """The dict itself, if it has exactly these keys."""
    if not isinstance(data, dict) or set(data) != set(names):
        _demand(False, place, f"does not hold exactly {listed(names)}")
    return dict(data)  # type: ignore[call-overload, no-any-return]


def _list(data: object, place: str, least: int = 1) -> list[object]:
    if not isinstance(data, list) or len(data) < least:
        _demand(False, place, "is not a list of at least one entry")
    return list(data)  # type: ignore[call-overload, no-any-return]


def _name(data: object, place: str) -> str:
    name = data if isinstance(data, str) else ""
    encodable = name.encode("utf-8", "ignore").decode() == name  # JSON can hold half a character
    _demand(name.strip() == name != "" and encodable, place, "is not a name")
    return name


def _names(data: object, place: str, least: int = 1) -> tuple[str, ...]:
    entries = _list(data, place, least)
    names = tuple(_name(entry, f"{place}[{i}]") for i, entry in enumerate(entries))
    _demand(len(set(names)) == len(names), place, "holds a name twice")
    return names


def _columns(data: object, target: str, new: bool) -> tuple[Column, ...]:
    entries = _list(data, "schema.columns")
    columns = tuple(_column(entry, f"schema.columns[{i}]", new) for i, entry in enumerate(entries))
    names = {column.name for column in columns} | {target}
    _demand(len(names) == len(columns) + 1, "schema", "names a column twice")
    return columns


def _column(data: object, place: str, new: bool) -> Column:
    added = ("missing", "dim") if new else ()
    fields = _fields(data, ("name", "kind", "categories", *added), place)
    name = _name(fields["name"], f"{place}.name")
    missing, dim = fields.get("missing", False), fields.get("dim", 0)
    _demand(isinstance(missing, bool), f"{place}.missing", "is not true or false")
    good = type(dim) is int and 0 <= dim <= MAX_EMBEDDED
    _demand(good, f"{place}.dim", "is not a length")
    if fields["kind"] == "number":
        _demand(fields["categories"] == [], f"{place}.categories", "is not empty for a number")
        _demand(dim == 0, f"{place}.dim", "is not 0 for a number")
        return Column(name, "number", missing=bool(missing))
    _demand(fields["kind"] == "category", f"{place}.kind", "is not 'number' or 'category'")
    categories = _names(fields["categories"], f"{place}.categories")
    most = MAX_EMBEDDED if dim else MAX_CATEGORIES
    _demand(len(categories) <= most + bool(missing), f"{place}.categories", "holds too many")
    known = not missing or MISSING in categories
    _demand(known, f"{place}.categories", "has no category for missing cells")
    return Column(name, "category", categories, bool(missing), int(dim))  # type: ignore[call-overload]
