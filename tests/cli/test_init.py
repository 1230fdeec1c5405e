"""`rc2l-bench init`."""

from __future__ import annotations

from commands_data import call, refused

from rc2l_bench import study


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    assert "is not empty: a study begins in a new folder" in refused("init", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_package_without_the_files_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "PACKAGE", tmp_path / "rc2l_bench")
    assert "was installed without the files of a study" in refused("init", str(tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []


def test_without_dvc_a_study_is_laid_out_and_dvc_can_come_later(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda _: None)
        code, text = call("init", str(tmp_path / "one"))
    assert code == 0, text
    assert "DVC is not installed" in text
    (tmp_path / "one/params.yaml").write_text("changed: 1\n")
    code, text = call("init", str(tmp_path / "one"))
    assert code == 0, text
    config = (tmp_path / "one/.dvc/config").read_text()
    assert "analytics = false" in config
    assert "no_scm = true" in config
    assert (tmp_path / "one/.dvc/plots/curves.json").is_file()
    assert (tmp_path / "one/params.yaml").read_text() == "changed: 1\n"
    assert "is not empty" in refused("init", str(tmp_path / "one"))
