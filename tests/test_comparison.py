"""Results of tests side by side."""

import json

import pytest

from descargan.comparison import compare
from descargan.errors import UserError


@pytest.fixture
def folders(tmp_path):
    for name, auprc in (("a", 0.8), ("b", 0.00004)):
        (tmp_path / name).mkdir()
        metrics = {"pixel_auprc": {"value": auprc}, "accuracy": {"value": None}}
        (tmp_path / name / "metrics.json").write_text(json.dumps({"metrics": metrics}))
    return [tmp_path / "a", tmp_path / "b"]


def test_each_metric_stands_with_its_value_in_each_test(folders):
    assert compare(folders) == [
        ("pixel AUPRC of the score map", "0.8000", "4.0e-05"),
        ("classification accuracy", "undefined", "undefined"),
    ]


def test_a_folder_without_results_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(UserError, match=rf"{place} holds no metrics\.json"):
            compare([place])


@pytest.mark.parametrize(
    "metrics", [5, [], {"accuracy": 5}, {"accuracy": {}}, {"accuracy": {"value": "x"}}]
)
def test_damaged_results_are_named(tmp_path, metrics):
    (tmp_path / "metrics.json").write_text(json.dumps({"metrics": metrics}))
    with pytest.raises(UserError, match=r"metrics\.json is damaged: restore or remove it"):
        compare([tmp_path])
