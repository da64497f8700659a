"""`!ref <key>`, `!copy <key>` and arithmetic of a recipe,
as HyperPyYAML reads them, but of bounded size.

HyperPyYAML also follows attributes (`<loss.__class__>` becomes a call of getattr) and computes
whatever it can, with `9**9**9` and `"'x' * 10**12"` among them. Here a reference leads to a key of
the recipe, and only numbers are computed.
"""

from __future__ import annotations

import ast
import copy
import datetime
import operator
import re
import warnings

MAX_NODES = 5_000  # of a recipe, each alias counted as all that it stands for; our largest has 150
MAX_SCALAR = 10_000  # characters
MAX_DEPTH = 20
_TEXT_UNIT = 50  # characters that count as one node
_MAX_NUMBER = 2**63
_MAX_STEPS = 5_000
_MAX_ARITHMETIC = 200  # characters; what is longer is text
_REFERENCE = re.compile(r"<[^<>]*>")
_PLAIN = (str, int, float, bool, type(None), datetime.date)
_OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def tag_of(node) -> str:
    """The tag of a node of ruamel's round-trip tree, or "" for none."""
    return getattr(getattr(node, "tag", None), "value", None) or ""


def resolve(tree: dict) -> None:
    """Replace all references in a tree that ruamel's round-trip loader has read.

    Raises
    ------
    ValueError
        Naming the place: a reference to no key, to an attribute, or in a circle;
        a placeholder; a number, a text or a tree beyond the bounds above.

    Example
    -------
    >>> import ruamel.yaml
    >>> tree = ruamel.yaml.YAML().load("a: 3\\nb: !ref <a> * 2\\nc: [!ref results/<b>]")
    >>> resolve(tree)
    >>> tree["b"], tree["c"][0]
    (6, 'results/6')
    """
    _Resolver(tree).walk(tree, "", ())
    tree_size(tree)


def tree_size(node, known: dict | None = None) -> int:
    """Number of nodes, each shared one counted wherever it stands,
    a long text as several; a ValueError above `MAX_NODES`.
    """
    known = {} if known is None else known
    if not isinstance(node, (dict, list)):
        return _length(getattr(node, "value", node))
    if id(node) not in known:
        children = node.values() if isinstance(node, dict) else node
        keys = sum(_length(key) - 1 for key in node) if isinstance(node, dict) else 0
        known[id(node)] = 1 + keys + sum(tree_size(child, known) for child in children)
    if known[id(node)] > MAX_NODES:
        raise ValueError(
            f"more than {MAX_NODES} entries, or {MAX_NODES * _TEXT_UNIT // 1000} kB of text, counting each alias and "
            "reference as all that it stands for"
        )
    return known[id(node)]


def _length(value) -> int:
    return 1 + (len(value) // _TEXT_UNIT if isinstance(value, str) else 0)


class _Resolver:
    def __init__(self, tree: dict):
        self.tree, self.steps = tree, 0
        self.levels: dict[int, int] = {}  # id of a container that is done → levels in it
        self.open: list[int] = []
        self.copies: list = []  # kept, so that no id comes up again

    def walk(self, node, place: str, chain: tuple[str, ...]):
        """The node with all in it resolved; a container is changed in place."""
        tag = tag_of(node)
        if tag == "!PLACEHOLDER":
            key, _, rest = place.partition("[")
            option = f"--{key}='{{{rest.replace('][', ': {').rstrip(']')}: …}}'" if rest else f"--{key}=…"
            raise ValueError(f"'{place}' is a !PLACEHOLDER: give it a value, on the command line {option}")
        if tag in ("!ref", "!copy"):
            if isinstance(node, (dict, list)):
                raise ValueError(f"{place}: {tag} takes the name of a key, as in {tag} <key>")
            try:
                return self.resolve_text(node.value, tag == "!copy", chain)
            except ValueError as error:
                raise ValueError(f"{place}: {error}" if not chain else str(error)) from error
        if not isinstance(node, (dict, list)):
            return node
        if id(node) in self.open:
            raise ValueError(f"{place}: a circular reference, to something that it is part of")
        if id(node) not in self.levels:
            self.open.append(id(node))
            levels = 1
            for key, child in list(node.items() if isinstance(node, dict) else enumerate(node)):
                if not isinstance(key, (str, int, float)):
                    raise ValueError(f"{place or 'top level'}: a key must be text or a number, got {str(key)[:60]!r}")
                new = self.walk(child, f"{place}[{key}]" if place else str(key), ())
                if new is not child:
                    node[key] = new
                levels = max(levels, 1 + self.levels.get(id(new), 0))
                if max(levels, len(self.open)) > MAX_DEPTH:
                    raise ValueError(f"{place or 'the recipe'}: more than {MAX_DEPTH} levels deep")
            self.levels[self.open.pop()] = levels
        return node

    def resolve_text(self, text, copying: bool, chain: tuple[str, ...]):
        if not isinstance(text, str) or not _REFERENCE.search(text):
            return text
        if text in chain or len(chain) > MAX_DEPTH:
            path = " → ".join((*chain, text))[:200]
            raise ValueError(f"a circular reference, or a chain of more than {MAX_DEPTH}: {path}")
        chain = (*chain, text)
        if _REFERENCE.fullmatch(text):
            value = self.look_up(text[1:-1], chain)
            if copying and (isinstance(value, (dict, list)) or tag_of(value)):
                self.spend(tree_size(value))
                self.copies.append(copy.deepcopy(value))
                return self.walk(self.copies[-1], text, chain)
            return self.resolve_text(value, copying, chain)
        replaced = _REFERENCE.sub(lambda match: self.as_text(match[0], chain), text)
        if len(replaced) > MAX_SCALAR:
            raise ValueError(f"{text[:60]!r} becomes longer than {MAX_SCALAR} characters")
        return arithmetic(self.resolve_text(replaced, copying, chain))

    def look_up(self, path: str, chain: tuple[str, ...]):
        """The value of `key[sub][0]`, resolved."""
        if "." in path:
            raise ValueError(f"<{path[:60]}> asks for an attribute; a reference leads to a key, as in <key[sub]>")
        node = self.tree
        for part in (part.strip("]") for part in path.split("[")):
            self.spend(1)
            if isinstance(node, dict) and part in node:
                node = node[part]
            elif isinstance(node, list) and re.fullmatch("[0-9]{1,6}", part) and int(part) < len(node):
                node = node[int(part)]
            else:
                raise ValueError(f"<{path[:60]}> is not a key of the recipe")
            if not isinstance(node, (dict, list)):
                node = self.walk(node, path, chain)
        return self.walk(node, path, chain)

    def as_text(self, reference: str, chain: tuple[str, ...]) -> str:
        value = self.look_up(reference[1:-1], chain)
        if tag_of(value).startswith("tag:yaml.org,2002:"):  # !!str 0012
            value = getattr(value, "value", value)
        if not isinstance(value, _PLAIN) or len(text := str(value)) > MAX_SCALAR:
            raise ValueError(f"{reference} is not one short value, so it cannot stand within other text")
        self.spend(1 + len(text) // 100)
        return text

    def spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > _MAX_STEPS:
            raise ValueError("its references take too many steps to resolve")


def arithmetic(text):
    """The value of `2 * 6`, and of anything else the text itself.

    Raises
    ------
    ValueError
        For a number beyond ±2^63, a division by zero,
        or an operation on something else than two numbers.
    """
    if not isinstance(text, str) or len(text) > _MAX_ARITHMETIC:
        return text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "1is 2"
            expression = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text
    try:
        return _evaluate(expression)
    except _NotArithmetic:
        return text
    except (ArithmeticError, ValueError) as error:
        raise ValueError(f"{text[:60]!r} cannot be computed: {error.args[-1]}") from error


class _NotArithmetic(Exception):
    pass


def _evaluate(node):
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
        return _bounded(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _number(_evaluate(node.operand))
        return -value if isinstance(node.op, ast.USub) else value
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, (*_OPERATORS, ast.Pow)):
        raise _NotArithmetic
    left, right = _evaluate(node.left), _evaluate(node.right)
    left, right = _number(left), _number(right)
    if isinstance(node.op, ast.Pow):
        _bounded(float(abs(left)) ** right)  # an OverflowError or a large float, before a large integer is made
        return _bounded(left**right)
    return _bounded(_OPERATORS[type(node.op)](left, right))


def _number(value):
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{str(value)[:40]!r} is not a number")
    return value


def _bounded(value):
    if isinstance(value, complex) or (isinstance(value, (int, float)) and not abs(value) <= _MAX_NUMBER):
        raise ValueError("the result is not a number up to 2^63")
    return value
