"""The documentation keeps up: citations have entries, code compiles, lists are complete."""

import ast
import re
from pathlib import Path

import pytest

from hullmark.methods.names import METHODS
from hullmark.network.onnx.moves import MOVES
from hullmark.network.onnx.operators import HANDLERS
from hullmark.results import EXIT_UNKNOWN

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# A key is a name in brackets that nothing indexes; the page may be said behind it.
CITED = re.compile(r"(?<![\w`\])])\[([A-Za-z][\w-]*[A-Za-z0-9])(?: §[\d.]+)?\](?!\()")


def prose(path: Path) -> str:
    """The docstrings of a module, or a page without its code."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL)
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef
    nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, kinds)]
    return re.sub(r"`[^`]*`", "", "\n".join(ast.get_docstring(n) or "" for n in nodes))


def test_every_citation_has_an_entry() -> None:
    entries = re.findall(
        r"^\| `\[(.+?)\]`", (ROOT / "docs/bibliography.md").read_text("utf-8"), re.MULTILINE
    )
    cited: dict[str, str] = {}
    for path in [*PAGES, *sorted((ROOT / "src").rglob("*.py"))]:
        if path.name != "bibliography.md":
            cited |= {key: path.name for key in CITED.findall(prose(path))}
    assert {k: v for k, v in cited.items() if k not in entries} == {}
    assert entries == sorted(entries, key=str.lower)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_in_the_documentation_compiles(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        compile(block, str(page), "exec")


def test_every_operator_is_listed() -> None:
    page = (ROOT / "docs/formats.md").read_text("utf-8")
    table = " ".join(re.findall(r"^\|.*\|$", page, re.MULTILINE))
    words = set(re.findall(r"\w+", table))
    assert {*HANDLERS, *MOVES} <= words


def test_every_method_and_exit_code_is_listed() -> None:
    theory = (ROOT / "docs/theory.md").read_text("utf-8")
    assert re.findall(r"^\| `(\w+)` \|", theory, re.MULTILINE) == list(METHODS)
    codes = (ROOT / "docs/exit-codes.md").read_text("utf-8")
    assert {str(c) for c in EXIT_UNKNOWN.values()} <= set(re.findall(r"^\| (\d+) ", codes, re.M))
