"""Tables of names: datasets, heads, commands.

An entry is text, ``"module:attribute"``; the module is imported when the entry is asked
for. So a table can be listed (in ``--help``, in tests, in docs) without importing torch.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from c4c.core.errors import C4CError


class Registry(Mapping[str, Any]):
    """Names of one kind of thing, each imported on first use.

    Args:
        kind: what the entries are, for error messages ("head", "dataset").
        entries: name to ``"module:attribute"`` (or ``"module"`` for a whole module).
    """

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Any:
        """The thing called ``name``.

        Raises:
            C4CError: there is none of that name; the message lists those there are.
        """
        if name not in self._entries:
            known = ", ".join(self._entries)
            raise C4CError(f"Unknown {self.kind} '{name}'. Known: {known}.")
        module, _, attribute = self._entries[name].partition(":")
        found = import_module(module)
        return getattr(found, attribute) if attribute else found

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
