"""Every kind of file that is read, one good one of each, and how it is read. All is written into the current folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import archives_data
import coco_data
import folder_data
import numpy as np
import report_data
import tiny_data
import torch
from PIL import Image
from safetensors.torch import save_file

from rc2l_bench import tuning
from rc2l_bench.cluster import ClusterConfig
from rc2l_bench.config import Params, load
from rc2l_bench.data import archives, catalog, index, split_lists, splits
from rc2l_bench.data.datasets import coco_regions
from rc2l_bench.data.datasets.base import Source
from rc2l_bench.data.datasets.coco_masks import paint
from rc2l_bench.data.datasets.folder import Folder
from rc2l_bench.data.datasets.folder_config import FolderConfig
from rc2l_bench.data.datasets.folder_manifest import MANIFEST
from rc2l_bench.data.datasets.members import Members, TarMembers, ZipMembers
from rc2l_bench.data.decode import decode_image, decode_mask
from rc2l_bench.data.fetch import is_stamped, stamp
from rc2l_bench.data.image_headers import read_file_header, without_orientation
from rc2l_bench.data.shards import Shards
from rc2l_bench.files import MADE, replace_folder
from rc2l_bench.nets.maskformer_weights import QUERIES, read_maskformer
from rc2l_bench.nets.weights import check_weights
from rc2l_bench.report import evidence, results, run_files
from rc2l_bench.report.citations import read_references
from rc2l_bench.report.literature import read_figures
from rc2l_bench.report.quoted_study import read_studies
from rc2l_bench.report.scaling_figure import show_scaling
from rc2l_bench.run.assignments import Assignment
from rc2l_bench.run.store import Run
from rc2l_bench.run.submissions import Submission, TaskState
from rc2l_bench.seals import KEY, seal
from rc2l_bench.tuning import Trial, TunedMethod, TuningConfig, digest_trials, read_trials, read_tuned
from rc2l_bench.variants import read_config

ROOT = tiny_data.ROOT
LISTED = split_lists.Published(example="p01", ids="p.+")


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        path: of the good one, from the folder that was the current one.
        read: reads it, from the same folder; ends well or with an error of ours.
        name: what a message has to name; empty = what is read is passed over in silence, or told by its caller.
        reseal: makes the hash fit again to a document that was changed.
    """

    path: Path
    read: Callable[[Path], object]
    name: str
    reseal: Callable[[Any], bytes] | None = None


def write_results() -> dict[str, Kind]:
    folder = report_data.write_run("runs", images=4, panels=1)
    names = ["run.json", "metrics.json", "cost.json", "confusion.npz", "history.csv"]
    names += [path.relative_to(folder).as_posix() for path in (folder / "panels").iterdir()]
    kinds = {f"result {name}": Kind(folder / name, _read_results, "") for name in names}
    kinds |= {f"result {name} with its hash": Kind(folder / name, _read_resealed, "") for name in names[1:]}
    kinds["result run.json with its hash"] = Kind(folder / "run.json", _read_results, "", sealed)
    return kinds


def _read_results(_: Path) -> None:
    """All that a report reads of runs: whatever is wrong becomes a remark, or a ValueError that is made one."""
    runs, remarks = results.find(Path("runs"))
    assert runs or remarks, "a run has gone without a word"
    assert not remarks or evidence.check_folder(Path("runs"))[1], "a run that is not whole passes for evidence"
    for run in runs:
        for read in (run_files.read_areas, run_files.read_curve):
            with _remark():
                read(run)
        for panel in run_files.panels_of(run):
            for name in (panel.image, panel.truth, panel.prediction):
                with _remark():
                    run_files.read_picture(run, name)


class _remark:  # noqa: N801 - reads like a statement
    """What a report does with a ValueError; everything else passes."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        assert "\n" not in str(error), error
        return isinstance(error, ValueError)


def _read_resealed(path: Path) -> None:
    folder = next(parent for parent in path.parents if (parent / "run.json").is_file())
    before = (folder / "run.json").read_bytes()
    report_data.reseal(folder)
    try:
        _read_results(path)
    finally:
        (folder / "run.json").write_bytes(before)


def sealed(document: Any) -> bytes:
    """A sealed document of whatever content; its old hash is replaced."""
    return seal({key: value for key, value in document.items() if key != KEY} or {"x": 1}, indent=1)


def _sealed_index(document: Any) -> bytes:
    return index.render({key: value for key, value in document.items() if key != KEY} or {"x": 1})


def write_prepared() -> dict[str, Kind]:
    """What the stages before training leave."""
    tiny_data.write_data(Path())
    folder_data.write_images(Path())
    mine = folder_data.prepared()
    table = catalog.make(mine, folder_data.RAW)
    catalog.write(table, Path("mine.csv"))
    split_lists.pin(Path("splits/mine/few.txt"), table.ids("train")[:3], table.ids("train")[3:5], {"list": "few"})
    plan, shards = Path("data/splits/tiny/1_4/seed0.json"), Path("data/shards/tiny/val")
    manifest = folder_data.RAW / MANIFEST
    return {
        "split": Kind(plan, splits.read, plan.name),
        "split with its hash": Kind(plan, splits.read, plan.name, sealed),
        "index of shards": Kind(shards / index.NAME, lambda path: _read_shards(path.parent), index.NAME),
        "index of shards with its hash": Kind(
            shards / index.NAME, lambda path: _read_shards(path.parent), "val", _sealed_index
        ),
        "shard": Kind(shards / "val-000000.tar", lambda path: _read_shards(path.parent), "val-000000.tar"),
        "catalog": Kind(Path("mine.csv"), catalog.read, "mine.csv"),
        "catalog with its hash": Kind(Path("mine.csv"), _read_resealed_catalog, "mine.csv"),
        "manifest": Kind(manifest, _read_folder, MANIFEST),
        "manifest with its hash": Kind(manifest, _read_folder, "", sealed),
        "pinned list": Kind(Path("splits/mine/few.txt"), lambda _: split_lists.pinned("mine", "few"), "few.txt"),
        "pinned list, other side": Kind(
            Path("splits/mine/few.unlabelled.txt"), lambda _: split_lists.pinned("mine", "few"), "few.unlabelled.txt"
        ),
    }


def _read_shards(folder: Path) -> None:
    shards = Shards(folder)
    for position in range(len(shards)):
        shards.read_image(position)
        shards.read_mask(position)
    shards.close()


def _read_folder(_: Path) -> None:
    mine = Folder(Path("datasets/mine.yaml"))
    mine.meta()
    for part in ("train", "val", "test"):
        list(mine.samples(folder_data.RAW, part))


def _read_resealed_catalog(path: Path) -> None:
    body = path.read_bytes().rpartition(b"# sha256")[0]
    path.write_bytes(body + catalog._seal(body))
    catalog.read(path)


def write_pictures() -> dict[str, Kind]:
    exif = Image.Exif()
    exif[0x0112] = 6
    image, mask = archives_data.scene(0, (24, 32), 5)
    Image.fromarray(image).save("a.jpg", exif=exif, quality=90)
    Image.fromarray(image).save("progressive.jpg", progressive=True)
    Image.fromarray(image).save("a.png", exif=exif)
    Path("mask.png").write_bytes(archives_data.png(mask, [n for n in range(256) for _ in range(3)]))
    kinds = {name: Kind(Path(name), _read_image, name) for name in ("a.jpg", "progressive.jpg", "a.png")}
    return {f"picture {name}": kind for name, kind in kinds.items()} | {
        "picture mask.png": Kind(Path("mask.png"), lambda path: decode_mask(path.read_bytes(), str(path)), "mask.png")
    }


def _read_image(path: Path) -> None:
    read_file_header(path)
    data = path.read_bytes()
    decode_image(without_orientation(data, str(path)), str(path))
    decode_image(data, str(path))


def write_archives() -> dict[str, Kind]:
    files = {
        f"a/{number}.txt": bytes(np.random.default_rng(number).integers(0, 256, 300, np.uint8)) for number in range(4)
    }
    kinds = {}
    for name, mode in (("x.tar", "w"), ("x.tgz", "w:gz"), ("x.tar.xz", "w:xz"), ("x.tar.bz2", "w:bz2")):
        archives_data.pack_tar(Path(name), files, mode)
        kinds[f"archive {name}"] = Kind(Path(name), _extract, name)
    archives_data.pack_tar(Path("members.tar"), files)
    archives_data.pack_zip(Path("members.zip"), files)
    kinds["members of a tar"] = Kind(
        Path("members.tar"), lambda path: _read_members(TarMembers(path, lambda _: True, "get it")), "members.tar"
    )
    kinds["members of a zip"] = Kind(
        Path("members.zip"), lambda path: _read_members(ZipMembers(path, "get it")), "members.zip"
    )
    Path("instances.json").write_text(json.dumps(coco_data.document("val")))
    return kinds | {"annotations of COCO": Kind(Path("instances.json"), _read_annotations, "instances.json")}


def _read_annotations(path: Path) -> None:
    """From the JSON to masks; what has become of its regions may be unfit to be painted."""
    archives_data.pack_zip(Path("annotations.zip"), {path.name: path.read_bytes()})
    Path("regions.db").unlink(missing_ok=True)
    with ZipMembers(Path("annotations.zip"), "get it") as members:
        labels, names = coco_data.LABELS, coco_data.NAMES
        coco_regions.write_regions(members, {"val": path.name}, labels, names, (640, 640), Path("regions.db"))
    with coco_regions.open_regions(Path("regions.db")) as table:
        for number, size in table.sizes("val").items():
            paint(size, table.of_image("val", number), path.name)


def _extract(path: Path) -> None:
    try:
        archives.extract(path, Path("extracted"), lambda name: name, 1 << 20)
    finally:
        shutil.rmtree("extracted", ignore_errors=True)


def _read_members(members: Members) -> None:
    with members:
        for name in members.names:
            members.read(name)


def write_texts() -> dict[str, Kind]:
    """What people and published codes write."""
    shutil.copytree(ROOT / "baselines", "baselines", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "splits", "splits", dirs_exist_ok=True)
    for name in (
        "params.yaml",
        "cluster.yaml",
        "reports/published.csv",
        "reports/published_studies.csv",
        "reports/references.bib",
    ):
        shutil.copy(ROOT / name, Path(name).name)
    folder_data.describe()
    Path("list.txt").write_text("\n".join(f"photos/p{n:02d}.png masks/p{n:02d}.png" for n in range(20)))
    write_tuned("mine")
    return {
        "params.yaml": Kind(Path("params.yaml"), lambda path: load(Params, path), "params.yaml"),
        "cluster.yaml": Kind(Path("cluster.yaml"), lambda path: load(ClusterConfig, path), "cluster.yaml"),
        "yaml of a method": Kind(Path("baselines/cps.yaml"), lambda _: read_config("baselines/cps@late"), "cps"),
        "yaml of own images": Kind(Path("datasets/mine.yaml"), lambda path: load(FolderConfig, path), "mine.yaml"),
        "yaml of lists": Kind(Path("splits/voc.yaml"), lambda _: split_lists.published("voc"), "voc.yaml"),
        "what tuning chose": Kind(Path("tuned/mine.yaml"), lambda _: read_tuned("mine"), "mine.yaml"),
        "trials": Kind(Path("tuned/mine.csv"), lambda _: digest_trials(read_trials("mine")), "mine.csv"),
        "list of images": Kind(Path("list.txt"), _read_list, "list.txt"),
        "published figures": Kind(Path("published.csv"), read_figures, "published.csv"),
        "published studies": Kind(Path("published_studies.csv"), read_studies, "published_studies.csv"),
        "references": Kind(Path("references.bib"), read_references, "references.bib"),
    }


def write_tuned(dataset: str) -> None:
    """What `rc2l-bench tune` leaves for one method."""
    settings = TuningConfig.model_validate_json(json.dumps(tiny_data.TUNING))
    trials = [Trial("baselines/cps", n, {"lr": 0.1 * n, "weight": 1.0}, 0.5, False, 1.5, "f" * 64) for n in range(4)]
    chosen = TunedMethod(numbers={"lr": 0.1, "weight": 1.0}, score=0.5, trials=4, diverged=0, seconds=6.0,
                         inputs="i" * 64, study=digest_trials(trials))  # fmt: skip
    tuning.write_tuned(dataset, settings, {"baselines/cps": chosen}, trials)


def _read_list(path: Path) -> list[str]:
    ids = {f"p{n:02d}": True for n in range(20)}
    return split_lists.parse(path.read_bytes(), str(path), LISTED, ids, "mine")


def write_state() -> dict[str, Kind]:
    """What a program leaves for itself, checkpoints and weights."""
    source = Source(name="file.bin", url="http://127.0.0.1:9/x", size=4, checksum=f"md5:{'0' * 32}", licence="none")
    Path("file.bin").write_bytes(b"1234")
    stamp(source, Path("file.bin"))
    replace_folder(Path("made/inner"), lambda folder: (folder / "x").touch())
    net = torch.nn.Linear(3, 2)
    Run(Path("store"), "f").save(1, {"method": net.state_dict(), "record": {"step": 1, "sums": {"a": torch.ones(2)}}})
    save_file(net.state_dict(), "linear.safetensors")
    save_file({QUERIES: torch.ones(3, 4)}, "maskformer.safetensors")
    Path("scaling").mkdir()
    Path("scaling/scaling.csv").write_text(
        "term,crop,pixels,bytes,seconds\nrmc,64,4096,9000,0.1\nrmc,128,16384,36000,0.4\n"
    )
    Path("scaling/exponents.csv").write_text("term,quantity,exponent,low,high\nrmc,bytes,1,0.9,1.1\n")
    measured = Path("scaling")
    weights = Path("linear.safetensors")
    checkpoint = next(Path("store/f").glob("*.ckpt"))
    return {
        "stamp": Kind(Path("file.bin.ok"), lambda _: is_stamped(source, Path("file.bin")), ""),
        "names of own folders": Kind(Path("made") / MADE, _replace, MADE),
        "checkpoint": Kind(checkpoint, _read_checkpoint, ""),
        "checkpoint with its hash": Kind(checkpoint, _read_resealed_checkpoint, checkpoint.name),
        "weights": Kind(weights, lambda path: check_weights(path, net.state_dict(), "linear"), weights.name),
        "weights of MaskFormer": Kind(Path("maskformer.safetensors"), read_maskformer, "maskformer.safetensors"),
        "table of scaling": Kind(measured / "scaling.csv", lambda _: show_scaling(measured, Path("out")), ""),
        "table of exponents": Kind(Path("scaling/exponents.csv"), lambda _: show_scaling(measured, Path("out")), ""),
    }


def write_jobs() -> dict[str, Kind]:
    """What command line and tasks of a cluster leave for one another."""
    submission = Submission(Path("jobs/1"))
    submission.folder.mkdir(parents=True)
    submission.write_number(41, 1)
    submission.write_task(0, Assignment(title="t", module=["m"], expected={"cell": {}}, nodes=1, processes=1))
    submission.write_state(0, TaskState(state="done", code=0, host="n1", restarts=0))
    submission.log(0).write_text("step 3\nerror: loss is nan\n")
    return {
        "number of a job": Kind(submission.folder / "job.json", lambda _: list(submission.places()), "job.json"),
        "task of a job": Kind(submission.folder / "0.json", lambda _: submission.task(0), "0.json"),
        "state of a task": Kind(submission.folder / "0.state", lambda _: submission.state(0), "0.state"),
        "log of a task": Kind(submission.log(0), lambda _: submission.last_words(0), ""),
    }


def _replace(_: Path) -> None:
    (Path("made") / "inner").mkdir(exist_ok=True)
    replace_folder(Path("made/inner"), lambda folder: (folder / "x").touch())
    for rest in Path("made").glob("inner.wrong*"):
        shutil.rmtree(rest)


def _read_checkpoint(path: Path) -> None:
    before = path.read_bytes()
    assert Run(Path("store"), "f").load(torch.device("cpu")) is None or path.read_bytes() == before


def _read_resealed_checkpoint(path: Path) -> None:
    content = path.read_bytes()[32:]
    path.write_bytes(hashlib.sha256(content).digest() + content)
    Run(Path("store"), "f").load(torch.device("cpu"))


GROUPS = {
    "results": write_results,
    "prepared": write_prepared,
    "pictures": write_pictures,
    "archives": write_archives,
    "texts": write_texts,
    "state": write_state,
    "jobs": write_jobs,
}
