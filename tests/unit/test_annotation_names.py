"""Class names and splits of YOLO data sets: what their YAML files and folders say, read safely."""

import os
from pathlib import Path

import pytest

from nearsql.pipeline.annotations import class_names
from nearsql.pipeline.annotations.class_names import ClassName, DatasetFile
from nearsql.pipeline.annotations.splits import (
    DatasetSplits,
    FolderSplits,
    named_like_a_split,
)
from nearsql.pipeline.console import UserError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
    return folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def names(path: Path) -> dict[int, str]:
    return {number: name.name for number, name in class_names.read(path).classes.items()}


def test_names_in_a_yaml_file(root: Path) -> None:
    assert names(write(root / "a.yaml", "names: [cat, no, 'é', 1.0, null]")) == {
        0: "cat",
        1: "no",  # not False
        2: "é",
        3: "1.0",
        4: "null",
    }
    assert names(write(root / "b.yml", "nc: 2\nnames:\n  0: cat\n  7: traffic light\n")) == {
        0: "cat",
        7: "traffic light",
    }


def test_names_in_a_list(root: Path) -> None:
    assert names(write(root / "classes.txt", "cat\r\n traffic light \n\n")) == {
        0: "cat",
        1: "traffic light",
    }
    with pytest.raises(UserError, match="class 1 has no name"):
        names(write(root / "obj.names", "cat\n\ndog\n"))


def test_a_folder_may_bring_its_names(root: Path) -> None:
    assert class_names.find(root) is None
    write(root / "labels" / "classes.txt", "dog")
    found = class_names.find(root)
    assert found is not None
    assert found.classes == {0: ClassName("dog")}
    # A YAML file without names is none of ours; one with names comes first.
    write(root / "hyper.yaml", "lr0: 0.01")
    write(root / "data.yaml", "names: [cat]\ntrain: images/train\nval: [images/val, '']")
    found = class_names.find(root)
    assert found == DatasetFile(
        root / "data.yaml",
        {0: ClassName("cat")},
        None,
        {"train": ["images/train"], "val": ["images/val"]},
    )
    write(root / "other.yml", "names: [bird]")
    with pytest.raises(UserError, match=r"data\.yaml, other\.yml"):
        class_names.find(root)


def test_a_linked_names_file_outside_of_the_folder_is_not_found(root: Path, tmp_path: Path) -> None:
    (root / "data.yaml").symlink_to(write(tmp_path / "outside.yaml", "names: [cat]"))
    (root / "classes.txt").symlink_to(write(tmp_path / "classes.txt", "cat"))
    assert class_names.find(root) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("names: cat", "must have `names:`"),
        ("names:", "must have `names:`"),
        ("- cat", "has no `names:`"),
        ("", "has no `names:`"),
        ("names: []", "names no class"),
        ("names: [cat, [dog]]", "class 1 has no name"),
        ("names: [cat, '']", "class 1 has no name"),
        ("names: {cat: 0}", "'cat' in `names:` is not a class number"),
        ("names: {-1: cat}", "'-1' in `names:` is not a class number"),
        ("names: {99999999999: cat}", "too large"),
        ("names: {[1, 2]: cat}", "not"),
        (f"names: [{'a' * 501}]", "class 0 has no name"),
        (r'names: ["\0"]', "class 0 has no name"),
        (r'names: [cat, "\ud800"]', "class 1 has no name"),
        ("names: [cat]\npath: [a, b]", "`path:` must be one folder"),
        ("names: [cat]\ntrain: {a: b}", "`train:` must be a folder"),
        ("names: [cat", "is not valid YAML"),
        ("a: &a [x]\nb: &b [*a, *a]\nnames: *c", "is not valid YAML"),
        ("[" * 100_000, "is not valid YAML"),
        ("names: [cat]\n" + "#" * 2**20, "more than 1,048,576 bytes"),
        ("names: ['\0']", "holds NUL"),
    ],
)
def test_what_is_refused(root: Path, text: str, sentence: str) -> None:
    path = write(root / "data.yaml", text)
    with pytest.raises(UserError) as caught:
        class_names.read(path)
    assert sentence in str(caught.value)
    assert "data.yaml" in str(caught.value)


def test_a_yaml_file_makes_no_objects(root: Path) -> None:
    owned = root / "owned"
    path = write(root / "data.yaml", f"names: !!python/object/apply:os.system ['touch {owned}']")
    assert names(path) == {0: f"touch {owned}"}
    assert not owned.exists()


def test_what_is_no_file(root: Path) -> None:
    (root / "latin.yaml").write_bytes("names: [é]".encode("latin-1"))
    os.mkfifo(root / "pipe.yaml")
    for name, sentence in (
        ("latin.yaml", "not UTF-8"),
        ("pipe.yaml", "not a regular file"),
        ("gone.yaml", "cannot be opened"),
        ("images", "not a regular file"),
    ):
        with pytest.raises(UserError, match=sentence):
            class_names.read(root / name)


def test_many_aliases_are_one_list(root: Path) -> None:
    """The billion laughs: lists of lists of lists by reference, which must not be walked."""
    laughs = "a0: &a0 [ha]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 30)
    )
    assert names(write(root / "data.yaml", laughs + "names: [cat]")) == {0: "cat"}
    with pytest.raises(UserError, match="class 0 has no name"):
        names(write(root / "data.yaml", laughs + "names: *a29"))


def splits(root: Path, text: str) -> DatasetSplits:
    return DatasetSplits(class_names.read(write(root / "data.yaml", "names: [cat]\n" + text)), root)


def test_splits_of_a_yaml_file(root: Path) -> None:
    write(root / "lists" / "test.txt", "./a.jpg\nimages/val/v.jpg\n\n./../images/train/t.jpg\n")
    found = splits(root, "train: images/train\nval:\n- images/val\ntest: lists/test.txt")
    assert found.problems == []
    assert found.splits("images/train/deep/a.jpg") == ["train"]
    assert found.splits("images/val/v.jpg") == ["val", "test"]
    assert found.splits("images/train/t.jpg") == ["train", "test"]
    assert found.splits("lists/a.jpg") == ["test"]
    assert found.splits("images/trainer/a.jpg") == []


@pytest.mark.parametrize(
    "text",
    [
        "path: set\ntrain: images/train",  # beside the YAML file's folder
        "path: ../set\ntrain: images/train",
        "path: ../somewhere/else\ntrain: images/train",  # made on another machine
        "path: /datasets/set\ntrain: images/train",
        "path: .\ntrain: ./images/train/",
        "train: ../images/train",  # as some exporters write it
    ],
)
def test_where_a_yaml_file_says_that_its_images_are(root: Path, text: str) -> None:
    found = splits(root, text)
    assert found.problems == []
    assert found.splits("images/train/a.jpg") == ["train"]


def test_nothing_outside_of_the_folder_is_read(root: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (root / "linked").symlink_to(tmp_path / "other")
    secret = write(tmp_path / "secret.txt", "images/train/a.jpg")
    write(root / "list.txt", f"/etc/passwd\n../../x.jpg\n{root}/images/train/b.jpg\n")
    for entry, sentence in (
        ("../../other", "leads out of"),
        (str(tmp_path / "other"), "leads out of"),
        (str(secret), "leads out of"),
        ("../secret.txt", "there is no"),  # ../ is forgiven, and then it is a file of the folder
        ("linked", "leads out of"),
        ("images/nothing", "there is no"),
        ("\\0", "there is no"),
    ):
        found = splits(root, f"val: '{entry}'")
        ((uri, problem),) = found.problems
        assert uri == str(root / "data.yaml")
        assert problem.startswith("data.yaml: val: ")
        assert sentence in problem
        assert found.is_empty
    found = splits(root, "val: list.txt")
    assert found.problems == [
        (str(root / "list.txt"), f"list.txt: 2 of the images it lists are not in {root}")
    ]
    assert found.splits("images/train/b.jpg") == ["val"]


def test_names_of_splits() -> None:
    for name in ("train", "Train2017", "val", "valid", "test", "test-dev2017", "validation"):
        assert named_like_a_split(name)
    for name in ("trainer", "images", "value", "2017", "", "cats"):
        assert not named_like_a_split(name)


def test_splits_by_folders() -> None:
    cases = {
        ("images/train2017/a.jpg",): "train2017",
        ("images/cats/a.jpg",): None,
        ("images/one/a.jpg", "images/two/b.jpg"): "one",
        ("train/images/a.jpg",): "train",
        ("x/images/images/val/a.jpg",): "val",
        ("val/a.jpg",): "val",
        ("a.jpg",): None,
        ("photos/a.jpg", "pictures/b.jpg"): None,
    }
    for places, split in cases.items():
        assert FolderSplits(places).split(places[0]) == split
