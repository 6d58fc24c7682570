"""Facebook100: the parser gives PyG's graph of a school, and takes numbers only."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from scipy.io import savemat

from graphfm.errors import DataError, OfflineError
from graphfm.graphs.catalog.catalog import Catalog, data_folder
from graphfm.graphs.catalog.sources import facebook100, npz, pyg

BUNDLED = {
    "Reed98": "reed98",
    "Amherst41": "amherst41",
    "Cornell5": "cornell5",
    "Johns Hopkins55": "johnshopkins55",
}


def place(data: Path, school: str) -> Path:
    """Where a school's file belongs below a data folder."""
    path = data / facebook100.Config(school=school).downloads()[0].path
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def save(data: Path, info: np.ndarray, *, school: str = "Made1") -> None:
    """A school where each student knows the next."""
    ones = np.ones(len(info) - 1)
    ring = sparse.csc_matrix(sparse.diags([ones, ones], [1, -1]))
    savemat(place(data, school), {"A": ring, "local_info": info.astype(float)})


def students(num: int = 70) -> np.ndarray:
    """(num, 7): 40 of the year 2006, 29 of 2007, one without; gender of one missing."""
    info = np.zeros((num, 7), dtype=np.int64)
    info[:, 0] = 1
    info[:, 1] = 1 + np.arange(num) % 2
    info[3, 1] = 0
    info[:, 4] = np.arange(num) % 5
    info[:, 5] = np.where(np.arange(num) < 40, 2006, 2007)
    info[-1, 5] = 0
    return info


@pytest.mark.realdata
@pytest.mark.parametrize("school", BUNDLED)
def test_a_school_is_what_pyg_reads(tmp_path: Path, school: str) -> None:
    """Seen to fail with the missing values of an attribute left out of its columns."""
    name = BUNDLED[school]
    mat = data_folder() / "LINKXDataset" / name / "raw" / "data.mat"
    shutil.copyfile(mat, place(tmp_path, school))
    ours = facebook100.Config(school=school).build(name="school", data=tmp_path)
    theirs = pyg.Config(
        dataset="LINKXDataset", root="LINKXDataset", name=name, raw=f"{name}/raw"
    ).build(name="school", data=data_folder())
    assert ours.fingerprint == theirs.fingerprint
    assert ours.class_names == theirs.class_names


@pytest.mark.realdata
@pytest.mark.parametrize("school", ["Simmons81", "Caltech36", "American75"])
def test_the_archive_gives_the_graphs_that_the_bundle_has_as_npz(
    tmp_path: Path, school: str
) -> None:
    """So that `origin` stands for `source`; seen to fail with years of fewer than 30 as classes."""
    entry = Catalog.read().entry(f"fb100-{school}")
    with np.load(data_folder() / entry.source["file"]) as archive:
        edges, info = archive["edge_index"], archive["local_info"]
    ones = np.ones(edges.shape[1])
    matrix = sparse.csc_matrix((ones, (edges[0], edges[1])), shape=(len(info), len(info)))
    savemat(place(tmp_path, school), {"A": matrix, "local_info": info.astype(float)})
    origin = facebook100.Config.model_validate(entry.origin)
    source = npz.Config.model_validate(entry.source)
    bundled = source.build(name="school", data=data_folder())
    assert origin.build(name="school", data=tmp_path).fingerprint == bundled.fingerprint


def test_the_label_is_not_among_the_features(tmp_path: Path) -> None:
    """Other labels, same features. Seen to fail with all seven columns kept."""
    info = students()
    save(tmp_path, info)
    source = facebook100.Config(school="Made1")
    before = source.build(name="made", data=tmp_path)
    info[:, 1] = 2
    save(tmp_path, info)
    after = source.build(name="made", data=tmp_path)
    assert (before.x != after.x).sum() == 0
    assert before.y[:4].tolist() == [0, 1, 0, -1]
    assert after.y.unique().tolist() == [0]
    # status, major, minor and high school are one value each; 5 dorms, 3 years with 0
    assert before.num_features == 4 + 5 + 3


def test_class_years_of_few_students_are_unlabelled(tmp_path: Path) -> None:
    """29 students of 2007, and one of no year. Seen to fail with the threshold at 29."""
    save(tmp_path, students())
    graph = facebook100.Config(school="Made1", target="year").build(name="made", data=tmp_path)
    assert graph.class_names == ("2006",)
    assert graph.y.tolist() == [0] * 40 + [-1] * 30
    info = students()
    info[40:, 5] = 0
    save(tmp_path, info)
    graph = facebook100.Config(school="Made1", target="year").build(name="made", data=tmp_path)
    assert graph.y.tolist() == [0] * 40 + [-1] * 30  # many lack a year, and that is no class


@pytest.mark.parametrize(
    "content",
    [
        {"A": sparse.eye_array(3).tocsc(), "local_info": np.array([[{}], [1], [2]], dtype=object)},
        {"A": sparse.eye_array(3).tocsc(), "local_info": np.array(["a", "b", "c"])},
        {"A": {"f": 1}, "local_info": np.ones((3, 7))},
        {"A": np.eye(3), "local_info": np.ones((3, 7))},
        {"A": sparse.eye_array(4).tocsc(), "local_info": np.ones((3, 7))},
    ],
    ids=["cell", "text", "struct", "dense", "other size"],
)
def test_anything_but_numbers_is_refused(tmp_path: Path, content: dict) -> None:
    """Seen to fail (a cell) without the look at the types."""
    savemat(place(tmp_path, "Made1"), content)
    with pytest.raises(DataError, match="GFM138.*Made1.mat"):
        try:
            facebook100.Config(school="Made1").build(name="made", data=tmp_path)
        except DataError as error:
            raise DataError(error.code, f"{error.what} {error.where}") from None


@pytest.mark.parametrize("damage", ["truncated", "text", "no A"])
def test_a_damaged_file_is_an_error(tmp_path: Path, damage: str) -> None:
    save(tmp_path, students())
    path = place(tmp_path, "Made1")
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "text":
        path.write_text("<html>not found</html>")
    else:
        savemat(path, {"local_info": np.ones((3, 7))})
    with pytest.raises(DataError, match="GFM103"):
        facebook100.Config(school="Made1").build(name="made", data=tmp_path)


def test_a_file_comes_out_of_the_archive_by_its_own_name(tmp_path: Path) -> None:
    """Spaces stay in the archive. Seen to fail with the member named as the path."""
    (file,) = facebook100.Config(school="Notre Dame57").downloads()
    assert file.path == "facebook100/NotreDame57.mat"
    assert file.member == "facebook100/Notre Dame57.mat"
    with pytest.raises(OfflineError, match="GFM401(.|\n)*NotreDame57"):
        facebook100.Config(school="Notre Dame57").build(name="made", data=tmp_path)
