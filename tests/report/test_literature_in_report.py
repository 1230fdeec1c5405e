"""Published figures beside runs of voc that look as if they had been made."""

import re

import pytest
from report_data import LABELS, ROOT, declared_protocol, params, write_run

from rc2l_bench.errors import UsageError
from rc2l_bench.report import report as reports
from rc2l_bench.report.literature import FILE, Figure, match, pretraining, read_figures
from rc2l_bench.report.writer import compose

TEMPLATES = ROOT / "reports" / "templates"
KNOWN = read_figures(ROOT / "reports" / FILE)
HEAD = ",".join(Figure._fields)
NET = {"backbone": "resnet101s"}
SLIDING = {"mode": "sliding", "window": [801, 801], "stride": 0.666666, "combine": "softmax"}
U2PL = {"split": "u2pl_1_16", "labelled": 662, "crop": [513, 513]}
DINO = {"backbone": "vit_base_patch14_dinov2"}
WINDOWS = {"protocol": SLIDING | {"window": [798, 798]}}
CITY = {"dataset": "cityscapes", "split": "cps_1_16", "labelled": 186}


def protocol(dataset="voc", **changes):
    """The declared protocol on ResNet-101 with changes by field; `net` and `eval` by their fields."""
    made = declared_protocol(params(), dataset)
    for name, value in ({"net": NET} | changes).items():
        made[name] = made[name] | value if isinstance(value, dict) else value
    return made


def run(root, split="92", labelled=92, dataset="voc", **changes):
    counts = {
        "split": {
            "id": "aa",
            "unlabelled_id": "bb",
            "draws": "list",
            "labelled": labelled,
            "unlabelled": 10582 - labelled,
        }
    }
    return write_run(root, dataset, split, protocol=protocol(dataset, **changes), record=counts, panels=1, quality=0.6)


def build(root, dataset="voc", split="92"):
    return reports.build(root, params(dataset=[dataset], split=[split], method=["baselines/supervised"]))


def shown(root):
    report = reports.build(root, params())
    return [figure for section in report.sections for found in match(section, KNOWN) for figure in found.figures]


@pytest.mark.parametrize(
    ("cell", "method", "miou"),
    [
        ({}, "SupOnly", "45.1"),
        ({"split": "cps_1_16", "labelled": 662}, "UniMatch (mean of 3 logs)", "77.01"),
        (U2PL, "UniMatch", "80.94"),
        (U2PL | {"net": {"backbone": "resnet50"}}, "UniMatch", "78.05"),
        (CITY, "SupOnly", "66.3"),
        ({"net": DINO, "crop": [518, 518]}, "UniMatch V2", "86.3"),
        (CITY | {"net": DINO, "crop": [798, 798], "eval": WINDOWS}, "UniMatch V2", "83.6"),
    ],
)  # fmt: skip
def test_a_figure_of_the_same_protocol_is_found(tmp_path, cell, method, miou):
    run(tmp_path, **cell)
    found = shown(tmp_path)
    assert (method, miou) in {(figure.method, figure.miou) for figure in found}
    assert len({figure.protocol for figure in found}) == 1


@pytest.mark.parametrize(
    "cell",
    [
        {"net": {"backbone": "resnet18"}},
        {"net": NET | {"weights": "none"}},
        {"net": NET | {"output_stride": 32}},
        {"crop": [329, 329]},
        {"crop": [321, 513]},
        {"image_scale": 0.5},
        {"labelled": 91},
        {"split": "1_16", "labelled": 662},
        {"split": "cps_92"},
        {"split": "full"},
        {"eval": {"flip": True}},
        {"eval": {"scales": [0.5, 1.0]}},
        {"eval": {"protocol": {"mode": "center_crop", "window": [321, 321]}}},
        {"eval": {"protocol": SLIDING | {"window": [321, 321]}}},
        {"dataset": "cityscapes"},
        CITY | {"eval": {"protocol": SLIDING | {"window": [9, 9]}}},
        {"dataset": "shapes"},
        {"dataset": "camvid"},
        {"eval": {"unknown": 1}},
    ],
)  # fmt: skip
def test_nothing_is_shown_where_anything_differs(tmp_path, cell):
    run(tmp_path, **cell)
    assert shown(tmp_path) == []


@pytest.mark.parametrize("dataset", ["shapes", "camvid"])
def test_the_datasets_without_publications_never_match(tmp_path, dataset):
    for split in LABELS:
        write_run(tmp_path, dataset, split, protocol=declared_protocol(params(), dataset), panels=0, images=3)
    assert shown(tmp_path) == []


def test_what_a_source_does_not_say_matches_nothing(tmp_path):
    assert "ResNet-101 voc classic 92 513 16  imagenet" in {" ".join(figure.protocol) for figure in KNOWN}
    run(tmp_path, crop=[513, 513])
    assert shown(tmp_path) == []


def test_page_and_markdown_show_figures_beside_ours_with_their_source(tmp_path):
    run(tmp_path)
    report = build(tmp_path)
    page, text = compose(report, "html", TEMPLATES), compose(report, "markdown", TEMPLATES)
    rows = re.findall(r"<tr><th[^>]*>([^<]*)</th>.*<td class=\"text\">not run here</td>.*>([^<]+)</td></tr>", page)
    assert ("UniMatch", "UniMatch README") in rows
    assert len(rows) == len(shown(tmp_path)) == text.count("| not run here |")
    assert "| supervised | 92 | " in text
    assert "| run here, n = 1 of 3 |" in text
    assert (
        "| SupOnly | 92 | 45.1 | not run here | ResNet-101, voc, classic, 92, 321, 16, whole, imagenet | "
        "UniMatch README;" in text
    )
    assert page == compose(build(tmp_path), "html", TEMPLATES)


RC2L_NET = {"backbone": "resnet101", "output_stride": 32}


def rows_of(text, heading):
    """Methods and figures of a table of the markdown."""
    part = text.partition(heading)[2].partition("\n### ")[0]
    return re.findall(r"^\| (\S[^|]*) \| \d+ \| ([\d.]+) \|.* not run here", part, re.MULTILINE)


@pytest.mark.parametrize("weights", ["imagenet", "maskformer:weights/maskformer_resnet101_coco.safetensors"])
def test_figures_that_start_from_other_weights_stand_apart(tmp_path, weights):
    """Of 92 labels the paper has a figure from COCO weights alone."""
    run(tmp_path, net=RC2L_NET | {"weights": weights}, crop=[512, 512])
    text = compose(build(tmp_path), "markdown", TEMPLATES)
    page = compose(build(tmp_path), "html", TEMPLATES)
    beside, apart = "### Published figures of the same protocol", "### Published figures that start from other weights"
    coco = weights != "imagenet"
    assert (beside in text, apart in text) == (coco, not coco)
    assert rows_of(text, beside if coco else apart) == [("RC2L", "65.33")]
    assert "not run here, derived" in text
    assert ("Published figures that start from other weights" in page) == (not coco)


def test_weights_whose_images_are_not_told_match_nothing(tmp_path):
    run(tmp_path, net=RC2L_NET | {"weights": "maskformer:mine.safetensors"}, crop=[512, 512])
    assert "ublished figures" not in compose(build(tmp_path), "markdown", TEMPLATES)


@pytest.mark.parametrize(
    ("weights", "images"),
    [("none", ""), ("imagenet", "imagenet"), ("maskformer:a/MaskFormer-COCO.safetensors", "coco"),
     ("dinov2_vitb14.safetensors", "dinov2"),
     ("b.safetensors", ""), ("coco/b.safetensors", ""), ("resnet50_imagenet.safetensors", "imagenet")],
)  # fmt: skip
def test_the_name_of_weights_tells_what_they_have_seen(weights, images):
    assert pretraining(weights) == images


def test_weights_of_dinov2_have_not_only_seen_imagenet():
    assert pretraining("imagenet", "vit_base_patch14_dinov2") == "dinov2"
    assert pretraining("none", "vit_base_patch14_dinov2") == ""


def test_without_a_match_neither_table_is_there(tmp_path):
    run(tmp_path, crop=[513, 513], net=NET | {"output_stride": 32})
    report = build(tmp_path)
    assert "ublished figures" not in compose(report, "html", TEMPLATES) + compose(report, "markdown", TEMPLATES)


def test_figures_are_escaped(tmp_path):
    (tmp_path / "templates").symlink_to(TEMPLATES)
    row = "<i>x|y,ResNet-101,voc,classic,92,321,16,whole,imagenet,50,stated,<script>_z*|"
    (tmp_path / FILE).write_text(f"{HEAD}\n{row}\n")
    run(tmp_path / "runs")
    report = build(tmp_path / "runs")
    page = compose(report, "html", tmp_path / "templates")
    assert "&lt;i&gt;x|y" in page
    assert "&lt;script&gt;_z*|" in page
    assert r"| &lt;i&gt;x\|y | 92 | 50 |" in compose(report, "markdown", tmp_path / "templates")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("method,miou\n", "line 1: expected the columns method,backbone"),
        (f"{HEAD}\na,b\n", "line 2: 2 columns, expected 12"),
        (f"{HEAD}\na,b,c,d,1,2,3,e,p,nan,stated,s\n", "line 2: expected an mIoU in per cent.*, got nan,stated,s"),
        (f"{HEAD}\na,b,c,d,1,2,3,e,p,50,stated,\n", "line 2: expected an mIoU in per cent.*, got 50,stated,"),
        (f"{HEAD}\na,b,c,d,1,2,3,e,p,50,guessed,s\n", r"how it is known \(stated or derived\).*, got 50,guessed,s"),
    ],
)
def test_a_broken_table_is_named_with_its_line(tmp_path, content, text):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(UsageError, match=text):
        read_figures(tmp_path / FILE)


def test_no_table_means_no_figures(tmp_path):
    assert read_figures(tmp_path / FILE) == ()
