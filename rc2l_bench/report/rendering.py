"""Render templates in Jinja environments in which nothing reaches HTML, Markdown or LaTeX unescaped."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateNotFound
from markupsafe import Markup

from rc2l_bench.errors import UsageError
from rc2l_bench.report import formatting

# Braces around characters that TeX joins to others: `--` would become a dash, a bracket the argument of a line break.
_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "{''}",
    "'": "{'}",
    "`": "{`}",
    "[": "{[}",
    "]": "{]}",
    "-": "{-}",
}
_TEX_WORDS = {"×": r"$\times$", "±": r"$\pm$", "−": r"$-$", "\u202f": r"\,"}


_FILTERS = (
    formatting.percent, formatting.signed, formatting.p_value, formatting.amount, formatting.duration,
    formatting.ratio, formatting.title, formatting.heading, formatting.seeds_of, formatting.findings,
    formatting.score, formatting.averaged, formatting.code, formatting.seeds_needed, formatting.weights_note,
    formatting.tuning_finding, formatting.gap_interval, formatting.measured, formatting.measured_on,
    formatting.machine_note,
)  # fmt: skip


def escape_tex(value: object) -> str:
    """Escape text so that LaTeX prints it as it stands, in one line, with nothing that pdflatex does not know."""
    return "".join(_tex(character) for character in str(value))


def _tex(character: str) -> str:
    known = _TEX.get(character) or _TEX_WORDS.get(character)
    if known:
        return known
    if character.isspace():
        return " "
    # é becomes e; what has no letter of its own in ASCII becomes a question mark, not nothing.
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(c if c.isalnum() else _TEX.get(c, c) for c in plain if c.isprintable()) or "?"


def escape_markdown(value: object) -> str:
    """Escape text so that Markdown prints it as it stands, inside a table too."""
    # One line, because a line break ends a row; entities first, because Markdown lets HTML through.
    text = " ".join(str(value).splitlines())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~!])", r"\\\1", text)


def _finalizer(escape: Callable[[object], str]) -> Callable[[object], str]:
    """Make a function that escapes what a template prints, unless it is `Markup` already."""
    return lambda value: str(value) if isinstance(value, Markup) else escape(value)


def render(templates: Path, name: str, **values: object) -> str:
    """Fill a template; the way of escaping follows from its name (`.html.j2`, `.md.j2`, `.tex.j2`).

    Args:
        templates: folder of the templates.
        name: of the template.
        values: what it may use; a name that is not among them is an error, not an empty place.

    Raises:
        UsageError: the template is not there.
    """
    try:
        return _environment(templates, name).get_template(name).render(**values)
    except TemplateNotFound:
        raise UsageError(f"{templates / name}: no such template: run this in the root of a checkout") from None


def _environment(templates: Path, name: str) -> Environment:
    """Make the environment of a template."""
    loader = FileSystemLoader(templates)
    shared: dict[str, Any] = {
        "loader": loader,
        "undefined": StrictUndefined,
        "trim_blocks": True,
        "lstrip_blocks": True,
    }
    # Jinja escapes HTML only, so for the others everything that is printed passes through `finalize`. LaTeX has other
    # delimiters, because braces and percent signs are its own.
    if name.endswith(".tex.j2"):
        environment = Environment(  # noqa: S701 - `finalize` escapes for LaTeX
            finalize=_finalizer(escape_tex), block_start_string="<%", block_end_string="%>",
            variable_start_string="<<", variable_end_string=">>", comment_start_string="<#", comment_end_string="#>",
            **shared,
        )  # fmt: skip
    elif name.endswith(".md.j2"):
        environment = Environment(finalize=_finalizer(escape_markdown), **shared)  # noqa: S701 - as above
    else:
        environment = Environment(autoescape=True, **shared)
    environment.filters.update({function.__name__: function for function in _FILTERS})
    environment.filters["tex_score"] = lambda value: Markup(formatting.tex_score(value))  # noqa: S704 - digits
    environment.filters["tex_format"] = lambda *group: Markup(formatting.tex_format(*group))  # noqa: S704 - likewise
    environment.globals["bold"] = Markup("**")
    return environment
