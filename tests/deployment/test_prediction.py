from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from rc2l_bench.deployment import photo_files, prediction
from rc2l_bench.deployment.loading import LoadedRun, load_run
from rc2l_bench.deployment.photo_list import find_photos
from rc2l_bench.deployment.prediction import Outcome, PhotoPrediction
from rc2l_bench.deployment.prediction_files import Extras

CANVAS = (40, 48)


@pytest.fixture
def run(pixel_run, monkeypatch, tmp_path) -> LoadedRun:
    monkeypatch.chdir(tmp_path)
    return load_run(pixel_run)


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def save(name: str, pixels: np.ndarray) -> Path:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(name)
    return Path(name)


def predict(run: LoadedRun, *arguments: str, extras: Extras = Extras(), fit: bool = False) -> Outcome:  # noqa: B008
    told: list[tuple[str, str]] = []
    made = PhotoPrediction(run, Path("out"), extras, fit=fit, told=lambda *news: told.append(news))
    found = made.carry_out(find_photos(arguments, Path("out")))
    assert sorted(told) == sorted([*((row.image, "") for row in found.done), *found.failed.items()])
    return found


def mask(name: str) -> np.ndarray:
    return np.array(Image.open(f"out/masks/{name}.png"))


def rows() -> list[dict[str, str]]:
    with Path("out/shares.csv").open() as file:
        return list(csv.DictReader(file))


def files() -> list[str]:
    return sorted(path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file())


def test_masks_are_what_the_run_predicts(run):
    save("photos/a.png", photo(33, 48))
    save("photos/sub/b.png", photo(40, 40))
    predict(run, "photos")
    for name in ("a", "sub/b"):
        assert (mask(name) == run.predict(Path(f"photos/{name}.png"))).all()
    picture = Image.open("out/masks/a.png")
    assert picture.mode == "P"
    assert picture.getpalette()[:9] == [0, 0, 0, 255, 0, 0, 0, 0, 255]
    assert files() == ["masks/a.png", "masks/sub/b.png", "prediction.json", "shares.csv"]


def test_shares_count_the_mask(run):
    save("a.png", photo(33, 48))
    predict(run, "a.png")
    [row] = rows()
    count = np.bincount(mask("a").ravel(), minlength=3) / (33 * 48)
    assert [float(row[f"share_{name}"]) for name in run.classes] == pytest.approx(count, abs=1e-6)
    assert float(row["confidence"]) == pytest.approx(run.probabilities(Path("a.png")).max(0).mean(), abs=1e-5)
    wanted = {"image": "a.png", "mask": "masks/a.png", "height": "33", "width": "48", "view": "whole"}
    assert {name: row[name] for name in wanted} == wanted


def test_overlays_and_confidence_are_written_when_asked_for(run):
    pixels = photo(33, 48)
    save("a.png", pixels)
    predict(run, "a.png", extras=Extras(overlay=True, confidence=True))
    overlay, confidence = (np.array(Image.open(f"out/{kind}/a.png")) for kind in ("overlays", "confidence"))
    assert (overlay == np.rint((pixels.astype(float) + run.paint(mask("a"))) / 2)).all()
    assert confidence == pytest.approx(run.probabilities(pixels).max(0) * 255, abs=0.51)


def test_photos_of_one_size_are_seen_together(run):
    for number in range(9):
        save(f"photos/{number}.png", photo(40, 48, number))
        save(f"photos/x{number}.png", photo(40, 40, number))
    seen: list[int] = []
    run.network.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    predict(run, "photos")
    assert sum(seen) == 18
    assert max(seen) == prediction.LARGE
    assert len(rows()) == 18
    for number in range(9):
        assert (mask(f"{number}") == run.predict(Path(f"photos/{number}.png"))).mean() > 0.999


def test_no_more_photos_wait_than_are_seen_together(run, monkeypatch):
    """Of many sizes, so that no batch would ever be full."""
    for number in range(20):
        save(f"photos/{number}.png", photo(30, 20 + number, number))
    most = 0
    flush = PhotoPrediction._flush

    def watch(self, size):
        nonlocal most
        most = max(most, sum(len(group) for group in self.waiting.values()))
        flush(self, size)

    monkeypatch.setattr(PhotoPrediction, "_flush", watch)
    predict(run, "photos")
    assert len(rows()) == 20
    assert most <= 4 * 40 * 48 // (30 * 20) + 1


@pytest.mark.parametrize(("size", "view"), [((80, 96), "whole"), ((80, 97), "windows"), ((200, 41), "windows")])
def test_photos_beyond_four_times_the_canvas_are_seen_through_windows(run, size, view):
    save("a.png", photo(*size))
    predict(run, "a.png")
    assert rows()[0]["view"] == view
    assert mask("a").shape == size


def test_a_photo_is_fitted_when_asked_for(run):
    """A picture of large blocks, whose classes must come back where the blocks are."""
    pixels = np.repeat(np.repeat(photo(4, 6), 50, 0), 40, 1)
    save("a.png", pixels)
    predict(run, "a.png", fit=True)
    small = np.array(Image.fromarray(pixels).resize((48, 40), Image.Resampling.BOX))
    wanted = np.array(Image.fromarray(run.predict(small)).resize((240, 200), Image.Resampling.NEAREST))
    assert rows()[0]["view"] == "fit"
    assert mask("a").shape == (200, 240)
    assert (mask("a") == wanted).mean() > 0.9


def test_small_photos_are_not_enlarged_to_fit(run):
    save("a.png", photo(20, 30))
    predict(run, "a.png", fit=True)
    assert rows()[0]["view"] == "whole"


def test_a_tiff_larger_than_memory_is_seen_through_windows(run, monkeypatch):
    pixels = photo(150, 110)
    tifffile.imwrite("a.tif", pixels, photometric="rgb", compression="zlib", rowsperstrip=7)
    save("b.png", pixels)
    monkeypatch.setattr(photo_files, "MOST_WHOLE", 150 * 110 - 1)
    predict(run, "a.tif", "b.png", extras=Extras(overlay=True, confidence=True))
    for kind in ("masks", "overlays", "confidence"):
        assert Path(f"out/{kind}/a.png").read_bytes() == Path(f"out/{kind}/b.png").read_bytes()


def wrong_files() -> dict[str, str]:
    """Pictures that cannot be predicted, and what is said of each."""
    save("photos/cut.png", photo(40, 48)).write_bytes(Path("photos/cut.png").read_bytes()[:200])
    Path("photos/text.jpg").write_text("hello")
    Image.fromarray(photo(9, 9)[..., 0].astype(np.uint16) * 257).save("photos/deep.png")
    Path("photos/empty.tif").touch()
    Image.fromarray(photo(200, 200)).save("photos/wide.bmp")
    return {"cut.png": "cut off", "text.jpg": "no picture", "deep.png": "16 bits", "empty.tif": "no picture",
            "wide.bmp": "larger than"}  # fmt: skip


def test_what_cannot_be_predicted_is_a_line_each_and_the_rest_is_done(run, monkeypatch):
    save("photos/a.png", photo(40, 48))
    save("photos/z.png", photo(40, 48))
    wrong = wrong_files()
    monkeypatch.setattr(photo_files, "MOST_WHOLE", 200 * 200 - 1)
    found = predict(run, "photos")
    assert {Path(name).name for name in found.failed} == set(wrong)
    for name, said in wrong.items():
        assert said in found.failed[f"photos/{name}"]
        assert len(found.failed[f"photos/{name}"].splitlines()) == 1
        assert name not in found.failed[f"photos/{name}"], "the name is not said twice"
    assert [row["image"] for row in rows()] == ["photos/a.png", "photos/z.png"]
    assert files() == ["masks/a.png", "masks/z.png", "prediction.json", "shares.csv"]


def test_a_tiff_that_breaks_off_leaves_nothing_behind(run, monkeypatch):
    """When half of it has been predicted and written already."""
    tifffile.imwrite("a.tif", photo(150, 110), photometric="rgb", compression="zlib", rowsperstrip=7)
    monkeypatch.setattr(photo_files, "MOST_WHOLE", 1000)
    data = bytearray(Path("a.tif").read_bytes())
    with tifffile.TiffFile("a.tif") as opened:
        at = opened.pages.first.dataoffsets[18]
    data[at : at + 60] = bytes(60)
    Path("a.tif").write_bytes(data)
    found = predict(run, "a.tif")
    assert "the TIFF is damaged" in found.failed["a.tif"]
    assert files() == ["prediction.json", "shares.csv"]


def test_what_does_not_fit_the_memory_together_is_predicted_one_by_one(run, monkeypatch):
    for number in range(3):
        save(f"photos/{number}.png", photo(40, 48, number))
    logits, asked = LoadedRun.logits, []

    def short(self, images, *more):
        asked.append(len(images))
        if len(images) > 1:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:98] . DefaultCPUAllocator: can't allocate memory")
        return logits(self, images, *more)

    monkeypatch.setattr(LoadedRun, "logits", short)
    predict(run, "photos")
    assert asked == [3, 1, 1, 1]
    assert len(rows()) == 3


def test_what_does_not_fit_the_memory_at_all_is_one_line(run, monkeypatch):
    save("a.png", photo(40, 48))
    monkeypatch.setattr(LoadedRun, "logits", lambda *_: np.empty((1 << 60,), np.uint8))
    assert predict(run, "a.png").failed == {"a.png": "needs more memory than there is: --fit scales it down"}


def test_a_mistake_in_the_program_is_not_taken_for_a_bad_photo(run, monkeypatch):
    save("a.png", photo(40, 48))

    def broken(*_: Any) -> None:
        raise RuntimeError("sizes of tensors must match")

    monkeypatch.setattr(LoadedRun, "logits", broken)
    with pytest.raises(RuntimeError, match="sizes of tensors must match"):
        predict(run, "a.png")


def test_transparency_is_remarked_once_for_all(run):
    for name in ("a", "b"):
        Image.fromarray(photo(40, 48)).convert("RGBA").save(f"{name}.png")
    assert dict(predict(run, "a.png", "b.png").remarks) == {photo_files.ALPHA: 2}


def test_what_made_the_pictures_is_kept_beside_them(run):
    save("a.png", photo(40, 48))
    predict(run, "a.png")
    found = json.loads(Path("out/prediction.json").read_text())
    assert found["fingerprint"] == run.record["fingerprint"]
    assert found["classes"] == run.classes
    assert found["windows"] == {"mode": "sliding", "window": [32, 32], "stride": 2 / 3, "combine": "softmax"}
    assert (found["done"], found["failed"]) == (1, {})


def test_what_was_done_before_a_ctrl_c_is_in_the_table(run, monkeypatch):
    for name in ("a", "b"):
        save(f"{name}.png", photo(100, 100))
    monkeypatch.setattr(prediction, "read_photo", lambda path: interrupt(path))

    def interrupt(path: Path) -> photo_files.Photo:
        if path.name == "b.png":
            raise KeyboardInterrupt
        return photo_files.read_photo(path)

    with pytest.raises(KeyboardInterrupt):
        predict(run, "a.png", "b.png")
    assert [row["image"] for row in rows()] == ["a.png"]
    assert files() == ["masks/a.png", "prediction.json", "shares.csv"]
