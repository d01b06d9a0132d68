"""What needs a GPU, marked ``cuda``; and that the benchmark of it runs without one."""

import ast
import json
from dataclasses import replace
from functools import partial
from unittest import mock

import pytest
import torch
from conftest import ROOT

from benchmarks import cuda, cuda_checks, paper_curve
from benchmarks.graphs import GraphTraining, KeptConstants, Recorded, sort_by_class
from descargan import metrics
from descargan.device import autocast, enough_memory
from descargan.errors import UserError
from descargan.models import build_networks
from descargan.options import Options
from descargan.steps import Batch, TrainingState, train_step

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SMALL = Options(image_size=64, base_filters=4, critic_filters=4, batch_size=4, flip="both")
missing = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def on_cuda(test):
    return pytest.mark.cuda(missing(test))


@on_cuda
def test_forward_losses_and_gradients_are_those_of_the_cpu():
    """In float32, TF32 and mixed precision, each within its tolerance."""
    assert cuda_checks.beyond(cuda_checks.parity(CUDA)) == []


@on_cuda
def test_every_layer_stays_in_channels_last():
    assert cuda_checks.out_of_channels_last(CUDA) == []


@on_cuda
def test_a_resumed_run_is_the_same_to_the_bit():
    assert cuda_checks.resumed_difference(CUDA) == 0.0


@on_cuda
def test_graphs_repeat_the_iterations():
    assert cuda_checks.graph_difference(CUDA) < 1e-4


@on_cuda
def test_the_loop_does_not_wait_for_the_device():
    cuda_checks.iterate_without_waiting(CUDA)


@on_cuda
def test_a_full_gpu_is_one_sentence():
    assert "--batch-size" in cuda_checks.sentence_when_full(CUDA)


def test_out_of_memory_names_what_makes_training_smaller():
    full = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    with pytest.raises(UserError, match="--batch-size or --image-size, or --amp"), enough_memory():
        raise full


def test_a_nan_is_far_from_every_number():
    one = {"loss": torch.ones(1)}
    assert cuda_checks.difference({"loss": torch.tensor([torch.nan])}, one) == {"loss": torch.inf}


def test_mixed_precision_reaches_the_convolutions_of_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    found = []
    _, discriminator = build_networks(SMALL)
    discriminator.encoder[0].register_forward_hook(lambda *_: found.append(_[-1].dtype))
    with torch.no_grad(), autocast(CPU, True):
        discriminator(torch.zeros(1, 1, 64, 64), 0)
    assert found == [torch.bfloat16]


def test_a_tensor_of_the_cpu_is_sent_once():
    with KeptConstants():
        first, again = (torch.arange(3).to("meta", non_blocking=True) for _ in range(2))
        other = torch.arange(4).to("meta", non_blocking=True)
    assert first is again
    assert first is not other
    assert first.is_meta


def terms_in(order):
    """The losses of one iteration on three images in an order of theirs, without dropout."""
    torch.manual_seed(0)
    networks = build_networks(SMALL)
    networks[1].classifier[6].p = 0.0
    state = TrainingState(*networks, SMALL, CPU)
    images, noise = torch.rand(2, 3, 1, 64, 64)
    classes = torch.tensor([1, 0, 1])[order]
    batch = Batch((2 * images - 1)[order], classes, SMALL.noise * noise[order], classes)
    with mock.patch.object(torch, "rand", lambda number, **_: torch.full((number,), 0.3)):
        return train_step(state, batch, SMALL)


def test_no_loss_depends_on_the_order_of_a_batch():
    """So that graphs may sort it by class."""
    found, expected = terms_in([1, 0, 2]), terms_in([0, 1, 2])
    for name, value in expected.items():
        if "norm" not in name:  # which a rounding of the weights' gradients changes more
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_a_sorted_batch_holds_the_same_images():
    classes = torch.tensor([0, 1, 1, 0, 1])
    assert sort_by_class(torch.tensor([4, 0, 2, 3]), classes).tolist() == [0, 3, 4, 2]


def test_training_by_graphs_draws_the_batches_of_training(synthetic):
    from descargan.training import Process, Training

    options = replace(SMALL, dataset_path=synthetic)
    training = Training(options, CPU, Process())
    graphs = GraphTraining.of(options, CPU, training.images)
    assert torch.equal(graphs.images, training.images.__getitems__(list(range(12)))[0])
    for ours, theirs in zip(graphs.batches_of(1), training.batches_of(1), strict=True):
        assert torch.equal(ours, theirs)


def test_the_loop_reads_no_loss_between_records(synthetic, tmp_path, monkeypatch):
    """On a GPU each reading would wait. The losses are all that is in single precision."""
    from descargan.progress import Bar
    from descargan.training import Process, Training

    options = replace(
        SMALL, dataset_path=synthetic, save_dir=tmp_path, epochs=2, critic_steps=2, log_every=3
    )
    training = Training(options, CPU, Process())
    monkeypatch.setattr(training, "check_on_validation", lambda: None)
    monkeypatch.setattr(training, "save", lambda: None)
    training.run.folder.mkdir(exist_ok=True)
    read = []

    def watch(name):
        original = getattr(torch.Tensor, name)

        def noted(self, *arguments):
            if self.dtype == torch.float32:
                read.append((training.state.iteration, name))
            return original(self, *arguments)

        monkeypatch.setattr(torch.Tensor, name, noted)

    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        watch(name)
    training.loop(training.length, [], Bar(disable=True))
    assert read == [(3, "tolist"), (6, "tolist")]


@pytest.fixture
def benchmark_on_the_cpu(tmp_path, monkeypatch):
    """Runs benchmarks/cuda.py as small as it is at all, in this process; what it has found."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(cuda, "speed_up_process", lambda: None)
    monkeypatch.setattr(metrics, "with_interval", partial(metrics.with_interval, samples=20))

    def dry_run(*arguments):
        command = ["--device", "cpu", "--tiny", "--out", tmp_path, *arguments]
        assert cuda.main([str(word) for word in command]) == 0
        return json.loads((tmp_path / "cuda.json").read_text())

    return dry_run


def test_the_benchmark_runs_on_the_cpu(benchmark_on_the_cpu, tmp_path):
    found = benchmark_on_the_cpu()
    assert all(row["as it should be"] for row in found["checks"])
    assert all(row["share of the bound"] > 0 for row in found["speed"])
    assert found["recipe at 64"]["iterations"] == found["recipe at 64"]["of"]
    assert "pixel_auroc" in found["curve at 64"][-1]
    written = {"cuda.json", "cuda.md", "curve-64.jsonl", "examples-64.png", "generator-64.pt"}
    assert {path.name for path in tmp_path.iterdir()} == written


def test_what_was_not_read_is_left_empty_in_the_table():
    read = dict.fromkeys(paper_curve.COLUMNS, 0.25) | {"iteration": 8000}
    lacking = {name: value for name, value in read.items() if name != "best dice"}
    *_, first, second = paper_curve.table([read, lacking]).splitlines()
    assert first == "| 8,000 | 0.250 | 0.250 | 0.250 | 0.250 | 0.250 | 0.250 |"
    assert second == "| 8,000 | 0.250 | 0.250 |  | 0.250 | 0.250 | 0.250 |"


def test_only_recorded_kinds_are_counted_as_graphs():
    training = cuda_checks.one_kind(SMALL, CPU)
    training.iterate()
    assert training.number_of_graphs == 0
    training.recorded["another"] = Recorded(None, torch.arange(4))
    assert training.number_of_graphs == 1


def modules_of(path, found):
    """The project's modules that a file imports when it is imported, and these in turn."""
    for node in ast.parse(path.read_text()).body:
        names = [alias.name for alias in getattr(node, "names", [])]
        if isinstance(node, ast.ImportFrom):
            names = [node.module, *(f"{node.module}.{name}" for name in names)]
        elif not isinstance(node, ast.Import):
            continue
        for name in set(names) - found:
            found.add(name)
            file = ROOT / f"{name.replace('.', '/')}.py"
            if file.is_file():
                modules_of(file, found)
    return found


def test_the_benchmark_needs_neither_visdom_nor_main():
    """Which the machine with the GPU may lack."""
    found = modules_of(ROOT / "benchmarks" / "cuda.py", set())
    assert "descargan.steps" in found
    assert not found & {"visdom", "main", "descargan.dashboard"}
