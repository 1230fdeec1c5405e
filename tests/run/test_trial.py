"""One trial of `tune`: trained once, looked up after that, and told where it diverged or is in other hands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_data
import torch

from rc2l_bench.errors import DivergedError
from rc2l_bench.run import runner
from rc2l_bench.run.store import STORE, Run
from rc2l_bench.run.trial import main
from rc2l_bench.run.trial_request import open_trial
from rc2l_bench.tuning import BUSY

ASKED = {
    "dataset": "tiny", "split": "1_4", "method": "baselines/supervised", "seed": 0, "shards": "data/shards/tiny",
    "plan": "data/splits/tiny/1_4/seed0.json", "numbers": {"lr": 0.002}, "answer": "trials/0.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A checkout in which a trial was carried out."""
    root = tmp_path_factory.mktemp("trial")
    tiny_data.write_checkout(root, protocol={"default": {"steps": 2, "eval": {"evaluations": 1}}})
    (root / "trials").mkdir()
    (root / "trials/0.request").write_text(json.dumps(ASKED))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        main(Path("trials/0.request"))
    torch.use_deterministic_algorithms(False)
    return root


@pytest.fixture
def here(trained, monkeypatch):
    """The same, where nothing is trained any more."""
    monkeypatch.chdir(trained)
    monkeypatch.setattr(runner, "carry_out", lambda *_: pytest.fail("it was trained"))
    return trained


def answer(asked: dict, name: str) -> dict:
    """What a trial answers; nothing where it leaves no answer."""
    path = Path(f"trials/{name}")
    path.with_suffix(".request").write_text(json.dumps(asked | {"answer": f"{path}.json"}))
    main(path.with_suffix(".request"))
    return json.loads(Path(f"{path}.json").read_text())


def test_its_answer_is_the_score_and_the_time_of_its_run(here):
    found = json.loads(Path("trials/0.json").read_text())
    run = Run(STORE, open_trial(ASKED).provenance()["fingerprint"])
    metrics, cost = (json.loads((run.result / f"{name}.json").read_text()) for name in ("metrics", "cost"))
    assert found == {
        "fingerprint": run.name, "miou": metrics["miou"], "diverged": False, "seconds": cost["seconds"],
    }  # fmt: skip


def test_a_trial_that_was_carried_out_is_looked_up(here):
    assert answer(ASKED, "again") == json.loads(Path("trials/0.json").read_text())


def test_a_trial_that_diverges_counts_as_the_worst_and_is_not_tried_again(here, monkeypatch):
    def diverge(*_: object) -> None:
        raise DivergedError("no number", 12.5)

    asked = ASKED | {"numbers": {"lr": 0.5}}
    with monkeypatch.context() as patch:
        patch.setattr(runner, "carry_out", diverge)
        found = answer(asked, "1")
    name = open_trial(asked).provenance()["fingerprint"]
    assert found == {"fingerprint": name, "miou": 0.0, "diverged": True, "seconds": 12.5}
    assert answer(asked, "1") == found


def test_a_trial_that_another_process_carries_out_has_an_exit_code_of_its_own_and_no_answer(here):
    asked = ASKED | {"numbers": {"lr": 0.25}}
    run = Run(STORE, open_trial(asked).provenance()["fingerprint"])
    with run.lock(), pytest.raises(SystemExit) as caught:
        answer(asked, "2")
    assert caught.value.code == BUSY
    assert not Path("trials/2.json").exists()


def test_a_damaged_result_is_not_taken_for_an_answer(here, capsys):
    run = Run(STORE, open_trial(ASKED).provenance()["fingerprint"])
    path = run.result / "metrics.json"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole.replace(b"0.", b"0.9", 1))
        with pytest.raises(SystemExit) as caught:
            answer(ASKED, "3")
    finally:
        path.write_bytes(whole)
    assert caught.value.code == 1
    assert "metrics.json" in capsys.readouterr().err
    assert not Path("trials/3.json").exists()
