from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from rc2l_bench.data import download
from rc2l_bench.deployment.photo_list import PhotoSource, fetched, find_photos
from rc2l_bench.errors import BenchError, UsageError


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    for name in ("b.jpg", "a.PNG", "notes.txt", "sub/a.png", "sub/deep/c.tiff", "out/masks/old.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def names(*arguments: str, out: str = "predictions") -> dict[str, str]:
    return {str(source.origin): source.name for source in find_photos(arguments, Path(out))}


def test_a_folder_is_searched_to_the_bottom_and_keeps_its_shape(photos):
    assert names("photos", out="photos/out") == {
        "photos/a.PNG": "a", "photos/b.jpg": "b", "photos/sub/a.png": "sub/a", "photos/sub/deep/c.tiff": "sub/deep/c",
    }  # fmt: skip


def test_results_are_not_taken_for_photos(photos):
    assert "photos/out/masks/old.png" in names("photos")
    assert "photos/out/masks/old.png" not in names("photos", out="photos/out")
    assert "photos/out/masks/old.png" not in names("photos/**/*.png", out="photos/out")


def test_photos_may_lie_beside_results(photos):
    assert names("photos/sub", out="photos") == {"photos/sub/a.png": "a", "photos/sub/deep/c.tiff": "deep/c"}


def test_a_pattern_stands_for_what_it_matches(photos):
    assert names("photos/*.*[gG]") == {"photos/a.PNG": "a", "photos/b.jpg": "b"}
    assert names("photos/sub/**/*.tiff") == {"photos/sub/deep/c.tiff": "c"}


def test_a_file_is_taken_whatever_its_suffix(photos):
    assert names("photos/notes.txt") == {"photos/notes.txt": "notes"}


def test_a_file_is_taken_once(photos):
    assert names("photos/b.jpg", "./photos/b.jpg", "photos/b.*") == {"photos/b.jpg": "b"}


def test_names_stay_apart(photos):
    (photos / "b.png").touch()
    (photos / "B.tif").touch()
    found = names("photos/b.jpg", "photos/b.png", "photos/B.tif", "photos/a.PNG", "photos/sub/a.png")
    assert list(found.values()) == ["b.jpg", "b.png", "B.tif", "a.PNG", "a.png-2"]
    assert len({name.casefold() for name in found.values()}) == 5


@pytest.mark.parametrize("wrong", ["nowhere", "photos/*.gif", "empty", "photos/sub/x?y"])
def test_what_stands_for_nothing_is_wrong_use(photos, wrong):
    Path("empty").mkdir()
    with pytest.raises(UsageError, match="no picture there: expected a file, a folder, a pattern or an address"):
        find_photos(["photos/b.jpg", wrong], Path("out"))


@pytest.mark.parametrize(
    ("address", "name"),
    [("https://a.b/c/d%20e.jpg?key=1", "d_e"), ("HTTP://a.b/", "image"), ("https://a.b/..%2f..%2fx.png", "x"),
     ("https://a.b/.hidden.png", "hidden")],
)  # fmt: skip
def test_an_address_gets_a_harmless_name(tmp_path, address, name):
    assert find_photos([address], tmp_path) == [PhotoSource(address, name)]


def test_secrets_in_an_address_are_not_shown():
    assert PhotoSource("https://me:word@a.b/c.png?token=9", "c").title == "https://a.b/c.png"


@pytest.fixture
def server(photos) -> Iterator[str]:
    """The folder over HTTP; what lies there now is a picture only by name."""
    (photos / "b.jpg").write_bytes(b"abc")

    class Silent(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            return

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=photos)) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()


def test_an_address_is_downloaded_and_leaves_nothing(server):
    with fetched(PhotoSource(f"{server}/b.jpg", "b")) as path:
        assert path.read_bytes() == b"abc"
    assert not path.parent.exists()


def test_an_address_without_a_file_is_told(server, monkeypatch):
    monkeypatch.setattr(download, "TRIES", 1)
    with (
        pytest.raises(BenchError, match=r"^http://127\.0\.0\.1:\d+/none\.jpg: answers 404"),
        fetched(PhotoSource(f"{server}/none.jpg", "none")),
    ):
        pass


def test_what_is_wrong_with_a_download_names_its_address(server):
    with pytest.raises(BenchError) as caught, fetched(PhotoSource(f"{server}/b.jpg", "b")) as path:
        raise BenchError(f"{path}: no picture")
    assert str(caught.value) == f"{server}/b.jpg: no picture"
