"""Files of weights and states: whole or refused, ours and the official ones."""

import json
import os
import pickle

import pytest
import torch

from descargan.checkpoints import (
    Run,
    load_weights,
    read_file,
    read_weights,
    sizes_of,
    write_file,
)
from descargan.errors import UserError
from descargan.files import write_atomically
from descargan.models import Discriminator, Generator
from descargan.settings import saved_options


def official_generator(f):
    """The layout of the official generator weights, for any number of base filters."""
    blocks = {
        "down0": [(3, f), (f, f)],
        "down1": [(f, 2 * f), (2 * f, 2 * f)],
        "down2": [(2 * f, 4 * f), (4 * f, 4 * f)],
        "down3": [(4 * f, 8 * f), (8 * f, 8 * f)],
        "conv5": [(8 * f, 4 * f), (4 * f, 4 * f)],
        "conv6": [(4 * f, 2 * f), (2 * f, 2 * f)],
        "conv7_k": [(f, f), (f, 1)],
        "conv7_g": [(f, f), (f, 1)],
    }
    layers = []
    for name, convolutions in blocks.items():
        first = 1 if name in ("down1", "down2", "down3") else 0
        for i, (inputs, outputs) in enumerate(convolutions, start=first):
            layers.append((f"{name}.{i}.0", f"{name}.{i}.1", inputs, outputs))
    for name, inputs in (("up3", 8 * f), ("up2", 4 * f), ("up1", 2 * f)):
        layers.append((f"{name}.0.1", f"{name}.1", inputs, inputs // 2))
    state = {}
    for conv, norm, inputs, outputs in layers:
        state[f"module.{conv}.weight"] = torch.randn(outputs, inputs, 3, 3)
        state[f"module.{conv}.bias"] = torch.randn(outputs)
        for name in ("weight", "bias", "running_mean", "running_var"):
            state[f"module.{norm}.{name}"] = torch.rand(outputs)
        state[f"module.{norm}.num_batches_tracked"] = torch.tensor(7)
    return state


def official_discriminator(f, size):
    shapes = {
        "encoder.0.0": (f, 1, 3),
        "encoder.2.0": (2 * f, f, 3),
        "encoder.4.0": (4 * f, 2 * f, 3),
        "encoder.5.0": (4 * f, 4 * f, 3),
        "encoder.7.0": (8 * f, 4 * f, 3),
        "encoder.8.0": (8 * f, 8 * f, 3),
        "encoder.10.0": (8 * f, 8 * f, 3),
        "encoder.11.0": (8 * f, 8 * f, 3),
        "encoder.13.0": (16 * f, 8 * f, 3),
        "conv2.0.0": (16 * f, 16 * f, 3),
        "conv2.1.0": (16 * f, 16 * f, 3),
    }
    for head in ("conv_k", "conv_g"):
        shapes |= {f"{head}.{i}.0": (16 * f, 16 * f, 3) for i in (0, 1)}
        shapes[f"{head}.2.0"] = (1, 16 * f, 1)
    state = {}
    for name, (outputs, inputs, kernel) in shapes.items():
        state[f"module.{name}.weight"] = torch.randn(outputs, inputs, kernel, kernel)
        state[f"module.{name}.bias"] = torch.randn(outputs)
    for name, outputs, inputs in (("1", 64, 16 * f * (size // 64) ** 2), ("4", 2, 64)):
        state[f"module.linearclass.{name}.weight"] = torch.randn(outputs, inputs)
        state[f"module.linearclass.{name}.bias"] = torch.randn(outputs)
    return state


def test_the_official_layout_at_the_release_size():
    """Its parameters are as many as those of our networks."""
    generator, discriminator = official_generator(64), official_discriminator(32, 256)
    for state, network in ((generator, Generator()), (discriminator, Discriminator())):
        learnt = [v for k, v in state.items() if "running" not in k and "tracked" not in k]
        assert sum(v.numel() for v in learnt) == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("filters", [1, 4])
def test_official_weights_load_for_any_number_of_filters(tmp_path, filters):
    torch.save(official_generator(filters), tmp_path / "G.pt")
    torch.save(official_discriminator(filters, 128), tmp_path / "D.pt")
    states = read_weights(tmp_path / "G.pt"), read_weights(tmp_path / "D.pt")
    assert sizes_of(*states) == {
        "base_filters": filters,
        "critic_filters": filters,
        "image_size": 128,
    }
    generator, discriminator = Generator(1, filters), Discriminator(1, filters, 128)
    load_weights(generator, tmp_path / "G.pt")
    load_weights(discriminator, tmp_path / "D.pt")
    saved = torch.load(tmp_path / "G.pt", weights_only=True)
    pairs = {
        "up3.0.1.weight": generator.up3[0].weight,
        "up1.1.running_var": generator.up1[1].running_var,
        "conv5.1.0.bias": generator.merge2[1][0].bias,
        "conv7_g.0.0.weight": generator.heads[0][0][0].weight,
        "conv7_k.1.1.weight": generator.heads[1][1][1].weight,
    }
    for name, value in pairs.items():
        assert torch.equal(saved[f"module.{name}"], value), name
    saved = torch.load(tmp_path / "D.pt", weights_only=True)
    pairs = {
        "conv_g.2.0.weight": discriminator.critics[0][2].weight,
        "conv_k.0.0.bias": discriminator.critics[1][0][0].bias,
        "linearclass.4.weight": discriminator.classifier[7].weight,
    }
    for name, value in pairs.items():
        assert torch.equal(saved[f"module.{name}"], value), name


def test_official_weights_work_in_the_old_file_format(tmp_path):
    torch.save(official_generator(2), tmp_path / "G.pt", _use_new_zipfile_serialization=False)
    load_weights(Generator(1, 2), tmp_path / "G.pt")


def test_weights_survive_a_round_trip(tmp_path):
    generator = Generator(base_filters=2)
    write_file(tmp_path / "G.pt", generator.state_dict())
    other = Generator(base_filters=2)
    load_weights(other, tmp_path / "G.pt")
    for a, b in zip(generator.state_dict().values(), other.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_half_precision_weights_load(tmp_path):
    generator = Generator(base_filters=2)
    half = {k: v.half() if v.is_floating_point() else v for k, v in generator.state_dict().items()}
    write_file(tmp_path / "G.pt", half)
    load_weights(generator, tmp_path / "G.pt")
    assert generator.down0[0][0].weight.dtype == torch.float32


def test_weights_of_other_networks_are_refused_and_change_nothing(tmp_path):
    write_file(tmp_path / "G.pt", Generator(base_filters=4).state_dict())
    write_file(tmp_path / "D.pt", Discriminator(1, 2, 64).state_dict())
    generator = Generator(base_filters=2)
    before = {k: v.clone() for k, v in generator.state_dict().items()}
    with pytest.raises(UserError, match="--base-filters"):
        load_weights(generator, tmp_path / "G.pt")
    with pytest.raises(UserError, match="no weights of a generator"):
        load_weights(generator, tmp_path / "D.pt")
    for key, value in generator.state_dict().items():
        assert torch.equal(value, before[key])


def test_weights_that_are_not_finite_are_refused(tmp_path):
    state = Generator(base_filters=2).state_dict()
    state["up3.0.bias"][1] = float("nan")
    torch.save(state, tmp_path / "G.pt")
    with pytest.raises(UserError, match=r"NaN.*up3\.0\.bias"):
        load_weights(Generator(base_filters=2), tmp_path / "G.pt")


@pytest.mark.parametrize(
    "content",
    [b"", b"not a checkpoint", pickle.dumps([1, 2], protocol=2), b"PK\x03\x04" + bytes(100)],
)
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "G.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"G\.pt"):
        load_weights(Generator(base_filters=2), tmp_path / "G.pt")


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_malicious_pickle_runs_nothing(tmp_path, zipped):
    evil = {"weight": Malicious(str(tmp_path / "owned"))}
    torch.save(evil, tmp_path / "G.pt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="nothing else is read"):
        load_weights(Generator(base_filters=2), tmp_path / "G.pt")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("position", [0.1, 0.5, 0.999])
def test_a_flipped_bit_or_a_truncated_file_is_refused(tmp_path, position):
    path = tmp_path / "G.pt"
    write_file(path, Generator(base_filters=2).state_dict())
    content = bytearray(path.read_bytes())
    index = int(position * len(content))
    content[index] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        read_file(path)
    content[index] ^= 1
    path.write_bytes(content)
    read_file(path)
    path.write_bytes(content[:index])
    with pytest.raises(UserError, match="damaged"):
        read_file(path)


@pytest.fixture
def dying(monkeypatch):
    """A write of a checkpoint that dies after its checksum."""

    def die(file, content, previous=None):
        if file.suffix != ".sha256":
            raise KeyboardInterrupt
        write_atomically(file, content, previous)

    def write(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr("descargan.checkpoints.write_atomically", die)
            with pytest.raises(KeyboardInterrupt):
                write_file(*arguments)

    return write


@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_writes_that_die_before_the_rename_leave_the_old_file_valid(tmp_path, dying, deaths):
    path = tmp_path / "G.pt"
    write_file(path, {"a": torch.zeros(3)})
    for number in range(deaths):
        dying(path, {"a": torch.full((3,), number + 1.0)})
    assert not read_file(path)["a"].any()


def run_with_states(folder, numbers):
    run = Run(folder, "Synthetic")
    weights = {n: {"w": torch.zeros(1)} for n in ("generator", "averaged", "discriminator")}
    for number in numbers:
        run.save({"iteration": number, **weights})
    return run


def test_the_previous_state_steps_in_for_a_damaged_one(tmp_path, capsys):
    run = run_with_states(tmp_path, [1, 2, 3])
    assert run.load_state()["iteration"] == 3
    run.state.write_bytes(run.state.read_bytes()[:-10])
    assert run.load_state()["iteration"] == 2
    warning = capsys.readouterr().err
    assert "damaged" in warning
    assert str(run.previous_state) in warning
    run.state.unlink()
    assert run.load_state()["iteration"] == 2


def test_the_previous_state_steps_in_after_writes_that_died(tmp_path, dying):
    run = run_with_states(tmp_path, [1, 2])
    for number in (3, 4):
        dying(run.state, {"iteration": number}, run.previous_state)
    run_with_states(tmp_path, [5])
    run.state.write_bytes(run.state.read_bytes()[:-10])
    assert run.load_state()["iteration"] == 2


def test_a_write_that_dies_after_a_damaged_state_leaves_the_previous_one_valid(tmp_path, dying):
    run = run_with_states(tmp_path, [1, 2, 3])
    run.state.write_bytes(run.state.read_bytes()[:-10])
    dying(run.state, {"iteration": 4}, run.previous_state)
    assert run.load_state()["iteration"] == 2


def test_a_write_that_dies_between_its_renames_twice_leaves_the_previous_one_valid(tmp_path, dying):
    run = run_with_states(tmp_path, [1, 2])
    run.state.replace(run.previous_state)
    dying(run.state, {"iteration": 3}, run.previous_state)
    assert run.load_state()["iteration"] == 2


def test_a_state_of_another_version_is_refused(tmp_path):
    run = run_with_states(tmp_path, [])
    write_file(run.state, {"version": 99})
    with pytest.raises(UserError, match="version"):
        run.load_state()


def test_metrics_history_survives_a_line_cut_off(tmp_path):
    run = run_with_states(tmp_path, [])
    common = {"kind": "losses", "epoch": 0.5}
    run.append_metrics({**common, "iteration": 1, "x": float("nan")})
    run.append_metrics({**common, "iteration": 5, "x": 2.0})
    with run.metrics.open("a") as file:
        file.write('{"kind": "los')
    assert [r["x"] for r in run.read_metrics()] == [None, 2.0]
    run.rewind_metrics(4)
    assert [r["iteration"] for r in run.read_metrics()] == [1]


@pytest.mark.parametrize(
    "line", [b"12", b'{"kinf": "losses", "iteration": 2, "epoch": 1.0}', b'{"kind": "\xff"}']
)
def test_metrics_history_survives_a_damaged_line(tmp_path, line):
    run = run_with_states(tmp_path, [])
    run.append_metrics(record := {"kind": "losses", "iteration": 1, "epoch": 0.5})
    with run.metrics.open("ab") as file:
        file.write(line + b"\n")
    run.append_metrics(record)
    assert run.read_metrics() == [record, record]


def test_checksums_that_are_no_text_are_those_of_another_file(tmp_path):
    run = run_with_states(tmp_path, [1])
    (tmp_path / "training_synthetic.pt.sha256").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is damaged, its checksum differs"):
        run.load_state()
    run_with_states(tmp_path, [2])
    assert run.load_state()["iteration"] == 2


@pytest.mark.parametrize(
    "said",
    [
        {"options": {}, "versions": None},
        {"options": {"epochs": "500"}, "versions": {}},
        {"options": {"average": None}, "versions": {}},
        {"options": {"save_dir": 1}, "versions": {}},
    ],
)
def test_damaged_options_are_named(tmp_path, said):
    run = Run(tmp_path, "Synthetic")
    run.options.write_text(json.dumps(said))
    with pytest.raises(
        UserError, match=r"options_synthetic\.json is damaged: restore or remove it"
    ):
        saved_options(run)
