import csv
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_data import TEMPLATES, params, write_grid, write_run

from rc2l_bench.files import MADE
from rc2l_bench.report import report as reports
from rc2l_bench.report.writer import CITATIONS, FILES, slug, write

HOSTILE = "bad/<img src=x onerror=alert(1)>&\"'_%$#{}~^\\|[é]😀--`*"
GRID = params(method=["baselines/supervised", "rc2l_bench/methods/rc2l"], split=["1_16", "1_4"], seed=[0, 1])


def build(root, grid=GRID):
    return reports.build(Path(root), grid)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report with a gap, a hostile name, a broken run and a run outside the grid."""
    root, out = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("reports")
    write_grid(
        root,
        GRID.grid,
        skip={("shapes", "1_4", "rc2l_bench/methods/rc2l", 0), ("shapes", "1_4", "rc2l_bench/methods/rc2l", 1)},
    )
    for split in ("1_16", "1_4"):
        write_run(
            root, split=split, method=HOSTILE, classes=("<b>a", "b&", "$c_d", "{e}", "%", "\\f"), dataset="x$y_<i>"
        )
    (write_run(root, split="1_2") / "metrics.json").unlink()
    write(build(root), out, TEMPLATES)
    return root, out


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.text = [], set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.tags.append((tag, named))
        self.ids |= {named["id"]} if "id" in named else set()
        self.links += [named[a] for a in ("href", "src") if a in named]

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def page(written):
    return Page((written[1] / "index.html").read_text())


def test_all_files_are_there_and_nothing_half_written(written):
    names = {path.name for path in written[1].iterdir()}
    assert names == {*FILES.values(), CITATIONS, "figures", MADE}
    figures = {path.name for path in (written[1] / "figures").iterdir()}
    for name in ("labels", "cost", "classes", "curves"):
        assert {f"shapes-{name}.{suffix}" for suffix in ("svg", "pdf", "png")} <= figures
    assert "shapes-1_16-panels.png" in figures


def test_the_same_results_give_the_same_bytes(written, tmp_path):
    root, out = written
    write(build(root), tmp_path, TEMPLATES)
    files = sorted(path.relative_to(out) for path in out.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert [name for name in files if (out / name).read_bytes() != (tmp_path / name).read_bytes()] == []


def test_a_report_over_an_older_one_leaves_no_old_figures(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.svg").touch()
    write(build(tmp_path / "runs"), tmp_path, TEMPLATES)
    assert not (tmp_path / "figures" / "old.svg").exists()


def test_the_page_needs_no_network(page):
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert [tag for tag, _ in page.tags if tag in ("iframe", "object", "embed", "base")] == []


def test_every_link_leads_somewhere(page):
    links = {link[1:] for link in page.links if link.startswith("#")}
    assert links
    assert links <= page.ids


def test_every_mean_in_the_page_leads_to_its_run(written, page):
    text = (written[1] / "index.html").read_text()
    rows = dict(re.findall(r'<tr id="(r\d+)".*?<th scope="row">(.*?)</th>', text))
    place = build(written[0]).sections[0].groups["baselines/supervised", "1_4"]
    anchors = re.findall(rf'data-v="{place.final.mean}"[^>]*><?s?t?r?o?n?g?>?<a href="#(r\d+)"', text)
    assert {rows[anchor] for anchor in anchors} == {"shapes / 1_4 / baselines/supervised / 0"}


def test_nothing_from_configuration_becomes_markup_in_the_page(page):
    assert HOSTILE in "".join(page.text)
    assert not [named for _, named in page.tags if any(name.startswith("on") for name in named)]
    assert "i" not in {tag for tag, _ in page.tags}
    assert "b" not in {tag for tag, _ in page.tags}
    assert sum(tag == "script" for tag, _ in page.tags) == 1


def test_every_picture_says_what_it_shows(page):
    pictures = [named for tag, named in page.tags if tag == "img"]
    assert pictures
    assert all(len(named["alt"]) > 20 for named in pictures)


def test_the_missing_place_is_empty_and_the_broken_run_is_named(written, page):
    text = (written[1] / "index.html").read_text()
    assert text.count('<td class="none" data-v="" aria-label="no result"></td>') == 1
    assert "left out: metrics.json: No such file or directory" in "".join(page.text)


def test_the_markdown_tables_have_the_same_number_of_cells_in_every_row(written):
    text = (written[1] / "report.md").read_text()
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(counts) == 1
    assert "<img" not in text


def test_the_csv_reads_back(written):
    with (written[1] / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["method"] for row in rows} >= {HOSTILE, "rc2l_bench/methods/rc2l"}
    assert sum(row["status"] == "missing" for row in rows) == 2


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_latex_tables_compile(written, tmp_path):
    shutil.copy(written[1] / "table.tex", tmp_path)
    (tmp_path / "paper.tex").write_text(
        r"\documentclass{article}\usepackage{booktabs,siunitx}\begin{document}\input{table.tex}\end{document}"
    )
    flags = ["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(["pdflatex", *flags], cwd=tmp_path, capture_output=True, check=False)
    log = done.stdout.decode(errors="replace")
    assert done.returncode == 0, log[-3000:]
    assert "Missing character" not in (tmp_path / "paper.log").read_text(errors="replace")


def test_the_latex_table_marks_gaps_and_ties(written):
    text = (written[1] / "table.tex").read_text()
    row = next(line for line in text.splitlines() if line.startswith("rc2l"))
    assert re.search(r"l(S\[table-format=2\.1\(\d\)\]){2}rr", text)
    assert re.fullmatch(r"rc2l & \\bfseries \d\d\.\d\(\d+\) & \{\} & .*", row)


def test_file_names_cannot_leave_the_folder():
    assert slug("../../x y") == "_.._x_y"
    assert slug("") == "_"


def test_an_empty_folder_gives_a_report_that_says_so(tmp_path):
    write(build(tmp_path / "none"), tmp_path / "out", TEMPLATES)
    assert "There are no finished runs yet" in (tmp_path / "out" / "index.html").read_text()


@pytest.mark.slow
def test_two_thousand_runs_are_rendered(tmp_path):
    grid = params(split=["1_30", "1_16", "1_8", "1_4"], method=["baselines/supervised"], seed=list(range(500)))
    write_grid(tmp_path / "runs", grid.grid, images=3, panels=0)
    report = reports.build(tmp_path / "runs", grid)
    write(report, tmp_path / "out", TEMPLATES)
    assert len(report.compared) == 2000
    assert (tmp_path / "out" / "index.html").read_text().count('<tr id="r') == 2000
