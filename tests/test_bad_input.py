"""Everything a user gets wrong: status 2, one sentence that names it, nothing written over.

One row, one cause. Rows change a copy of a small, sound data set or run, or give a bad option.
"""

import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, TINY, Result, assert_refused, program
from PIL import Image

from descargan import cli

IMAGE = np.random.default_rng(0).random((64, 64)).astype(np.float32)


@pytest.fixture
def sound(synthetic, tmp_path):
    """A copy of the data set that a case may spoil."""
    return Path(shutil.copytree(synthetic, tmp_path / "data"))


def train(data, save, *arguments) -> Result:
    common = ["--dataset-path", data, "--save-dir", save, "--epochs", 1, "--visdom", "off"]
    return program("main.py", *TINY, *common, *arguments)


OPTIONS = [
    ("--mode", "fly"),
    ("--dataset", "MNIST"),
    ("--epochs", "0"),
    ("--epochs", "9" * 400),
    ("--batch-size", f"{10**20}"),
    ("--image-size", f"{10**11}"),
    ("--base-filters", f"{10**10}"),
    ("--workers", f"{10**10}"),
    ("--visdom-server", "http://localhost:8097"),
    ("--visdom-server", "ftp://localhost"),
    ("--visdom-server", "http://[::1"),
    ("--visdom-server", "http://a..b"),
    ("--visdom-server", "//localhost"),
    ("--visdom-server", ""),
    ("--dataset-path", ""),
    ("--after", ""),
    ("--scaling", "minmax"),
    ("--epochs", "ten"),
    ("--epochs", "1.5"),
    ("--batch-size", "0"),
    ("--batch-size", "-3"),
    ("--image-size", "0"),
    ("--base-filters", "0"),
    ("--critic-filters", "x"),
    ("--learning-rate", "0"),
    ("--learning-rate", "-1"),
    ("--learning-rate", "inf"),
    ("--learning-rate", "fast"),
    ("--beta1", "1"),
    ("--beta2", "-0.1"),
    ("--clip-norm", "0"),
    ("--critic-steps", "0"),
    ("--noise", "-0.1"),
    ("--critic-adversarial", "nan"),
    ("--critic-penalty", "-1"),
    ("--critic-class", "-1"),
    ("--generator-adversarial", "-1"),
    ("--generator-identity", "much"),
    ("--generator-reconstruction", "-inf"),
    ("--generator-class", "-2"),
    ("--seed", "-1"),
    ("--seed", "1e3"),
    ("--workers", "-1"),
    ("--log-every", "0"),
    ("--validate-every", "0"),
    ("--average", "1"),
    ("--translation", "rotation"),
    ("--penalty-of", "max"),
    ("--flip", "vertical"),
    ("--device", "tpu"),
    ("--resume", "maybe"),
    ("--visdom", "perhaps"),
    ("--visdom-port", "0"),
    ("--visdom-port", "70000"),
    ("--no-such-option", "1"),
]


@pytest.mark.parametrize(("option", "value"), OPTIONS)
def test_an_option_out_of_range_or_of_the_wrong_type(synthetic, tmp_path, option, value):
    result = train(synthetic, tmp_path / "run", f"{option}={value}")
    assert_refused(result, option)
    assert not (tmp_path / "run").exists()


def replace(path, array):
    np.save(path, array)


def spoil_missing_split(data):
    shutil.rmtree(data / "validate")
    return "'validate'"


def spoil_two_spellings_of_a_split(data):
    shutil.copytree(data / "train", data / "Train")
    return "several folders"


def spoil_one_class(data):
    shutil.rmtree(data / "train" / "diseased")
    return "two class folders"


def spoil_third_class(data):
    shutil.copytree(data / "train" / "diseased", data / "train" / "other")
    return "'other'"


def spoil_unknown_names(data):
    (data / "train" / "healthy").rename(data / "train" / "group a")
    return "--healthy-class"


def spoil_empty_class(data):
    for path in (data / "train" / "healthy").iterdir():
        path.unlink()
    return "holds no image"


def spoil_wrong_suffix(data):
    for path in (data / "train" / "healthy").iterdir():
        path.rename(path.with_suffix(".dat"))
    return "holds no image"


def spoil_pictures_of_ones_own(data):
    for path in list((data / "train" / "healthy").iterdir()):
        Image.fromarray(np.zeros((64, 64), np.uint8)).save(path.with_suffix(".png"))
        path.unlink()
    return "images of your own and none of the synthetic set"


def spoil_arrays_of_ones_own(data):
    (data / "preparation.json").write_text("{}")
    return "images of your own and none of the synthetic set"


def spoil_mixed_sizes(data):
    replace(data / "train" / "healthy" / "0001.npy", IMAGE[:32, :32])
    return "0001.npy is 32 x 32"


def spoil_zero_bytes(data):
    (data / "train" / "diseased" / "0002.npy").write_bytes(b"")
    return "0002.npy cannot be read"


def spoil_truncated(data):
    path = data / "train" / "diseased" / "0002.npy"
    path.write_bytes(path.read_bytes()[:-100])
    return "0002.npy cannot be read"


def spoil_text(data):
    (data / "train" / "diseased" / "0002.npy").write_text("an image, honestly")
    return "0002.npy cannot be read"


def spoil_nan(data):
    replace(data / "train" / "healthy" / "0000.npy", np.where(IMAGE > 0.99, np.nan, IMAGE))
    return "0000.npy holds NaN"


def spoil_infinity(data):
    replace(data / "train" / "healthy" / "0000.npy", np.where(IMAGE > 0.99, np.inf, IMAGE))
    return "0000.npy holds NaN or infinity"


def spoil_nan_in_truth(data):
    replace(data / "validate" / "diseased" / "0000.npy", np.stack([IMAGE, IMAGE * np.nan]))
    return "0000.npy holds NaN"


def spoil_four_channels(data):
    replace(data / "train" / "healthy" / "0000.npy", np.stack([IMAGE] * 4))
    return "0000.npy has shape (4, 64, 64)"


def spoil_one_dimension(data):
    replace(data / "train" / "healthy" / "0000.npy", IMAGE.ravel())
    return "0000.npy has shape (4096,)"


def spoil_complex(data):
    replace(data / "train" / "healthy" / "0000.npy", IMAGE.astype(complex))
    return "0000.npy holds no array of real numbers"


def spoil_strings(data):
    replace(data / "train" / "healthy" / "0000.npy", np.full((64, 64), "a"))
    return "0000.npy holds no array of real numbers"


def spoil_objects(data):
    np.save(data / "train" / "healthy" / "0000.npy", np.array([{}, None], object), True)
    return "0000.npy cannot be read"


def spoil_folder_named_as_image(data):
    (data / "train" / "healthy" / "0009.npy").mkdir()
    return "0009.npy cannot be read"


def spoil_symlink_loop(data):
    (data / "train" / "healthy" / "0009.npy").symlink_to("0009.npy")
    return "0009.npy cannot be read"


def spoil_dangling_symlink(data):
    (data / "train" / "healthy" / "0009.npy").symlink_to("nowhere.npy")
    return "0009.npy cannot be read"


def spoil_names_with_spaces_and_letters(data):
    (data / "train" / "healthy" / "größe 1.npy").write_bytes(b"x")
    return "größe 1.npy cannot be read"


def spoil_everything(data):
    shutil.rmtree(data)
    return "create_synthetic_dataset.py"


def spoil_file_in_place_of_folder(data):
    shutil.rmtree(data)
    data.write_text("a file")
    return "is no folder"


SPOILS = [value for name, value in sorted(globals().items()) if name.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__.removeprefix("spoil_"))
def test_a_data_folder_gone_wrong(sound, tmp_path, spoil):
    mention = spoil(sound)
    result = train(sound, tmp_path / "run")
    assert_refused(result, mention, sound)
    assert not (tmp_path / "run").exists()


def test_a_save_folder_inside_a_file(synthetic, tmp_path):
    (tmp_path / "file").write_text("precious")
    assert_refused(train(synthetic, tmp_path / "file" / "run"), tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


def test_results_inside_a_file(synthetic, trained, tmp_path):
    (tmp_path / "file").write_text("precious")
    common = ["--dataset-path", synthetic, "--save-dir", trained, "--visdom", "off"]
    result = program("main.py", "--mode", "test", *common, "--results-dir", tmp_path / "file" / "x")
    assert_refused(result, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"


def as_nobody(call) -> int:
    """Exit status of ``call`` in a process without the rights of root."""
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            call()
            os._exit(0)
        except BaseException as error:
            print(error)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def open_to_all(folder):
    """Let everyone pass through the folders above, which pytest closes."""
    for parent in folder.parents:
        if str(parent) not in ("/", "/tmp"):
            parent.chmod(0o755)


def test_an_unreadable_file(sound, tmp_path):
    open_to_all(sound / "train")
    (sound / "train" / "healthy" / "0000.npy").chmod(0)

    def call():
        assert_refused(train(sound, tmp_path / "run"), "0000.npy cannot be read", "Permission")

    assert as_nobody(call) == 0


def test_a_read_only_output_folder(synthetic, tmp_path):
    open_to_all(synthetic / "train")
    locked = tmp_path / "locked"
    locked.mkdir()
    open_to_all(locked / "x")
    locked.chmod(0o555)

    def call():
        assert_refused(train(synthetic, locked / "run"), locked, "Permission denied")

    assert as_nobody(call) == 0


def test_a_port_that_another_program_holds(synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr("descargan.visdom_server.TIMEOUT_SECONDS", 0.5)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        number = listener.getsockname()[1]
        common = ["--dataset-path", synthetic, "--save-dir", tmp_path / "run"]
        on = ["--visdom", "on", "--visdom-port", number]
        assert_refused(program("main.py", *TINY, *common, *on), str(number))


def test_predicting_without_input(trained):
    assert_refused(program("main.py", "--mode", "predict", "--save-dir", trained), "--input")


def test_the_networks_of_the_project_are_for_no_other_kind_of_data(tmp_path):
    common = ["--save-dir", ROOT / "save_nets" / "pretrained", "--dataset-path", tmp_path]
    result = program("main.py", "--mode", "test", "--dataset", "Folder", *common)
    assert_refused(result, "know synthetic ellipses alone", "train on your own images first")


def test_best_weights_of_a_run_that_keeps_none(tmp_path):
    common = ["--save-dir", ROOT / "save_nets" / "pretrained", "--dataset-path", tmp_path]
    result = program("main.py", "--mode", "test", "--weights", "best", *common)
    assert_refused(result, "holds no best weights", "leave --weights out")


def test_more_than_the_memory_holds(capsys):
    def main() -> None:
        raise MemoryError

    assert cli.run(main) == 2
    assert "a smaller --image-size" in capsys.readouterr().err


def test_weights_of_another_size_than_the_data(trained, tmp_path):
    for split in ("validate", "test"):
        for name in ("healthy", "diseased"):
            (tmp_path / split / name).mkdir(parents=True)
            np.save(tmp_path / split / name / "0.npy", np.zeros((128, 128), np.float32))
    common = ["--save-dir", trained, "--dataset-path", tmp_path, "--visdom", "off"]
    assert_refused(program("main.py", "--mode", "test", *common), "0.npy", "--image-size")


def test_constant_images_give_no_nan_anywhere(sound, tmp_path):
    for split in ("train", "validate", "test"):
        for name in ("healthy", "diseased"):
            np.save(sound / split / name / "0000.npy", np.full((64, 64), 0.5, np.float32))
    assert train(sound, tmp_path / "run").returncode == 0
    common = ["--save-dir", tmp_path / "run", "--dataset-path", sound, "--visdom", "off"]
    result = program("main.py", "--mode", "test", *common, "--results-dir", tmp_path / "results")
    assert result.returncode == 0, result.stderr
    for path in (tmp_path / "results" / "difference_maps").iterdir():
        assert np.isfinite(np.load(path)).all()
    text = (tmp_path / "results" / "metrics.json").read_text()
    text += (tmp_path / "run" / "metrics_synthetic.jsonl").read_text()
    assert "NaN" not in text
    assert "nan" not in (tmp_path / "results" / "metrics.csv").read_text()


def test_constant_pictures_of_chexpert_are_trained_on(tmp_path):
    for split in ("train", "validate"):
        for name in ("normal", "effusion"):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            picture = Image.fromarray(np.full((64, 64), 7, np.uint8))
            picture.save(tmp_path / "data" / split / name / "0.png")
    result = train(tmp_path / "data", tmp_path / "run", "--dataset", "Chexpert")
    assert result.returncode == 0, result.stderr
