from __future__ import annotations

import sys

import pytest
import tiny_data
import torch
from torch import nn

from rc2l_bench.errors import UsageError
from rc2l_bench.methods.contract import Teacher, build, load_class, load_config

MODULE = """
from rc2l_bench.methods.contract import Method

class {name}(Method):
    pass
"""


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


def moved(student: nn.Module) -> None:
    with torch.no_grad():
        for tensor in [*student.parameters(), *student.buffers()]:
            tensor.add_(1)


def test_a_teacher_begins_as_a_copy():
    student = net()
    teacher = Teacher(student, 0.99, "average")
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), teacher.net.parameters(), strict=True))
    assert all(a is not b for a, b in zip(student.parameters(), teacher.net.parameters(), strict=True))


def test_the_decay_warms_up_and_then_stays():
    student = nn.Linear(1, 1, bias=False)
    teacher = Teacher(student, 0.7, "average")
    assert isinstance(teacher.net, nn.Linear)
    expected = student.weight.item()
    for update in range(6):
        with torch.no_grad():
            student.weight.fill_(float(update * update))
        teacher.update(student)
        decay = min(0.7, update / (update + 1))
        expected = decay * expected + (1 - decay) * update * update
        assert teacher.net.weight.item() == pytest.approx(expected)


def test_the_first_update_copies_the_student():
    student = net()
    teacher = Teacher(student, 0.99, "average")
    moved(student)
    teacher.update(student)
    for mine, theirs in zip(teacher.net.state_dict().values(), student.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(("rule", "share"), [("average", 0.5), ("copy", 1.0)])
def test_batch_norm_statistics_follow_the_rule(rule, share):
    student = net()
    teacher = Teacher(student, 0.5, rule)
    teacher.update(student)
    moved(student)
    teacher.update(student)
    norm = teacher.net.get_submodule("1")
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.running_mean is not None
    assert torch.allclose(norm.running_mean, torch.full((4,), share))
    assert norm.num_batches_tracked == 1, "counters are copied, not averaged"


def test_a_teacher_never_gets_gradients():
    teacher = Teacher(net(), 0.9, "average")
    out = teacher(torch.randn(5, 3, requires_grad=True))
    assert not out.requires_grad
    assert not any(p.requires_grad for p in teacher.parameters())


def test_updating_builds_no_graph():
    student = net()
    teacher = Teacher(student, 0.9, "copy")
    teacher.update(student)
    teacher.update(student)
    assert all(p.grad_fn is None for p in [*teacher.net.parameters(), *teacher.net.buffers()])


def test_a_teacher_stays_in_eval_mode():
    whole = nn.ModuleList([Teacher(net(), 0.9, "average")])
    whole.train()
    assert not any(module.training for module in whole[0].get_submodule("net").modules())
    image = torch.randn(5, 3)
    assert torch.equal(whole[0](image), whole[0](image)), "dropout is off"
    whole.eval()
    whole.train()
    assert not any(module.training for module in whole[0].get_submodule("net").modules())


def test_a_teacher_survives_a_restart():
    student = net()
    teacher = Teacher(student, 0.6, "average")
    for _ in range(3):
        moved(student)
        teacher.update(student)
    other = Teacher(net(), 0.6, "average")
    other.load_state_dict(teacher.state_dict())
    moved(student)
    teacher.update(student)
    other.update(student)
    for mine, theirs in zip(teacher.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A package `baselines` that stands before the real one."""

    def imported() -> list[str]:
        return [name for name in sys.modules if name.partition(".")[0] == "baselines"]

    for name in imported():
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "baselines").mkdir()
    (tmp_path / "baselines/__init__.py").touch()
    yield tmp_path / "baselines"
    for name in imported():
        del sys.modules[name]


def test_an_id_is_the_place_of_its_class(folder):
    (folder / "good.py").write_text(MODULE.format(name="Good") + "from rc2l_bench.methods.contract import Teacher\n")
    assert load_class("baselines/good").__name__ == "Good"


@pytest.mark.parametrize("method", ["baselines/nothing", "nowhere/x", "baselines/good/deeper"])
def test_an_unknown_method_is_told(folder, method):
    (folder / "good.py").write_text(MODULE.format(name="Good"))
    with pytest.raises(UsageError, match=f"unknown method '{method}'"):
        load_class(method)


def test_a_module_without_a_method_is_told(folder):
    (folder / "none.py").write_text("from rc2l_bench.methods.contract import Method\n")
    with pytest.raises(UsageError, match=r"none\.py must define exactly one Method, it defines \[\]"):
        load_class("baselines/none")


def test_a_module_with_two_methods_is_told(folder):
    (folder / "two.py").write_text(MODULE.format(name="First") + MODULE.format(name="Second"))
    with pytest.raises(UsageError, match=r"First.*Second"):
        load_class("baselines/two")


def test_a_missing_package_inside_a_method_is_not_called_an_unknown_method(folder):
    (folder / "needy.py").write_text("import a_package_that_is_not_there\n")
    with pytest.raises(ModuleNotFoundError, match="a_package_that_is_not_there"):
        load_class("baselines/needy")


def test_a_method_without_its_yaml_is_told(folder):
    (folder / "bare.py").write_text(MODULE.format(name="Bare"))
    with pytest.raises(UsageError, match=r"bare\.yaml: cannot be read"):
        load_config("baselines/bare")


def test_a_mistake_in_the_yaml_of_a_method_is_told(folder):
    (folder / "good.py").write_text(MODULE.format(name="Good"))
    (folder / "good.yaml").write_text("views: {stronk: 2}\n")
    with pytest.raises(UsageError, match=r"views\.stronk: unknown key; did you mean 'strong'\?"):
        load_config("baselines/good")


def test_parameters_are_grouped_by_backbone_and_head(protocol):
    method = build("baselines/supervised", load_config("baselines/supervised"), protocol, 3)
    (backbone, first), (head, second) = method.param_groups()
    assert (first, second) == (False, True)
    student = method.get_submodule("student")
    assert {id(p) for p in backbone} == {id(p) for p in student.get_submodule("backbone").parameters()}
    assert {id(p) for p in backbone + head} == {id(p) for p in method.parameters()}
    assert len(backbone) + len(head) == len({id(p) for p in method.parameters()})


def test_parameters_that_are_not_trained_are_in_no_group(protocol):
    method = build("baselines/supervised", load_config("baselines/supervised"), protocol, 3)
    method.teacher = Teacher(method.get_submodule("student"), 0.9, "average")
    method.get_submodule("student.classifier").requires_grad_(False)
    grouped = {id(p) for group, _ in method.param_groups() for p in group}
    assert not grouped & {id(p) for p in method.teacher.parameters()}
    assert not grouped & {id(p) for p in method.get_submodule("student.classifier").parameters()}


def test_a_method_without_backbone_has_one_group(protocol):
    method = build("baselines/supervised", load_config("baselines/supervised"), protocol, 3)
    method.get_submodule("student.backbone").requires_grad_(False)
    assert [is_head for _, is_head in method.param_groups()] == [True]


def test_the_same_seed_builds_the_same_method():
    def state() -> list[torch.Tensor]:
        torch.manual_seed(3)
        config = load_config("baselines/supervised")
        return list(build("baselines/supervised", config, tiny_data.protocol(), 3).state_dict().values())

    assert all(torch.equal(a, b) for a, b in zip(state(), state(), strict=True))
