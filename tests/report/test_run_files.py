"""Counts, curves and pictures of a finished run: what is read of them, and what is refused."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image
from report_data import CLASSES, SUPERVISED, build, confusions, reseal, said, write_run

from rc2l_bench.report.comparison import Key
from rc2l_bench.report.results import FinishedRun, find
from rc2l_bench.report.run_files import panels_of, read_areas, read_curve, read_picture


def test_an_npz_that_would_fill_the_memory_is_not_unpacked(tmp_path):
    """60 MB of zeros for each of its 18 KB; what it claims is checked before."""
    folder = write_run(tmp_path)
    with zipfile.ZipFile(folder / "confusion.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("val", "val_ids"):
            with archive.open(f"{name}.npy", "w") as member:
                shape = {"descr": "<i4", "fortran_order": False, "shape": (1 << 20, 64, 64)}
                np.lib.format.write_array_header_1_0(member, shape)
                for _ in range(8):
                    member.write(bytes(1 << 20))
    reseal(folder)
    report = build(tmp_path)
    assert "confusion.npz: damaged ('val' has the shape (1048576, 64, 64), expected at most" in said(report)


def test_counts_that_contradict_the_metrics_are_not_used(tmp_path):
    folder = write_run(tmp_path)
    np.savez_compressed(folder / "confusion.npz", val=confusions(0.9), val_ids=np.array([str(i) for i in range(40)]))
    reseal(folder)
    report = build(tmp_path)
    assert "metrics.json says" in said(report)
    assert report.sections[0].groups[Key(SUPERVISED, "1_16")].final.over == "nothing"


@pytest.fixture
def run(tmp_path) -> FinishedRun:
    write_run(tmp_path, test=True)
    return read(tmp_path)


def read(root) -> FinishedRun:
    runs, remarks = find(root)
    assert (len(runs), remarks) == (1, [])
    return runs[0]


def changed(run: FinishedRun, name: str, data: bytes) -> FinishedRun:
    """The run with another file, as if it had been written so."""
    (run.folder / name).write_bytes(data)
    reseal(run.folder)
    return read(run.folder.parents[4])


def packed(**arrays) -> bytes:
    target = io.BytesIO()
    np.savez_compressed(target, **arrays)
    return target.getvalue()


@pytest.mark.parametrize(("part", "count"), [("val", 40), ("test", 20)])
def test_counts_become_areas_of_every_image(run, part, count):
    ids, areas = read_areas(run, part)
    with np.load(run.folder / "confusion.npz") as stored:
        confusion = stored[part]
    assert ids == tuple(f"{part}_{number:04d}" for number in range(count))
    assert areas.shape == (count, 3, len(CLASSES))
    hits, truth = confusion.diagonal(0, 1, 2), confusion.sum(2)
    assert np.array_equal(areas, np.stack([hits, truth + confusion.sum(1) - hits, truth], 1))


IDS = np.array([f"val_{number:04d}" for number in range(3)])


@pytest.mark.parametrize(("arrays", "reason"), [
    ({"val": np.ones((3, 6, 6), np.int32), "val_ids": IDS[:2]}, r"holds \(3, 6, 6\) counts of 2 images with 6 classes"),
    ({"val": np.ones((3, 5, 5), np.int32), "val_ids": IDS}, r"holds \(3, 5, 5\) counts of 3 images with 6 classes"),
    ({"val": np.ones((0, 6, 6), np.int32), "val_ids": IDS[:0]}, "counts of 0 images"),
    ({"val": -np.ones((3, 6, 6), np.int32), "val_ids": IDS}, "holds negative counts"),
    ({"val_ids": IDS}, "has no"),
])  # fmt: skip
def test_counts_that_cannot_be_are_refused(run, arrays, reason):
    with pytest.raises(ValueError, match=rf"^confusion\.npz.* ?{reason}"):
        read_areas(changed(run, "confusion.npz", packed(**arrays)))


def test_a_file_that_was_changed_is_named_without_its_folder(run):
    (run.folder / "confusion.npz").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"^confusion\.npz: has changed since it was written$"):
        read_areas(run)


def test_a_curve_has_the_evaluations_and_skips_what_is_no_number(run):
    text = b"step,lr,loss,miou\n5,1,1,\n10,1,1,0.25\n15,1,1,nan\n\n20,1,1,0.5\n"
    assert read_curve(changed(run, "history.csv", text)).tolist() == [[10, 0.25], [20, 0.5]]


def test_a_curve_of_pseudo_labels_is_empty_where_nobody_scored_them(run):
    assert read_curve(run, "pseudo_miou").shape == (0, 2)
    text = b"step,miou,pseudo_miou\n5,0.1,\n10,0.25,0.75\n"
    assert read_curve(changed(run, "history.csv", text), "pseudo_miou").tolist() == [[10, 0.75]]


def test_a_run_that_was_never_evaluated_has_an_empty_curve(run):
    assert read_curve(changed(run, "history.csv", b"step,miou\n5,\n")).shape == (0, 2)


@pytest.mark.parametrize(("text", "reason"), [
    (b"", "has no column 'step'"), (b"step,loss\n1,2\n", "has no column 'miou'"), (b"step,miou\n1,many\n", "damaged"),
    (b"step,miou\n1\n", "damaged"),
])  # fmt: skip
def test_a_curve_that_cannot_be_read_is_refused(run, text, reason):
    with pytest.raises(ValueError, match=rf"^history\.csv: {reason}"):
        read_curve(changed(run, "history.csv", text))


def test_panels_are_complete_and_in_order(run):
    panels = panels_of(run)
    assert [panel.id for panel in panels] == ["val_0000", "val_0001"]
    assert panels[1] == (
        "val_0001",
        run,
        *(f"panels/1-val_0001.{kind}.png" for kind in ("image", "truth", "prediction")),
    )
    (run.folder / panels[0].truth).unlink()
    assert [panel.id for panel in panels_of(run)] == ["val_0001"]


def test_pictures_are_pixels(run):
    panel = panels_of(run)[0]
    assert np.array_equal(read_picture(run, panel.image), np.array(Image.open(run.folder / panel.image)))
    truth = read_picture(run, panel.truth)
    assert (truth.shape, set(np.unique(truth)) - {255} <= set(range(len(CLASSES)))) == ((64, 96), True)
