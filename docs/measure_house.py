"""Measure a package: files, lines, functions, comments, rooms, the longest chain of imports.

python docs/measure_house.py PACKAGE_FOLDER
"""

import ast
import io
import statistics
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path


def function_lines(tree: ast.AST) -> Iterator[int]:
    """Lines of each function, from its name to its end, without decorators."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.end_lineno - node.lineno + 1


def comment_lines(text: str) -> int:
    """Lines that hold a comment."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return len({token.start[0] for token in tokens if token.type == tokenize.COMMENT})


def is_for_types(node: ast.AST) -> bool:
    """Whether it is an ``if TYPE_CHECKING``."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imports_of(tree: ast.AST, package: str) -> Iterator[str]:
    """Names of the package that a module imports, wherever in it, but not for types alone."""
    checked = [node for node in ast.walk(tree) if is_for_types(node)]
    for_types = {inner for node in checked for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith(package))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def measure(root: Path) -> str:
    """One row of the table of docs/house.md."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    names = {}
    for path in texts:
        dotted = ".".join(path.relative_to(root.parent).with_suffix("").parts)
        names[dotted.removesuffix(".__init__")] = path
    edges = {
        name: {found for found in imports_of(trees[path], root.name) if found in names} - {name}
        for name, path in names.items()
        if name != root.name
    }

    @cache
    def chain(name: str) -> int:
        return 1 + max((chain(target) for target in edges.get(name, ())), default=0)

    sizes = [text.count("\n") for text in texts.values()]
    written = [size for size in sizes if size > 1]
    functions = [lines for tree in trees.values() for lines in function_lines(tree)]
    comments = sum(map(comment_lines, texts.values()))
    rooms = sum(1 for path in root.iterdir() if (path / "__init__.py").exists())
    return (
        f"| {root.name} | {len(texts)} | {sum(sizes):,} | {statistics.median(written):g} / "
        f"{max(sizes)} | {statistics.median(functions):g} / "
        f"{statistics.quantiles(functions, n=10)[-1]:.0f} | {100 * comments / sum(sizes):.1f} | "
        f"{len(list(root.glob('*.py')))} + {rooms} | {max(map(chain, edges))} |"
    )


if __name__ == "__main__":
    print(measure(Path(sys.argv[1]).resolve()))
