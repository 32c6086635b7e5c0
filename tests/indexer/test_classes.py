import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexer.classes import ClassMap, match_classes, normalize, read_class_map
from indexer.datasets import DatasetOptions, ImageDataset, Row
from indexer.datasets.base import RowIndex
from indexer.datasets.labels import Labels, parse_labels
from indexer.errors import ClassMapError, RejectedImageError


class Labelled(ImageDataset):
    """Labels without images."""

    kind = "labels"

    def __init__(self, labels: Labels) -> None:
        super().__init__("labels", DatasetOptions())
        self._labels = labels

    def _build_index(self) -> RowIndex:
        ids = [str(row) for row in range(len(self._labels))]
        return RowIndex.build(ids, ids, self._labels)

    def _fingerprint_parts(self):
        return ()

    def read(self, ref):
        raise RejectedImageError("no images here")


def declared(*names, used=None):
    return Labelled(Labels(list(range(len(names))) if used is None else used, names, declared=True))


def free(*labels):
    return Labelled(parse_labels(labels))


def targets(dataset, class_map):
    found = []
    for row in dataset.rows():
        try:
            found.append(class_map.target(row))
        except RejectedImageError as error:
            found.append(str(error))
    return found


def test_names_match_in_any_order_and_spelling():
    dataset = declared("Polar Bear", "ice-cream", "cat")

    class_map = match_classes(
        dataset, num_classes=4, model_names=("cat", "x", "polar_bear", "icecream")
    )

    assert targets(dataset, class_map) == [2, 3, 0]
    assert class_map.names == ("cat", "x", "polar_bear", "icecream")


def test_an_exact_name_wins_over_a_similar_one():
    dataset = declared("Cat", "cat")

    class_map = match_classes(dataset, num_classes=2, model_names=("cat", "Cat"))

    assert targets(dataset, class_map) == [1, 0]


def test_an_ambiguous_spelling_is_no_match():
    with pytest.raises(ClassMapError, match="no class 'CAT'"):
        match_classes(declared("CAT"), num_classes=2, model_names=("cat", "Cat"))


def test_two_classes_of_the_data_do_not_fall_together_unasked():
    dataset = declared("cat", "Cat", "dog")
    with pytest.raises(ClassMapError, match="'cat' and 'Cat' of the data both match 'cat'"):
        match_classes(dataset, num_classes=2, model_names=("cat", "dog"))

    class_map = match_classes(
        dataset, num_classes=2, model_names=("cat", "dog"), overrides={"Cat": "cat"}
    )
    assert targets(dataset, class_map) == [0, 0, 1]


def test_a_subset_of_the_models_classes_is_enough():
    dataset = declared("dog")

    class_map = match_classes(dataset, num_classes=3, model_names=("ant", "cat", "dog"))

    assert targets(dataset, class_map) == [2]


def test_other_names_of_the_same_outputs_match():
    dataset = declared("n02", "n01")

    class_map = match_classes(
        dataset, num_classes=2, model_names=("cat", "dog"), aliases=[("n01", "n02")]
    )

    assert targets(dataset, class_map) == [1, 0]


def test_a_mismatch_shows_both_lists_and_the_way_out():
    with pytest.raises(ClassMapError) as caught:
        match_classes(declared("cat", "automobile"), num_classes=2, model_names=("cat", "car"))

    message = str(caught.value)
    for part in ("'automobile'", "'cat', 'automobile'", "'cat', 'car'", "--class-map automobile="):
        assert part in message


def test_classes_that_are_all_unknown_are_listed_once_with_a_way_out_to_paste():
    with pytest.raises(ClassMapError) as caught:
        match_classes(declared("polar bear", "it's"), num_classes=1, model_names=("car",))

    message = str(caught.value)
    assert message.startswith("the model has no class 'polar bear', \"it's\": it has 'car'; ")
    advice = message.partition("; map them with ")[2]
    assert shlex.split(advice)[:2] == ["--class-map", "polar bear=NAME"]
    assert shlex.split(advice)[-1] == "polar bear="


def test_the_way_out_of_a_model_without_names_can_be_pasted():
    with pytest.raises(ClassMapError, match=r"--class-map 'polar bear=NUMBER'$"):
        match_classes(declared("polar bear"), num_classes=2)


def test_long_lists_are_shortened():
    names = [f"class {i}" for i in range(1000)]

    with pytest.raises(ClassMapError, match="and 988 more") as caught:
        match_classes(declared("other"), num_classes=1000, model_names=names)
    assert len(str(caught.value)) < 800


def test_a_declared_class_without_images_need_not_be_known():
    dataset = declared("cat", "unused", used=[0, 0])

    assert targets(dataset, match_classes(dataset, num_classes=2, model_names=("dog", "cat"))) == [
        1,
        1,
    ]


def test_a_misspelt_label_rejects_its_rows_only():
    dataset = free("cat", "dog", "dgo")

    found = targets(dataset, match_classes(dataset, num_classes=2, model_names=("cat", "dog")))

    assert found[:2] == [0, 1]
    assert found[2] == "label 'dgo' is not a class of the model, did you mean 'dog'?"


def test_mostly_unknown_labels_are_an_error():
    with pytest.raises(ClassMapError, match="the model has no class"):
        match_classes(free("a", "b", "cat"), num_classes=2, model_names=("cat", "dog"))


def test_without_names_on_the_model_the_order_counts():
    dataset = declared("cat", "dog")

    class_map = match_classes(dataset, num_classes=2)

    assert targets(dataset, class_map) == [0, 1]
    assert class_map.names == ("cat", "dog")


def test_one_class_folder_does_not_fit_a_model_without_names():
    with pytest.raises(
        ClassMapError, match=r"1 classes \('cat'\) and the model has 10 without names"
    ):
        match_classes(declared("cat"), num_classes=10)

    class_map = match_classes(declared("cat"), num_classes=10, overrides={"cat": "3"})
    assert targets(declared("cat"), class_map) == [3]
    assert class_map.names[3] == "cat"


def test_integers_are_output_numbers():
    dataset = free(0, 2, 5)

    class_map = match_classes(dataset, num_classes=3, model_names=("a", "b", "c"))

    assert targets(dataset, class_map)[:2] == [0, 2]
    assert "label 5 is out of range: the model has 3 classes (0 to 2)" in targets(
        dataset, class_map
    )


def test_integers_without_any_names_are_named_by_number():
    assert match_classes(free(0, 1), num_classes=2).names == ("0", "1")


def test_integers_match_a_model_whose_names_are_numbers():
    names = tuple(f"{number:03}" for number in range(1, 103))
    dataset = free(1, 102, 103)

    class_map = match_classes(dataset, num_classes=102, model_names=names)

    assert targets(dataset, class_map)[:2] == [0, 101]
    assert "label '103' is not a class of the model" in str(targets(dataset, class_map)[2])


def test_integers_all_beyond_the_model_are_an_error():
    with pytest.raises(ClassMapError, match="run from 7 to 9 and the model has 3 classes"):
        match_classes(free(7, 9), num_classes=3)


def test_integers_can_be_mapped():
    dataset = free(0, 7)

    class_map = match_classes(
        dataset, num_classes=2, model_names=("cat", "dog"), overrides={"0": "dog", "7": "cat"}
    )

    assert targets(dataset, class_map) == [1, 0]


def test_overrides_win_and_may_leave_a_class_out():
    dataset = declared("cat", "automobile", "unicorn")

    class_map = match_classes(
        dataset,
        num_classes=2,
        model_names=("cat", "car"),
        overrides={"automobile": "car", "unicorn": ""},
    )

    assert targets(dataset, class_map)[:2] == [0, 1]
    assert "label 'unicorn' is not a class of the model" in str(targets(dataset, class_map)[2])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"car": "cat"}, "the data has no class 'car'"),
        ({"cat": "car"}, "the model has no class 'car'"),
    ],
)
def test_overrides_name_classes_that_exist(overrides, message):
    with pytest.raises(ClassMapError, match=message):
        match_classes(
            declared("cat"), num_classes=2, model_names=("cat", "dog"), overrides=overrides
        )


def test_a_row_without_a_label_is_rejected():
    with pytest.raises(RejectedImageError, match="no label"):
        ClassMap(("cat",)).target(Row("a", "a", None, None))


@pytest.mark.parametrize(("name", "output"), [("dog", 1), ("DOG", 1), ("1", 1), ("0", 0)])
def test_an_output_is_found_by_name_or_number(name, output):
    assert ClassMap(("cat", "dog")).output_of(name) == output


@pytest.mark.parametrize("name", ["2", "-1", "bird", ""])
def test_an_unknown_output_is_an_error(name):
    with pytest.raises(ClassMapError, match="no class"):
        ClassMap(("cat", "dog")).output_of(name)


def test_pairs_and_files_make_one_map(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"x": "y", "n": 3, "gone": None}))
    (tmp_path / "b.csv").write_text('data,model\n"a, b",c\n\nu,v\n')

    found = read_class_map(["p=q", " s = t ", str(tmp_path / "a.json"), str(tmp_path / "b.csv")])

    assert found == {
        "p": "q", "s": "t", "x": "y", "n": "3", "gone": "", "a, b": "c", "u": "v",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.json", "[1, 2]"),
        ("x.json", "{"),
        ("x.csv", "a,b,c\n"),
        ("x.csv", "one\n"),
        ("x.csv", b"\xff\xfe"),
        ("missing.json", None),
    ],
)
def test_an_unreadable_map_is_an_error(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    with pytest.raises(ClassMapError, match=name):
        read_class_map([str(tmp_path / name)])


@pytest.mark.parametrize("items", [["cat"], ["=cat"], ["a=b", "a=c"]])
def test_wrong_pairs_are_errors(items):
    with pytest.raises(ClassMapError, match="--class-map"):
        read_class_map(items)


@given(st.text(), st.text())
def test_any_pair_is_read(source, target):
    if not source.strip() or "=" in target or source.strip().lower().endswith((".json", ".csv")):
        return
    if target.strip().lower().endswith((".json", ".csv")):
        return

    assert read_class_map([f"{source}={target}"]) == {source.strip(): target.strip()}


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, unique_by=normalize), st.randoms())
def test_names_are_found_whatever_their_order(names, random):
    shuffled = list(names)
    random.shuffle(shuffled)
    dataset = declared(*shuffled)

    class_map = match_classes(dataset, num_classes=len(names), model_names=names)

    assert [names[output] for output in targets(dataset, class_map)] == shuffled
