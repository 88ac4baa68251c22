"""The winner is who a slow count elects, and a vote that is decided stays so."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.server.prompting.reasoning.votes import Ballot, as_number, as_text, is_decided, path_weight, tally

ANSWERS = "abc"
papers = st.lists(st.tuples(st.sampled_from(ANSWERS), st.sampled_from([0.25, 0.5, 0.75, 1.0])), max_size=7)


def ballots(paper: list[tuple[str, float]]) -> list[Ballot]:
    return [Ballot(index=index, answer=answer, weight=weight) for index, (answer, weight) in enumerate(paper)]


def winner(cast: list[Ballot]) -> str | None:
    """Counted slowly: of the answers with the greatest sum, that of the first path."""
    sums = {answer: sum(ballot.weight for ballot in cast if ballot.answer == answer) for answer in ANSWERS}
    for ballot in sorted(cast, key=lambda ballot: ballot.index):
        if sums[ballot.answer] == max(sums.values()):
            return ballot.answer
    return None


@given(papers)
def test_the_tally_is_the_slow_count_in_whatever_order_paths_end(paper: list[tuple[str, float]]) -> None:
    cast = ballots(paper)
    votes = tally(cast)
    assert (votes[0].answer if votes else None) == winner(cast)
    assert Counter({vote.answer: vote.num_paths for vote in votes}) == Counter(answer for answer, _ in paper)
    assert votes == tally(reversed(cast))
    assert [vote.weight for vote in votes] == sorted((vote.weight for vote in votes), reverse=True)


@given(st.lists(st.tuples(st.sampled_from(ANSWERS), st.booleans()), min_size=1, max_size=6))
def test_decided_means_that_no_outcome_differs(paths: list[tuple[str, bool]]) -> None:
    """Against every way in which the paths under way may end: with an answer, a new one too, or with none."""
    cast = [Ballot(index=index, answer=answer) for index, (answer, has_ended) in enumerate(paths) if has_ended]
    waiting = [index for index, (_, has_ended) in enumerate(paths) if not has_ended]
    outcomes = set()
    for ending in itertools.product([None, *"abcd"], repeat=len(waiting)):
        late = [Ballot(index=index, answer=said) for index, said in zip(waiting, ending, strict=True) if said]
        outcomes.add(votes[0].answer if (votes := tally(cast + late)) else None)
    assert is_decided(tally(cast), waiting) == (len(outcomes) == 1 and outcomes != {None})


@given(papers, papers)
def test_a_weighted_vote_that_is_decided_stays_so(
    first: list[tuple[str, float]], then: list[tuple[str, float]]
) -> None:
    cast = ballots(first + then)
    early, late = cast[: len(first)], cast[len(first) :]
    votes = tally(early)
    if is_decided(votes, [ballot.index for ballot in late]):
        assert tally(cast)[0].answer == votes[0].answer


def test_the_papers_example() -> None:
    """Wang et al. 2022, figure 1: of three paths, two say 18 dollars and one says 26."""
    said = ["$18", "$26", "$18"]
    votes = tally([Ballot(index=index, answer=answer) for index, answer in enumerate(said)])
    assert [(vote.answer, vote.num_paths) for vote in votes] == [("$18", 2), ("$26", 1)]


def test_a_path_weighs_its_probability_per_token() -> None:
    assert path_weight(math.log(0.5) * 10, 10) == pytest.approx(0.5)
    assert path_weight(0.0, 0) == 1.0
    assert path_weight(1e-9, 1) == 1.0
    votes = tally([Ballot(index=0, answer="a", weight=0.3), *(Ballot(index=i, answer="b", weight=0.1) for i in (1, 2))])
    assert votes[0].answer == "a"


def test_what_is_the_same_answer() -> None:
    assert as_text(" two  words\n") == "two words"
    assert as_number("1,000.0") == as_number("1000") != as_number("1001")
    assert as_number("0.5") == as_number(".50")
    assert as_number("about 5") == "about 5"
    assert as_number("1e999999999") == "1e999999999"
    assert as_number("9" * 9999) == "9" * 9999
