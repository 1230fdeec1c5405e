"""`rc2l-bench tune`, with trials that take no time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny_data
from commands_data import call, refused

from rc2l_bench.run import tuning
from rc2l_bench.run.tuning import MethodStudy, waiting_trials
from rc2l_bench.schema import read_yaml

TUNE = ("tune", "--dataset", "tiny", "--method", "supervised")


@pytest.fixture
def trials(slurm, monkeypatch) -> Callable[..., None]:
    """Says what the next command's trials score, by method and number, and with which codes processes fail."""
    Path("tuned").mkdir()
    monkeypatch.setattr(tuning, "prepare_data", lambda *_: None)

    def answer(scores: dict[str, list[float]], codes: tuple[int, ...] = ()) -> None:
        def carried_out(dataset: str, studies: list[MethodStudy], jobs: int, told) -> Iterator[int]:
            for study, trial in waiting_trials(studies):
                score = scores[study.method][trial.number]
                facts = {"diverged": score == 0, "seconds": 36.0, "fingerprint": "f"}
                study.tell(trial.number, {"miou": score, **facts})
                told(study, trial.number)
            yield from codes

        monkeypatch.setattr(tuning, "carry_out_trials", carried_out)

    return answer


def test_every_trial_is_a_line_with_the_best_so_far(trials):
    trials({"baselines/supervised": [0.25, 0.5]})
    code, text = call(*TUNE)
    assert code == 0, text
    first, second = text.splitlines()[:2]
    assert first.startswith("baselines/supervised trial 1/2: lr ")
    assert ": mIoU 25.0 (best 25.0); 1 of 2 trials, about " in first
    assert ": mIoU 50.0 (best 50.0); 2 of 2 trials, about 0 min left" in second


def test_what_was_chosen_is_a_table_and_a_file(trials):
    trials({"baselines/supervised": [0.5, 0.0]})
    code, text = call(*TUNE)
    assert code == 0, text
    assert ": diverged (best 50.0); " in text.splitlines()[1]
    [row] = [words for line in text.splitlines() if (words := re.sub("[│|]", " ", line).split())[:1] == ["supervised"]]
    assert row[-5:] == ["50.0", "25.0", "0.0", "1", "0.02"]
    chosen = read_yaml(Path("tuned/tiny.yaml"))["methods"]["baselines/supervised"]
    assert (chosen["score"], chosen["trials"], chosen["diverged"]) == (0.5, 2, 1)
    assert f"lr {chosen['numbers']['lr']:g}" in " ".join(row)


def test_a_method_and_its_variants_are_tuned_once(trials):
    trials({"baselines/cps": [0.1, 0.2], "baselines/supervised": [0.1, 0.2]})
    code, text = call(*TUNE, "--method", "cps@plain", "--method", "cps")
    assert code == 0, text
    assert "4 of 4 trials" in text


@pytest.mark.parametrize(("failed", "code"), [(3, 3), (-9, 137)])
def test_where_a_process_fails_nothing_is_chosen(trials, failed, code):
    trials({"baselines/supervised": [0.1, 0.2]}, (failed,))
    assert call(*TUNE)[0] == code
    assert not Path("tuned/tiny.yaml").exists()


def test_trials_that_look_at_one_another_are_not_for_a_cluster(slurm):
    Path("params.yaml").unlink()
    params = tiny_data.params(tuning={"default": {"sampler": "tpe"}})
    tiny_data.write_yaml(Path("params.yaml"), params)
    assert "tpe draws each trial by the scores of those before: leave out --on slurm" in refused(
        "tune", "--dataset", "tiny", "--on", "slurm"
    )
