"""The model card of an exported network: Markdown under YAML that a hub of models reads.

Reference: Mitchell et al., "Model cards for model reporting", FAT* 2019.
"""

from __future__ import annotations

from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from rc2l_bench.deployment.exported_network import Format
from rc2l_bench.deployment.loading import LoadedRun
from rc2l_bench.deployment.model_facts import Facts
from rc2l_bench.report.formatting import percent
from rc2l_bench.report.rendering import escape_markdown
from rc2l_bench.variants import describe_method

USE: dict[Format, str] = {
    "onnx": """\
import numpy as np, onnxruntime, PIL.Image
session = onnxruntime.InferenceSession("{file}")
classes = session.run(["classes"], {{"image": np.array(PIL.Image.open("photo.jpg").convert("RGB"))[None]}})[0][0]
""",
    "torch": """\
import numpy as np, torch, PIL.Image
network = torch.export.load("{file}").module(check_guards=False)
logits, classes = network(torch.from_numpy(np.array(PIL.Image.open("photo.jpg").convert("RGB")))[None])
""",
}
LIBRARY: dict[Format, str] = {"onnx": "onnx", "torch": "pytorch"}


def write_card(run: LoadedRun, facts: Facts, file: str) -> str:
    """Describe an exported network for whoever finds it.

    Args:
        run: whose network it is.
        facts: see `model_facts.collect_facts`.
        file: name of the exported file.
    """
    sections = (
        ("What it is", _purpose(run, facts)),
        ("How to use it", [f"```python\n{USE[facts['format']].format(file=file)}```", *_feeding(facts)]),
        ("Data and labels", _data(run, facts)),
        ("Method and protocol", _method(run, facts)),
        ("Scores", _scores(facts)),
        ("Limits", _limits(run, facts)),
        ("Licence", _licence(facts)),
        ("Provenance", _provenance(facts)),
    )
    body = "\n\n".join(f"## {title}\n\n" + "\n\n".join(texts) for title, texts in sections)
    return f"---\n{_front(run, facts)}\n---\n\n# {escape_markdown(run.name)}\n\n{body}\n"


def _front(run: LoadedRun, facts: Facts) -> str:
    """YAML in the form that hubs read; names of data sets are ours, so they are no links to data sets of a hub."""
    cell = facts["cell"]
    results = [
        EvalResult(
            task_type="image-segmentation", dataset_type=cell["dataset"], dataset_name=cell["dataset"],
            dataset_split=part, metric_type="mean_iou", metric_name="mIoU", metric_value=score["miou"],
        )
        for part, score in facts["scores"].items()
    ]  # fmt: skip
    data = ModelCardData(
        license="other", license_name="terms-of-the-training-data", library_name=LIBRARY[facts["format"]],
        pipeline_tag="image-segmentation", tags=["semantic-segmentation", "semi-supervised-learning", "rc2l-bench"],
        model_name=run.name, eval_results=results or None,
    )  # fmt: skip
    text: str = data.to_yaml().strip()
    return text


def _purpose(run: LoadedRun, facts: Facts) -> list[str]:
    method = escape_markdown(describe_method(facts["cell"]["method"]))
    names = escape_markdown(", ".join(run.classes))
    return [
        f"A network that finds the class of every pixel of a picture, one of {len(run.classes)}: {names}. It was "
        f"trained by `{facts['cell']['method']}`{f' ({method})' if method else ''} with {facts['made_by']}."
    ]


def _feeding(facts: Facts) -> list[str]:
    least, evaluation = facts["input"]["least_height_and_width"], facts["evaluation"]
    feeding = (
        f"`image` is (batch, height, width, 3), uint8, red green blue, any size from {least} × {least}; `classes` are "
        "indices of the list above, the softmax of `logits` over its second axis is the probability."
    )
    if evaluation["one_pass_is_as_scored"]:
        return [feeding]
    rule = evaluation["protocol"]
    if rule["mode"] == "center_crop":
        height, width = rule["window"]
        return [feeding, f"It was scored on the middle of pictures alone, {height} × {width} pixels, cut out before."]
    return [
        feeding,
        f"It was scored through overlapping windows of {rule['window'][0]} × {rule['window'][1]} pixels, each "
        f"{rule['stride']:g} of a window after the last, whose results are combined ({rule['combine']}): cut them from "
        "large pictures, or expect other scores.",
    ]


def _data(run: LoadedRun, facts: Facts) -> list[str]:
    cell, labels = facts["cell"], facts["labels"]
    unlabelled = labels["unlabelled"]
    rest = "a stream of images" if unlabelled is None else f"{unlabelled:,} images"
    return [
        f"Data set `{cell['dataset']}`, split `{cell['split']}`, seed {cell['seed']}: "
        f"{labels['labelled']:,} labelled images; {rest} without labels were there for methods that look at them. "
        f"All images fit {run.canvas[0]} × {run.canvas[1]} pixels.",
    ]


def _method(run: LoadedRun, facts: Facts) -> list[str]:
    protocol, record = run.protocol, run.record
    tuning = facts["tuning"] or {}
    numbers = ", ".join(f"{name} {value:g}" for name, value in tuning.get("numbers", {}).items())
    tuned = f"tuned in {tuning['trials']} trials: {numbers}" if tuning.get("status") == "tuned" else "not tuned"
    weights = record["protocol"]["net"]["weights"]
    return [
        f"Backbone `{protocol.net.backbone}` (began with weights: {escape_markdown(weights)}), crops of "
        f"{protocol.crop[0]} × {protocol.crop[1]}, {protocol.steps:,} steps of {protocol.batch.labelled} labelled and "
        f"{protocol.batch.unlabelled} unlabelled images, {protocol.optimiser.name} with learning rate "
        f"{protocol.optimiser.lr:g} as declared. Its numbers were {tuned}. What is scored: "
        f"{record.get('scored', 'the network')}."
    ]


def _scores(facts: Facts) -> list[str]:
    if not facts["scores"]:
        return ["None is known."]
    rows = [f"| {part} | {percent(score['miou'])} | {_interval(score)} |" for part, score in facts["scores"].items()]
    table = "\n".join(["| part | mIoU, % | 95 % interval |", "|---|---:|---|", *rows])
    return [table, "After the last step. An interval is for other images of the same kind, with this network."]


def _interval(score: dict[str, Any]) -> str:
    if score["interval"] is None:
        return "unknown: no counts per image"
    low, high = map(percent, score["interval"])
    return f"[{low}, {high}], over {score['images']} images"


def _limits(run: LoadedRun, facts: Facts) -> list[str]:
    limits = [
        "It knows the classes above and nothing else: every pixel gets one of them, whatever it shows.",
        "It knows the size of things, the light and the cameras of its training images; other pictures may score less.",
        "Another seed or another choice of labels gives another network, which no interval here covers.",
    ]
    if run.record.get("protocol_changes"):
        limits.append("Its protocol differs from the declared one of the data set, see `run.json`.")
    if facts["cell"]["dataset"].removeprefix("tuning-") == "shapes":
        limits.append("Its images are drawn by a program: it is good for tests of software, not for photos.")
    return ["\n".join(f"- {limit}" for limit in limits)]


def _licence(facts: Facts) -> list[str]:
    return [
        f"Of the data: {escape_markdown(facts['licence_of_the_data'])}. Whoever trained the network decides on that "
        "of its weights, within the terms of the data and of the weights that its backbone began with. rc2l-bench is "
        "Apache-2.0."
    ]


def _provenance(facts: Facts) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    check = facts["compared_with_the_network"]
    sizes = " and ".join(f"{height} × {width}" for height, width in check["sizes"])
    return [
        f"Fingerprint `{facts['fingerprint']}`: sha256 of data, split, protocol, method, code, versions and seed. "
        f"Trained with {versions}. The file was run beside the network on pictures of {sizes} pixels: probabilities "
        f"differ by at most {check['largest_difference']:.1g}."
    ]
