"""`rc2l-bench export`."""

from __future__ import annotations

from commands_data import refused


def test_a_missing_package_is_wrong_use_before_anything_is_loaded(monkeypatch):
    from rc2l_bench.deployment import exported_network

    monkeypatch.setattr(exported_network, "ONNX_PACKAGES", ("onnx", "no_such_package"))
    assert "--format onnx needs no_such_package: pip install 'rc2l-bench[onnx]'" in refused("export", "nowhere")


def test_a_folder_without_a_run_is_wrong_use_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "error: nowhere: no finished run" in refused("export", "nowhere")
    assert list(tmp_path.iterdir()) == []
