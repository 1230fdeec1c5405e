import pytest
from report_data import TEMPLATES, build, params, write_run

from rc2l_bench.errors import UsageError
from rc2l_bench.report.rendering import escape_markdown, escape_tex
from rc2l_bench.report.writer import compose


@pytest.mark.parametrize(
    ("text", "escaped"),
    [("a_b%", r"a\_b\%"), ("\\input{x}", r"\textbackslash{}input\{x\}"), ("é😀", "e?"), ("$x$\n%", r"\$x\$ \%")],
)
def test_latex_is_escaped(text, escaped):
    assert escape_tex(text) == escaped


def test_markdown_is_escaped():
    assert escape_markdown("a|b_c\n<d>*") == r"a\|b\_c &lt;d&gt;\*"


def test_a_missing_template_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"table\.tex\.j2: no such template"):
        compose(build(tmp_path), "latex", tmp_path)


@pytest.mark.parametrize("kind", ["html", "markdown", "latex"])
def test_a_method_whose_teacher_was_scored_is_marked(tmp_path, kind):
    for method in ("baselines/supervised", "baselines/u2pl"):
        write_run(tmp_path, method=method, panels=0)
    grid = params(method=["baselines/supervised", "baselines/u2pl"], split=["1_16"], seed=[0])
    text = compose(build(tmp_path, grid), kind, TEMPLATES)
    assert text.count("teacher scored") == 1
    assert "student scored" not in text
