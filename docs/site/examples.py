"""An extension of griffe, which knows "Examples" but not "Example",
and no example outside of such a section."""

from __future__ import annotations

import re

import griffe

_SECTION = re.compile(r"^(\s*)Example\n\s*-------$", flags=re.M)
_LOOSE = re.compile(r"^>>> .*(?:\n(?!\s*$).*)*", flags=re.M)


class Examples(griffe.Extension):
    def on_instance(self, *, obj, **_):
        """Rename the sections; put examples that stand in running text between fences."""
        if obj.is_alias or obj.docstring is None:
            return
        text = _SECTION.sub(r"\1Examples\n\1--------", obj.docstring.value)
        before, section, after = text.partition("Examples\n--------")
        obj.docstring.value = _LOOSE.sub(lambda found: f"```pycon\n{found[0]}\n```", before) + section + after
