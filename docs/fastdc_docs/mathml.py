"""Draw formulas as MathML, which browsers show without a script."""

from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml


def inline(writer: Any, node: nodes.math) -> None:
    """Write a formula within a line."""
    _write(writer, node, as_block=False)


def block(writer: Any, node: nodes.math_block) -> None:
    """Write a formula on lines of its own."""
    _write(writer, node, as_block=True)


def _write(writer: Any, node: nodes.Element, as_block: bool) -> None:
    writer.body.append(latex2mathml.tex2mathml(node.astext(), as_block=as_block))
    raise nodes.SkipNode
