"""Jinja with lists of what templates may use, for a process of its own: what is not listed is not there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from types import BuiltinMethodType, MethodType
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.utils import Cycler, Joiner, Namespace

from graft.server.prompting.rendering.bounds import CHAT

_TEXT = frozenset({
    "capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isdecimal", "isdigit",
    "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "lower", "lstrip", "partition", "removeprefix",
    "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines",
    "startswith", "strip", "swapcase", "title", "upper",
})  # fmt: skip
_LOOP = frozenset({
    "changed", "cycle", "depth", "depth0", "first", "index", "index0", "last", "length", "nextitem", "previtem",
    "revindex", "revindex0",
})  # fmt: skip
_ATTRIBUTES: dict[type, frozenset[str]] = {
    str: _TEXT,
    dict: frozenset({"get", "items", "keys", "values"}),
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index"}),
    LoopContext: _LOOP,
    Cycler: frozenset({"current", "next", "reset"}),
}
_FILTERS = frozenset({
    "abs", "batch", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "indent",
    "int", "items", "join", "last", "length", "list", "lower", "map", "max", "min", "reject", "rejectattr",
    "replace", "reverse", "round", "select", "selectattr", "slice", "sort", "string", "sum", "title", "trim",
    "truncate", "unique", "upper", "wordcount",
})  # fmt: skip
_TESTS = frozenset({
    "!=", "<", "<=", "==", ">", ">=", "boolean", "defined", "divisibleby", "eq", "equalto", "even", "false",
    "float", "ge", "greaterthan", "gt", "in", "integer", "iterable", "le", "lessthan", "lower", "lt", "mapping",
    "ne", "none", "number", "odd", "sameas", "sequence", "string", "true", "undefined", "upper",
})  # fmt: skip
_CALLABLE = (Macro, LoopContext, Joiner, Undefined)

_MAX_REPEATED = 1 << 20
_MAX_BITS = 4096
_MAX_EXPONENT = 64
_MAX_WORD = 64


class _Generation(Extension):
    """transformers' `{% generation %}` around what an assistant said: it prints what stands between its tags."""

    tags = {"generation"}  # noqa: RUF012  # as Jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class Sandbox(ImmutableSandboxedEnvironment):
    """No attribute, method, filter, test or global that is not listed above, and no operation that explodes."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self, style: str) -> None:
        """`style` is one of `bounds`."""
        is_chat = style == CHAT
        super().__init__(
            trim_blocks=is_chat,
            lstrip_blocks=is_chat,
            keep_trailing_newline=not is_chat,
            undefined=jinja2.Undefined if is_chat else jinja2.StrictUndefined,
            extensions=[_Generation, loopcontrols],
            # Nothing is computed while a template is only read.
            optimized=False,
            cache_size=0,
        )
        self.filters = {name: one for name, one in self.filters.items() if name in _FILTERS}
        self.filters |= {"tojson": _to_json, "safe": str}
        self.tests = {name: one for name, one in self.tests.items() if name in _TESTS}
        self._functions: dict[str, Callable[..., Any]] = {
            "cycler": Cycler,
            "dict": _dict,
            "joiner": Joiner,
            "namespace": Namespace,
            "raise_exception": _raise,
            "range": safe_range,
            "strftime_now": _now,
        }
        self.globals = dict(self._functions)

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is Namespace and not attribute.startswith("_"):
            found = _names(obj)
            return found[attribute] if attribute in found else self.undefined(obj=obj, name=attribute)
        if attribute in _ATTRIBUTES.get(type(obj), ()):
            return getattr(obj, attribute)
        if type(obj) is dict:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return self._not_listed(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if type(obj) not in (dict, list, tuple, str, range):
            return self._not_listed(obj, argument)
        try:
            return obj[argument]
        except (TypeError, LookupError):
            # As Jinja has it: `x["strip"]` is `x.strip`.
            return self.getattr(obj, argument) if type(argument) is str else self.undefined(obj=obj, name=argument)

    def _not_listed(self, obj: Any, name: Any) -> Undefined:
        if isinstance(obj, Undefined):
            obj._fail_with_undefined_error()
        problem = f"{str(name)[:40]!r} of a value of type {type(obj).__name__} is none of what templates may use"
        return self.undefined(problem, obj=obj, name=name, exc=SecurityError)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return attr in _ATTRIBUTES.get(type(obj), ())

    def is_safe_callable(self, obj: Any) -> bool:
        if isinstance(obj, _CALLABLE) or any(obj is one for one in self._functions.values()):
            return True
        if not isinstance(obj, BuiltinMethodType | MethodType):
            return False
        return obj.__name__ in _ATTRIBUTES.get(type(obj.__self__), ())

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            raise SecurityError("`%` on text is not among what templates may use: join texts with `~`")
        if operator == "*":
            _check_product(left, right)
        if operator == "**" and not _is_small_power(left, right):
            raise OverflowError(f"`**` is for numbers up to {_MAX_EXPONENT} bits and exponents up to {_MAX_EXPONENT}")
        return self.binop_table[operator](left, right)


def variables_of(tree: nodes.Template, known: Mapping[str, Any]) -> list[str]:
    """Names that a template reads and does not set itself, but those that are `known`, in the order of the alphabet."""
    from jinja2 import meta

    return sorted(name for name in meta.find_undeclared_variables(tree) if name not in known)


def words_of(tree: nodes.Template) -> list[str]:
    """Short texts and attributes that stand in a template, in the order of the alphabet."""
    words = {node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)}
    words |= {node.attr for node in tree.find_all(nodes.Getattr)}
    return sorted(word for word in words if len(word) <= _MAX_WORD)


def _names(namespace: Namespace) -> Mapping[str, Any]:
    names: Mapping[str, Any] = object.__getattribute__(namespace, "_Namespace__attrs")
    return names


def _check_product(left: Any, right: Any) -> None:
    for one, other in ((left, right), (right, left)):
        if isinstance(one, str | list | tuple) and isinstance(other, int) and len(one) * other > _MAX_REPEATED:
            raise OverflowError(f"repeats to {len(one) * other} parts; the limit is {_MAX_REPEATED}")
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > _MAX_BITS:
        raise OverflowError(f"the product has more than {_MAX_BITS} bits")


def _is_small_power(left: Any, right: Any) -> bool:
    if not isinstance(left, int | float) or not isinstance(right, int | float) or abs(right) > _MAX_EXPONENT:
        return False
    return isinstance(left, float) or left.bit_length() <= _MAX_EXPONENT


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers' own: nothing is escaped for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _dict(**values: Any) -> dict[str, Any]:
    return values


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
