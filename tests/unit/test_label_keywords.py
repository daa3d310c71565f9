"""Class-based TF-IDF against its definition, names that are never shared, and judging by held-out items."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.pipeline.label.clusters import Cluster, Members, Mix, beside, mix_held_out
from nearsql.pipeline.label.contents import Content
from nearsql.pipeline.label.held_out import belonging_by_keywords, judged
from nearsql.pipeline.label.keywords import (
    KEYWORDS,
    Keyword,
    level_keywords,
    made_distinct,
    names_of_siblings,
)

WORDS = ("apple", "brook", "cloud", "dune", "ember", "frost", "grove")


def image(item: int, labels: set[str]) -> Content:
    return Content(item, None, False, tuple(sorted(labels)), ())


def ids(values: list[int]) -> np.ndarray:
    return np.array(sorted(values), np.int64)


def weights_by_definition(
    words_of: dict[int, set[str]], read: list[list[int]]
) -> list[dict[str, tuple[float, int]]]:
    """(weight, items) of each word of each cluster, as Grootendorst 2022 writes it."""
    counts = [Counter(word for item in members for word in words_of[item]) for members in read]
    average = sum(sum(count.values()) for count in counts) / len(counts)
    everywhere: Counter[str] = Counter()
    for count in counts:
        everywhere.update(count)
    return [
        {
            word: (n / sum(count.values()) * math.log(1 + average / everywhere[word]), n)
            for word, n in count.items()
        }
        for count in counts
    ]


labelled = st.lists(
    st.tuples(st.integers(0, 3), st.sets(st.sampled_from(WORDS), max_size=4)),
    min_size=1,
    max_size=30,
)


@settings(deadline=None)  # the first example imports scikit-learn
@given(labelled)
def test_weights_are_those_of_the_definition(items: list[tuple[int, set[str]]]) -> None:
    """Cluster 3 stands for what is held out."""
    words_of = {n: words for n, (_, words) in enumerate(items, start=1)}
    read = [[n for n, (c, _) in enumerate(items, start=1) if c == cluster] for cluster in range(3)]
    read = [members for members in read if members]
    if not read:
        return
    level = level_keywords(
        (image(n, words) for n, words in words_of.items()), [ids(members) for members in read]
    )
    for expected, found, members in zip(
        weights_by_definition(words_of, read), level.keywords, read, strict=True
    ):
        kept = {w: v for w, v in expected.items() if v[1] > 1} or expected
        in_order = sorted(kept, key=lambda word: (-kept[word][0], word))[:KEYWORDS]
        # Equal weights may differ by a rounding error, and change places.
        assert [w for _, w, _ in found] == pytest.approx([kept[w][0] for w in in_order], abs=1e-6)
        for word, weight, share in found:
            assert weight == pytest.approx(kept[word][0], abs=1e-6)
            assert share == pytest.approx(kept[word][1] / len(members), abs=1e-4)
    # Scores are sums of the weights of the keywords that an item has.
    everyone = list(range(len(read)))
    scores = level.scores(list(words_of), everyone)
    for row, words in zip(scores, words_of.values(), strict=True):
        for place in everyone:
            weight = {word: w for word, w, _ in level.keywords[place]}
            assert row[place] == pytest.approx(sum(weight.get(word, 0) for word in words))


def test_the_words_of_a_text() -> None:
    texts = [
        "The card payments failed!",
        "My card payment failed again",
        "a card payment, failed.",
        "A letter and a stamp",
        "the stamps of a letter, of letters",
    ]
    plain = [Content(n, text, False, (), ()) for n, text in enumerate(texts)]
    level = level_keywords(iter(plain), [ids([0, 1, 2]), ids([3, 4])])
    names = [[word for word, _, _ in keywords] for keywords in level.keywords]
    # Stop words are none, nor are words that share one with a heavier one, or say it in the plural.
    assert names == [["card", "failed", "payment"], ["letter"]]
    assert level.keywords[0][0][2] == 1.0


def test_images_are_named_by_labels_and_classes_taken_whole() -> None:
    contents = [
        Content(1, None, False, ("great tit",), ("bird",)),
        Content(2, None, False, ("great tit",), ("bird", "traffic light")),
        Content(3, None, False, ("blue tit",), ("bird",)),
        Content(4, None, False, ("blue tit",), ("bird",)),
    ]
    level = level_keywords(iter(contents), [ids([1, 2]), ids([3, 4])])
    assert [k[0][0] for k in level.keywords] == ["great tit", "blue tit"]
    assert [[w for w, _, _ in k] for k in level.keywords] == [
        ["great tit", "bird"],
        ["blue tit", "bird"],
    ]
    assert names_of_siblings(level.keywords, [0, 1]) == ["great tit, bird", "blue tit, bird"]


def test_what_has_no_words_has_no_name() -> None:
    level = level_keywords(iter([image(1, set()), image(2, {"apple"})]), [ids([1]), ids([2])])
    assert level.keywords[0] == []
    assert names_of_siblings(level.keywords, [0, 1]) == [None, "apple"]
    level = level_keywords(iter([image(1, set())]), [ids([1])])
    assert level.keywords == [[]]
    assert level.scores([1], [0]).tolist() == [[0.0]]


keyword_lists = st.lists(
    st.lists(st.sampled_from([*WORDS, "Apple", "apple, brook"]), unique=True, max_size=5).map(
        lambda words: [(word, 1.0 / (n + 1), 0.5) for n, word in enumerate(words)]
    ),
    max_size=12,
)


@given(keyword_lists)
def test_siblings_never_share_a_name(keywords: list[list[Keyword]]) -> None:
    names = names_of_siblings(keywords, list(range(len(keywords))))
    given_names = [name.casefold() for name in names if name is not None]
    assert len(set(given_names)) == len(given_names)
    assert [name is None for name in names] == [not of_cluster for of_cluster in keywords]
    for name, of_cluster in zip(names, keywords, strict=True):
        if name is not None:
            assert name.startswith(of_cluster[0][0])


def test_names_get_longer_until_they_differ() -> None:
    same = [("apple", 1.0, 1.0), ("brook", 0.9, 1.0), ("cloud", 0.8, 1.0)]
    another = [("cloud", 1.0, 1.0), ("apple", 0.9, 1.0), ("brook", 0.8, 1.0), ("dune", 0.1, 0.1)]
    assert names_of_siblings([same, another, same], [4, 5, 6]) == [
        "apple, brook, cloud",
        "cloud, apple, brook, dune",
        "apple, brook, cloud (6)",
    ]
    # What weighs little beside the first is left out.
    faint = [("ember", 1.0, 1.0), ("frost", 0.2, 0.1)]
    assert names_of_siblings([faint], [0]) == ["ember"]


@given(st.lists(st.sampled_from(["a", "A (x)", "a (7)", "a (7-2)", "A (y)"]), unique=True))
def test_a_name_is_told_from_any_names(taken: list[str]) -> None:
    folded = {name.casefold() for name in taken}
    name = made_distinct("A", [("x", 1.0, 1.0), ("y", 1.0, 1.0)], 7, folded)
    assert name.casefold() not in folded
    assert name.startswith("A")
    assert name == "A" or "a" in folded


sizes = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=8)


@given(sizes, st.integers(0, 3))
def test_a_mix_is_half_members_and_half_of_others(drawn: list[tuple[int, int]], seed: int) -> None:
    """drawn: the number of held-out members and the parent of each cluster."""
    clusters = [Cluster(n, 1, n, parent, 9, None) for n, (_, parent) in enumerate(drawn)]
    members = [
        Members(
            ids([1000 * n + 500]), ids([1000 * n + 500]), ids(list(range(1000 * n, 1000 * n + k)))
        )
        for n, (k, _) in enumerate(drawn)
    ]
    for place, cluster in enumerate(clusters):
        others = beside(clusters, place)
        siblings = [c.label for c in clusters if c.parent_id == cluster.parent_id and c != cluster]
        assert others == (siblings or [n for n in range(len(clusters)) if n != place])
        mix = mix_held_out(cluster, members[place], [members[i] for i in others], seed)
        if mix.reason is not None:
            pool = sum(len(members[i].held_out) for i in others)
            assert not mix.items
            assert len(members[place].held_out) == 0 or pool == 0
            continue
        assert len(mix.items) == len(set(mix.items)) == 2 * len(mix.members) > 0
        assert mix.members <= set(members[place].held_out.tolist())
        held_out = {i for other in others for i in members[other].held_out.tolist()}
        assert set(mix.items) - mix.members <= held_out
        again = mix_held_out(cluster, members[place], [members[i] for i in others], seed)
        assert again == mix


@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=20),
)
def test_judgement_counts(items: list[tuple[bool, bool]]) -> None:
    members = frozenset(n for n, (is_member, _) in enumerate(items) if is_member)
    if not members:
        return
    said = {n for n, (_, says) in enumerate(items) if says}
    judgement = judged(Mix(tuple(range(len(items))), members), said)
    assert judgement.recall == len(said & members) / len(members)
    if said:
        assert judgement.precision == len(said & members) / len(said)
        assert judgement.reason is None
    else:
        assert judgement.precision is None
        assert judgement.reason == "no item was said to belong"
    stored = json.loads(judgement.said or "")
    assert {i for i, yes in stored["members"] + stored["others"] if yes} == said
    assert {i for i, _ in stored["members"]} == members


def test_an_item_belongs_where_its_words_weigh_most() -> None:
    contents = [image(1, {"apple"}), image(2, {"brook"}), image(3, {"apple"}), image(4, {"dune"})]
    level = level_keywords(iter(contents), [ids([1]), ids([2])])
    mix = mix_held_out(
        Cluster(1, 1, 0, None, 5, None),
        Members(ids([1]), ids([1]), ids([3])),
        [Members(ids([2]), ids([2]), ids([4]))],
        0,
    )
    assert set(mix.items) == {3, 4}
    assert belonging_by_keywords(level, mix, 0, [1]) == {3}
    assert belonging_by_keywords(level, mix, 1, [0]) == set()
