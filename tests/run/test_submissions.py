"""The folder of an array job: what is written there is read again, and a log is searched for what went wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from rc2l_bench.readers import DamagedFileError
from rc2l_bench.run.assignments import Assignment
from rc2l_bench.run.slurm import Place
from rc2l_bench.run.submissions import TAIL, Submission, TaskState, find_submissions, new_submission

TASKS = [
    Assignment(title=f"run {number}", module=["m", str(number)], expected={"seed": number}, nodes=1, processes=2)
    for number in range(3)
]


@pytest.fixture
def submission(tmp_path) -> Submission:
    """An array job that Slurm has taken."""
    with new_submission(TASKS, tmp_path) as made:
        made.write_number(41, len(TASKS))
    return made


def test_tasks_and_states_are_read_as_they_were_written(submission):
    state = TaskState(state="stopped", code=75, host="n1", restarts=2)
    submission.write_state(1, state)
    assert [submission.task(number) for number in range(3)] == TASKS
    assert [submission.state(number) for number in range(3)] == [None, state, None]


def test_a_submission_that_failed_leaves_no_folder(tmp_path):
    with pytest.raises(KeyboardInterrupt), new_submission(TASKS, tmp_path):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_before_slurm_has_taken_it_a_submission_has_no_places_and_is_not_found(tmp_path):
    with new_submission(TASKS, tmp_path) as made:
        assert (list(made.places()), find_submissions(tmp_path)) == ([], [])
        made.write_number(7, 2)
        assert list(made.places()) == [Place(7, 0), Place(7, 1)]
        assert find_submissions(tmp_path) == [made]


def test_submissions_are_in_the_order_of_time_and_within_a_second_of_their_numbers(tmp_path):
    for name, job in (("20260102-030405-a", 9), ("20260102-030405-b", 8), ("20260102-030404-c", 10)):
        (tmp_path / name).mkdir()
        Submission(tmp_path / name).write_number(job, 1)
    assert [found.number().job for found in find_submissions(tmp_path)] == [10, 8, 9]


@pytest.mark.parametrize(("log", "words"), [
    ("", ""),
    ("step 1\n\nstep 2\n  \n", "step 2"),
    ("error: first\nslurmstepd: CANCELLED DUE TO TIME LIMIT\nTraceback\n", "slurmstepd: CANCELLED DUE TO TIME LIMIT"),
    ("error: long ago\n" + "x\n" * TAIL, "x"),
])  # fmt: skip
def test_the_last_words_are_the_last_line_that_tells_something(submission, log, words):
    submission.log(0).write_text(log)
    assert submission.last_words(0) == words


def test_a_task_without_a_log_has_no_last_words(submission):
    assert submission.last_words(2) == ""


@pytest.mark.parametrize("damaged", ['{"job": 0, "tasks": 1}', '{"job": 1, "tasks": 10001}', '{"job": "1"}', "{"])
def test_a_damaged_number_says_what_to_do(submission, damaged):
    (submission.folder / "job.json").write_text(damaged)
    with pytest.raises(DamagedFileError, match="not a file of this version, remove its folder"):
        submission.number()


def test_a_state_that_nobody_writes_is_refused(submission):
    Path(submission.folder / "0.state").write_text('{"state": "asleep", "code": 0, "host": "n", "restarts": 0}')
    with pytest.raises(DamagedFileError, match=r"0\.state"):
        submission.state(0)
