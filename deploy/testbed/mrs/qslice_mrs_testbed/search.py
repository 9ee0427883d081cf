"""The advanced search: a Lucene query over name, identifier and keywords, as SQL conditions."""

import re

import sqlalchemy as sa
from luqum import tree
from luqum.exceptions import ParseError
from luqum.thread import parse

from qslice_mrs_testbed.store import KEYWORDS, OBJECTS

FIELDS = ("name", "identifier", "keywords")
Condition = sa.ColumnElement[bool]
_ESCAPED = re.compile(r"\\(.)")


class BadQuery(ValueError):
    """The query is none, or asks for what this server does not search."""


def advanced(query: str, *, boolean: bool = True) -> Condition:
    """The condition that a Lucene query stands for; raises `BadQuery`.

    `boolean=False`: a server that takes a query of several terms for a single, absent one.
    """
    try:
        root = parse(query)
    except ParseError as wrong:
        raise BadQuery(f"advancedQuery: {wrong}") from None
    if not boolean and _terms(root) > 1:
        return sa.false()
    return _condition(root, None)


def by_name(query: str) -> Condition:
    """Objects whose name holds the text, in any case."""
    return sa.func.lower(OBJECTS.c.name).contains(query.lower(), autoescape=True)


def _terms(node: tree.Item) -> int:
    if isinstance(node, tree.Word | tree.Phrase):
        return 1
    return sum(_terms(child) for child in node.children)


def _condition(node: tree.Item, field: str | None) -> Condition:
    match node:
        case tree.SearchField():
            if node.name not in FIELDS:
                raise BadQuery(f"advancedQuery: no field {node.name!r}; {', '.join(FIELDS)}")
            return _condition(node.expr, node.name)
        case tree.BaseGroup() | tree.Plus():
            return _condition(node.children[0], field)
        case tree.Not() | tree.Prohibit():
            return sa.not_(_condition(node.children[0], field))
        case tree.AndOperation():
            return sa.and_(*(_condition(child, field) for child in node.children))
        case tree.OrOperation():
            return _either(list(node.children), field)
        case tree.UnknownOperation():
            return _implicit(list(node.children), field)
        case tree.Phrase():
            return _match(field, node.value[1:-1], phrase=True)
        case tree.Word():
            return _match(field, node.value, phrase=False)
    raise BadQuery(f"advancedQuery: {type(node).__name__} is not searched")


def _implicit(children: list[tree.Item], field: str | None) -> Condition:
    """Terms side by side: all with '+', none with '-', and else at least one."""
    must = [child for child in children if isinstance(child, tree.Plus)]
    must_not = [child for child in children if isinstance(child, tree.Prohibit | tree.Not)]
    others = [child for child in children if child not in must and child not in must_not]
    conditions = [_condition(child, field) for child in (*must, *must_not)]
    if others and not must:
        conditions.append(_either(others, field))
    return sa.and_(*conditions)


def _either(children: list[tree.Item], field: str | None) -> Condition:
    """One of several; plain phrases of one field become one look-up."""
    if field in ("identifier", "keywords") and all(
        isinstance(child, tree.Phrase) for child in children
    ):
        texts = [_plain(child.value[1:-1]) for child in children]
        if field == "identifier":
            return OBJECTS.c.identifier.in_(texts)
        return _keyword(KEYWORDS.c.keyword.in_([text.lower() for text in texts]))
    return sa.or_(*(_condition(child, field) for child in children))


def _match(field: str | None, text: str, *, phrase: bool) -> Condition:
    if field is None:
        return sa.or_(*(_match(name, text, phrase=phrase) for name in FIELDS))
    wild = not phrase and bool(re.search(r"(?<!\\)[*?]", text))
    if field == "name":
        lowered = sa.func.lower(OBJECTS.c.name)
        if wild:
            return sa.or_(_like(lowered, text), _like(lowered, f"* {text}"))
        return lowered.contains(_plain(text).lower(), autoescape=True)
    if field == "identifier":
        if wild:
            return _like(sa.func.lower(OBJECTS.c.identifier), text)
        return OBJECTS.c.identifier == _plain(text)
    if wild:
        return _keyword(_like(KEYWORDS.c.keyword, text))
    return _keyword(KEYWORDS.c.keyword == _plain(text).lower())


def _keyword(condition: Condition) -> Condition:
    return OBJECTS.c.id.in_(sa.select(KEYWORDS.c.object_id).where(condition))


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text)


def _like(column: sa.ColumnElement[str], pattern: str) -> Condition:
    parts = []
    for escaped, plain in re.findall(r"\\(.)|(.)", pattern.lower()):
        if plain in ("*", "?"):
            parts.append("%" if plain == "*" else "_")
        else:
            parts.append(re.sub(r"([%_~])", r"~\1", escaped or plain))
    return column.like("".join(parts), escape="~")
