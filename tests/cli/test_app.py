from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_data
from commands_data import call, refused
from report_data import reseal, write_run

from rc2l_bench import __version__
from rc2l_bench.cli import app as cli
from rc2l_bench.run.pipeline import CELL_STAGES, Stage
from rc2l_bench.variants import find_methods

CELL = ["run", "--method", "supervised", "--split", "1_4"]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A checkout without data."""
    for name in ("baselines", "pipelines", "splits"):
        shutil.copytree(tiny_data.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(tiny_data.ROOT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        Stage, "carry_out", lambda stage: 0 if stage.fresh() or stage.always else pytest.fail(f"{stage.name} ran")
    )
    return tmp_path


@pytest.fixture
def finished(here) -> Path:
    """A checkout whose stages have all been carried out, as far as their stamps say."""
    item = {"dataset": "shapes", "split": "1_4", "method": "baselines/supervised", "seed": "0"}
    folder = write_run(here / "runs", split="1_4")
    content = {
        "metrics": {"miou": 0.5, "miou_best": 0.625, "test": None},
        "cost": {"seconds": 12.4, "peak_memory": {"resident_mb": 900.2}},
    }
    for name, value in content.items():
        (folder / f"{name}.json").write_text(json.dumps(value))
    reseal(folder, split={"id": "a", "draws": "list", "unlabelled_id": "b", "labelled": 256, "unlabelled": 768})
    for stage in cli.cell_stages(item):
        stage.record(stage.inputs())
    return here


@pytest.mark.parametrize(
    ("jobs", "first"),
    [("1", "supervised"), ("2", "cps"), ("9", "supervised")],
    ids=["one after the other", "some wait", "all at once"],
)
def test_the_longest_training_begins_first_where_others_wait(here, monkeypatch, jobs, first):
    for method in ("supervised", "cps"):
        write_run(here / "runs", split="1_8", method=f"baselines/{method}")
    begun = []
    monkeypatch.setattr(cli, "carry_out_cells", lambda items, _: begun.extend(items) or [0 for _ in items])
    monkeypatch.setattr(cli, "_show_results", lambda _: None)
    code, text = call(
        "run", "--method", "supervised", "--method", "cps", "--split", "1_4", "--split", "1_8", "--jobs", jobs
    )
    assert code == 0, text
    assert begun[0]["method"] == f"baselines/{first}"


def loads_torch(module: str) -> bool:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


def test_the_command_line_starts_without_torch():
    assert not loads_torch("rc2l_bench.cli.app")


def test_the_loop_does_load_torch():
    """The twin of the test above: it can tell."""
    assert loads_torch("rc2l_bench.run.train")


def test_the_help_names_every_command():
    code, text = call("--help")
    assert code == 0
    assert set(re.findall(r"\b(run|data|split|methods|report|doctor|version)\b", text)) == {
        "run", "data", "split", "methods", "report", "doctor", "version",
    }  # fmt: skip


@pytest.mark.parametrize("command", ["run", "data", "split", "methods", "report", "doctor"])
def test_every_command_has_help(command):
    code, text = call(command, "--help")
    assert code == 0
    assert "Usage" in text


def test_no_option_of_run_is_a_number_of_the_protocol():
    """Numbers live in YAML."""
    _, text = call("run", "--help")
    assert set(re.findall(r"--[a-z-]+", text)) == {
        "--method", "--split", "--dataset", "--seed", "--grid", "--named-grid", "--jobs", "--on", "--dry-run",
        "--help",
    }  # fmt: skip


def test_the_version_is_printed():
    assert call("version") == (0, f"{__version__}\n")


def test_all_methods_are_listed_with_what_they_do(here):
    code, text = call("methods")
    assert code == 0
    assert all(method in text for method in find_methods())
    assert "Supervised training on the labelled images alone" in text


def test_the_doctor_looks_at_everything(here, monkeypatch):
    monkeypatch.setenv("RC2L_BENCH_MIRROR", str(here / "nowhere"))
    code, text = call("doctor")
    assert code == 0
    row = next(line for line in text.splitlines() if "RC2L_BENCH_MIRROR" in line)
    assert "look" in row


def test_the_doctor_says_what_a_backbone_can_do(here, monkeypatch):
    monkeypatch.setenv("RC2L_BENCH_WEIGHTS", str(here))
    (here / "test_vit.safetensors").touch()
    code, text = call("doctor", "--backbone", "test_vit")
    told = " ".join(text.replace("│", " ").split())
    assert code == 0
    assert "strides of its levels (channels) 16 (64), 16 (64), 16 (64), 16 (64)" in told
    assert "net.output_stride may be 32 " in told
    assert "crops multiples of 16" in told
    assert "321 → 320, 513 → 512, 769 → 768, 801 → 800" in told
    assert "test_vit.safetensors" in told


def test_the_doctor_knows_which_backbones_can_be_dilated(here):
    _, text = call("doctor", "--backbone", "test_resnet")
    assert "net.output_stride may be 32, 16, 8" in " ".join(text.replace("│", " ").split())


def test_the_doctor_says_why_a_backbone_cannot_serve(here):
    assert "mixer_s16_224: cannot see an image of 64×96" in refused("doctor", "--backbone", "mixer_s16_224")


@pytest.mark.parametrize(("made", "said"), [(True, "ok"), (False, "look")])
def test_the_doctor_looks_into_the_store(here, monkeypatch, made, said):
    if made:
        (here / "store").mkdir(exist_ok=True)
    monkeypatch.setenv("RC2L_BENCH_STORE", str(here / ("store" if made else "nowhere")))
    row = next(line for line in call("doctor")[1].splitlines() if "RC2L_BENCH_STORE" in line)
    assert row.rstrip(" │┃|").endswith(said)


def test_an_unknown_method_names_the_nearest(here):
    assert "unknown method 'supervisd': did you mean 'supervised'?" in refused(
        "run", "--method", "supervisd", *CELL[3:]
    )


def test_an_unknown_dataset_names_the_nearest(here):
    assert "unknown dataset 'shape': did you mean 'shapes'?" in refused(*CELL, "--dataset", "shape")


def test_an_unknown_study_names_the_nearest(here):
    assert refused("ablate", "cumulate") == "error: unknown study 'cumulate': did you mean 'cumulative'?"


def test_a_row_that_two_studies_share_is_carried_out_once(here, monkeypatch):
    seen = []
    monkeypatch.setattr(cli, "_carry_out", lambda items, *_: seen.extend(items))
    assert call("ablate", "cumulative", "single")[0] == 0
    methods = [item["method"] for item in seen if item["seed"] == "0"]
    assert sorted(methods) == sorted(set(methods))
    assert {"rc2l_bench/methods/rc2l", "rc2l_bench/methods/rc2l@mask", "rc2l_bench/methods/rc2l@none"} < set(methods)


@pytest.mark.parametrize("split", ["1_16'", "--help", "a b", "../1_4", "", "x" * 200, "1_4\n", "$(id)"])
def test_a_name_that_could_not_be_one_is_refused_before_anything_runs(here, split):
    assert "error: split " in refused("run", "--method", "supervised", f"--split={split}")


def test_a_value_is_one_word_of_a_command_whatever_is_in_it():
    item = {"dataset": "shapes", "split": "a 'b; c", "method": "baselines/cps", "seed": "0"}
    split = next(stage for stage in cli.cell_stages(item, tiny_data.ROOT) if stage.name == "split")
    assert split.command[4] == "a 'b; c"


def test_run_without_cells_asks_for_them(here):
    assert "give --method and --split" in refused("run")
    assert "give --method and --split" in refused("run", "--method", "supervised")


@pytest.mark.parametrize("wrong", [["--seed", "x"], ["--seed", "-1"], ["--jobs", "-1"], ["--steps", "3"], ["now"]])
def test_a_wrong_option_is_wrong_use(here, wrong):
    code, text = call(*CELL, *wrong)
    assert code == 2, text
    assert "Traceback" not in text


def test_outside_a_checkout_one_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "is this the root of a checkout?" in refused(*CELL)


def test_a_mistake_in_params_is_told_before_anything_runs(here):
    text = re.sub(r"\bsteps: ", "stesp: ", (here / "params.yaml").read_text(), count=1)
    (here / "params.yaml").write_text(text)
    assert re.search(r"params\.yaml: \w+\.\w+\.stesp: unknown key; did you mean 'steps'\?", refused(*CELL))
    assert not (here / "data").exists()


def test_an_unquoted_split_in_params_is_told(here):
    text = (here / "params.yaml").read_text()
    (here / "params.yaml").write_text(text.replace('"1_16"', "1_16", 1))
    assert "unquoted 1_16 as 116" in refused("run", "--grid")


def test_a_finished_cell_is_shown_at_once(finished):
    code, text = call(*CELL)
    assert code == 0
    row = next(line for line in text.splitlines() if "shapes 1_4 supervised seed 0" in line)
    assert re.findall(r"[\d.]+|–", row.split("seed 0")[1]) == ["256", "50.00", "62.50", "–", "12", "900"]
    assert "files: runs/shapes/1_4/baselines/supervised/seed0" in text
    assert "optimistic" in text


def test_a_finished_cell_whose_score_was_changed_is_not_shown(finished):
    path = finished / "runs/shapes/1_4/baselines/supervised/seed0/metrics.json"
    before = path.stat()
    path.write_text(path.read_text().replace("0.5", "0.9"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    code, text = call(*CELL)
    assert (code, text) == (1, f"error: {path.relative_to(finished)}: has changed since it was written\n")


@pytest.mark.parametrize("stamp", [b"", b"\xff\xfe", b"0" * 64])
def test_a_damaged_stamp_lets_its_stage_run_again(finished, monkeypatch, stamp):
    ran = []
    monkeypatch.setattr(Stage, "carry_out", lambda stage: ran.append(stage.name) if not stage.fresh() else None)
    for path in (finished / ".rc2l/stages/catalog").iterdir():
        path.write_bytes(stamp)
    call(*CELL)
    assert ran == ["scan", "catalog"]


@pytest.mark.parametrize(("code", "seen"), [(1, 1), (2, 2), (130, 130), (-9, 137)])
def test_the_code_of_a_stage_that_fails_is_passed_on(here, monkeypatch, code, seen):
    monkeypatch.setattr(Stage, "carry_out", lambda _: code)
    assert call(*CELL) == (seen, "")


def test_the_console_script_is_installed():
    script = Path(sys.executable).parent / "rc2l-bench"
    done = subprocess.run([script, "version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__


@pytest.mark.parametrize("stage", CELL_STAGES)
def test_a_stage_without_arguments_is_wrong_use(here, launch, stage):
    done = launch(f"pipelines.{stage}", cwd=here)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_an_unknown_grid_names_the_nearest(here):
    assert call("run", "--named-grid", "medum") == (
        2, "error: params.yaml: grids has no 'medum': did you mean 'medium'?\n",
    )  # fmt: skip


@pytest.mark.parametrize("split", ["2_16", "1_O"])
def test_a_split_that_there_is_not_is_refused_before_anything_runs(here, split):
    assert f"shapes has no split '{split}': " in refused("run", "--dry-run", "--method", "cps", "--split", split)


def test_methods_are_listed_where_all_of_them_are(here, monkeypatch, tmp_path_factory):
    assert "baselines/cps" in call("methods")[1]
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert "there is no dvc.yaml here" in refused("methods")


def test_a_shell_completes_commands():
    env = os.environ | {"_RC2L_BENCH_COMPLETE": "complete_bash", "COMP_WORDS": "rc2l-bench pre", "COMP_CWORD": "1"}
    code = "import sys; sys.argv = ['rc2l-bench']; from rc2l_bench.cli.app import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=100)
    assert done.stdout.split() == ["predict"], done.stderr
