"""Class-based TF-IDF: the words that set each cluster of a level apart, and names made of them.

A cluster is taken as one document, as in Grootendorst 2022 ("BERTopic", arXiv:2203.05794): the weight of
a word t in a cluster c is tf(t, c) * log(1 + A / f(t)), where tf is the word's share of all words of the
cluster, f how often it comes in all clusters, and A the average number of words of a cluster. A word
counts once for each item it comes in, so that no single long text names a cluster.

The words of a text are its single words and pairs of neighbouring words, English stop words left out.
What stands for an image is taken whole: its labels, and the classes seen in it.
"""

import itertools
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nearsql.pipeline.label.contents import Content

# How many keywords a cluster has, and how many of them make its name.
KEYWORDS = 10
WORDS_OF_NAME = 3

# A name has no word that weighs less than this share of its first.
_LEAST_SHARE_OF_FIRST = 0.25

# (word, weight, share of the cluster's items that were read and have it)
Keyword = tuple[str, float, float]


@dataclass(frozen=True, slots=True)
class LevelKeywords:
    """The keywords of each cluster of a level, the heaviest first, and what is needed to compare by them.

    items: ascending ids. has: sparse (items, n), 1 where an item has the n-th of all keywords. weight:
    sparse (clusters, n). directions: sparse (clusters, words), rows of length 1 or 0: the weights of all
    words that several items of a cluster have.
    """

    keywords: list[list[Keyword]]
    items: npt.NDArray[np.int64]
    has: Any
    weight: Any
    directions: Any

    def nearest(self, place: int, others: Sequence[int], n: int) -> list[int]:
        """The n of the other clusters whose words are most like those of the cluster at this place."""
        if not others:
            return []
        alike = (self.directions[list(others)] @ self.directions[place].T).toarray().ravel()
        return [others[i] for i in np.argsort(-alike, kind="stable")[:n]]

    def scores(self, item_ids: Sequence[int], clusters: Sequence[int]) -> npt.NDArray[np.float64]:
        """How much each item speaks of each cluster: the weights of its keywords that the item has.

        item_ids: (m,) of those read or held out. clusters: (n,) places in the level. Gives (m, n).
        """
        rows = np.searchsorted(self.items, np.asarray(item_ids, np.int64))
        return np.asarray((self.has[rows] @ self.weight[list(clusters)].T).toarray())


def level_keywords(
    contents: Iterable[Content], read: Sequence[npt.NDArray[np.int64]]
) -> LevelKeywords:
    """The keywords of each cluster of a level.

    contents: ascending by id. read: for each cluster the ids of its members that its keywords may come
    from. Contents of no cluster (those held out) have words, and make no keywords.
    """
    from scipy import sparse

    words_of = _Words()
    number_of: dict[str, int] = {}
    items, starts, numbers = array("q"), array("q", [0]), array("i")
    for content in contents:
        items.append(content.item_id)
        numbers.extend(number_of.setdefault(word, len(number_of)) for word in words_of(content))
        starts.append(len(numbers))
    ids, words = np.array(items, np.int64), np.array(list(number_of), object)
    has_word = sparse.csr_matrix(
        (np.ones(len(numbers), np.float32), np.array(numbers, np.int32), np.array(starts)),
        shape=(len(ids), len(words)),
    )
    members = np.searchsorted(ids, np.concatenate(read))
    bounds = np.concatenate([[0], np.cumsum([len(of_one) for of_one in read])])
    member_of = sparse.csr_matrix(
        (np.ones(len(members)), members, bounds), shape=(len(read), len(ids))
    )
    counts = sparse.csr_matrix(member_of @ has_word)
    counts.sort_indices()
    weights = class_tfidf(counts)
    keywords = []
    for place, of_one in enumerate(read):
        row = slice(counts.indptr[place], counts.indptr[place + 1])
        keywords.append(
            _heaviest(words[counts.indices[row]], weights.data[row], counts.data[row], len(of_one))
        )
    columns = sorted({number_of[word] for of_cluster in keywords for word, _, _ in of_cluster})
    place_of = {word: n for n, word in enumerate(words[columns])}
    weight = sparse.lil_matrix((len(read), len(columns)))
    for place, of_cluster in enumerate(keywords):
        for word, heavy, _ in of_cluster:
            weight[place, place_of[word]] = heavy
    return LevelKeywords(
        keywords, ids, has_word[:, columns], weight.tocsr(), _directions(weights, counts)
    )


def _directions(weights: Any, counts: Any) -> Any:
    """The weights of words that several items have; each row divided by its length."""
    from scipy import sparse

    shared = weights.multiply(counts > 1)
    lengths = np.sqrt(np.asarray(shared.multiply(shared).sum(axis=1)).ravel())
    units = np.divide(1.0, lengths, out=np.zeros(len(lengths)), where=lengths > 0)
    return sparse.csr_matrix(sparse.diags(units) @ shared)


def class_tfidf(counts: Any) -> Any:
    """Class-based TF-IDF of counts (clusters, words), a sparse matrix; of the same sparsity."""
    from scipy import sparse

    of_cluster = np.asarray(counts.sum(axis=1)).ravel()
    of_word = np.asarray(counts.sum(axis=0)).ravel()
    average = of_cluster.sum() / max(1, len(of_cluster))
    rarity = np.log1p(np.divide(average, of_word, out=np.zeros(len(of_word)), where=of_word > 0))
    share = np.divide(1.0, of_cluster, out=np.zeros(len(of_cluster)), where=of_cluster > 0)
    return sparse.csr_matrix(sparse.diags(share) @ counts @ sparse.diags(rarity))


class _Words:
    """The words of a content, each once."""

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import CountVectorizer

        self._analyze = CountVectorizer(ngram_range=(1, 2), stop_words="english").build_analyzer()

    def __call__(self, content: Content) -> list[str]:
        words = self._analyze(content.text) if content.text else []
        return sorted({*words, *content.labels, *content.classes} - {""})


def _heaviest(
    words: npt.NDArray[Any],
    weights: npt.NDArray[np.float64],
    counts: npt.NDArray[np.float64],
    members: int,
) -> list[Keyword]:
    """At most KEYWORDS of a cluster's words; what one item alone says counts where there is nothing else.

    Of words that share one ("card", "card payment", "cards") the heaviest stays.
    """
    if len(counts) and counts.max() > 1:
        shared = counts > 1
        words, weights, counts = words[shared], weights[shared], counts[shared]
    found: list[Keyword] = []
    taken: set[str] = set()
    for i in np.lexsort((words, -weights)):
        word = str(words[i])
        parts = {part.removesuffix("s") for part in word.casefold().split()}
        if taken & parts:
            continue
        taken |= parts
        found.append((word, round(float(weights[i]), 6), round(float(counts[i]) / members, 4)))
        if len(found) == KEYWORDS:
            break
    return found


def description(keywords: Sequence[Keyword]) -> str | None:
    """The keywords with the share of items that have each: `card 42%, fee 31%`."""
    return ", ".join(f"{word} {share:.0%}" for word, _, share in keywords) or None


def names_of_siblings(
    keywords: Sequence[Sequence[Keyword]], labels: Sequence[int]
) -> list[str | None]:
    """A name for each of the clusters beside each other, of its first keywords; no two are the same.

    labels: the clusters' numbers. Where the first words are those of a name before it, in whatever order,
    more follow; where there are no more, the number does. None for a cluster without keywords.
    """
    names: list[str | None] = []
    taken: set[str] = set()
    word_sets: set[frozenset[str]] = set()
    for of_cluster, label in zip(keywords, labels, strict=True):
        if not of_cluster:
            names.append(None)
            continue
        words = _words_of_name(of_cluster, word_sets)
        word_sets.add(frozenset(words))
        name = made_distinct(", ".join(words), [], label, taken)
        taken.add(name.casefold())
        names.append(name)
    return names


def _words_of_name(keywords: Sequence[Keyword], word_sets: set[frozenset[str]]) -> list[str]:
    words = [word for word, _, _ in keywords]
    least = _LEAST_SHARE_OF_FIRST * keywords[0][1]
    first = sum(weight >= least for _, weight, _ in keywords[:WORDS_OF_NAME])
    for n in range(first, len(words) + 1):
        if frozenset(words[:n]) not in word_sets:
            return words[:n]
    return words[:first]


def made_distinct(name: str, keywords: Sequence[Keyword], label: int, taken: set[str]) -> str:
    """The name; if it is taken, with the first keyword that tells it apart, or else the cluster's number.

    taken: names, casefolded: names that differ in case only are the same.
    """
    extras = [word for word, _, _ in keywords]
    numbers = (f"{label}" if n == 1 else f"{label}-{n}" for n in itertools.count(1))
    candidates = itertools.chain(
        [name], (f"{name} ({x})" for x in itertools.chain(extras, numbers))
    )
    return next(candidate for candidate in candidates if candidate.casefold() not in taken)
