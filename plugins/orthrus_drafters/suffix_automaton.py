"""Suffix automaton: every part of some texts, where it leads, and how often it occurred. Linear in time and size."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence

ROOT = 0  # the state of the empty text


class SuffixAutomaton:
    """Hold texts so that the last tokens of any other are found in them, and what followed them most often.

    A state stands for parts of the texts that end at the same places; `lengths` has its longest. A part of up to
    `longest` tokens has exact counts. What followed it as often as anything else, and was seen last, is its best
    follower. A token is added in constant time on average, and in up to `longest` steps.
    """

    def __init__(self, longest: int) -> None:
        self.size = 0  # tokens held; those that are a part of what was held before count once
        self._longest = longest
        self._next: list[dict[int, int]] = [{}]  # by state: the state that each token leads to
        self._lengths = [0]
        self._links = [-1]  # the state of the longest suffix that ends at further places
        self._counts = [0]  # how many places its parts end at
        self._followed = [0]  # how many of these were followed by a token
        self._best = [-1]  # the follower seen most often, -1: none
        self.begin_text()

    def begin_text(self) -> None:
        """Begin another text: what is appended next follows nothing."""
        self._whole = ROOT  # the state of all of the text
        self._tail, self._tail_length = ROOT, 0  # of its last tokens, one more than a match may have

    def extend(self, tokens: Iterable[int]) -> None:
        """Append tokens to the text."""
        for token in tokens:
            self.append(token)

    def append(self, token: int) -> None:
        """Append a token to the text."""
        self._whole = self._grown(token)
        before = self._tail
        self._tail_length = min(self._tail_length + 1, self._longest + 1)
        self._tail = self._shortened(self._next[before][token], self._tail_length)
        self._count(self._tail)
        self._follow(before, token)

    def advance(self, state: int, length: int, token: int) -> tuple[int, int]:
        """Return the state and length of the longest match that ends with a token, given the match before it.

        A match is a suffix of up to `longest` tokens that is a part of the texts.
        """
        while state != ROOT and token not in self._next[state]:
            state = self._links[state]
            length = self._lengths[state]
        if token not in self._next[state]:
            return ROOT, 0
        length = min(length + 1, self._longest)
        return self._shortened(self._next[state][token], length), length

    def matched_end(self) -> tuple[int, int]:
        """Return the state and length of the longest suffix of the text that occurred before, too."""
        length = min(self._tail_length, self._longest)
        return self._shortened(self._tail, length), length

    def followed(self, state: int, length: int) -> tuple[int, int]:
        """Return the state and length of the longest suffix of a match that a token followed."""
        while state != ROOT and not self._followed[state]:
            state = self._links[state]
            length = self._lengths[state]
        return state, length

    def continuation(self, state: int, length: int, most: int, least_share: float) -> list[int]:
        """Return the tokens that most often followed a match, one after the other, up to `most`.

        They end where the share of the places that went on so, of those that went on at all, falls below least_share.
        """
        return self.shares(state, length, most, least_share)[0]

    def shares(self, state: int, length: int, most: int, least_share: float) -> tuple[list[int], list[float]]:
        """Return `continuation`, and of each token the share of the places that went on so once all before it had."""
        tokens: list[int] = []
        shares: list[float] = []
        share = 1.0
        while len(tokens) < most and self._followed[state]:
            token = self._best[state]
            after = self._next[state][token]
            shares.append(self._counts[after] / self._followed[state])
            share *= shares[-1]
            if share < least_share:
                shares.pop()
                break
            tokens.append(token)
            length = min(length + 1, self._longest)
            state = self._shortened(after, length)
        return tokens, shares

    def tree(
        self, state: int, length: int, most: int, least_share: float, branches: int
    ) -> tuple[list[int], list[int]]:
        """Return up to `most` tokens that followed a match, and the parent of each: its index, -1 for the match.

        They are those that the largest shares of the places went on with, of each place the `branches` most frequent
        ones, and none below least_share.
        """
        tokens: list[int] = []
        parents: list[int] = []
        heap = [*self._followers(state, length, 1.0, -1, branches)]
        heapq.heapify(heap)
        while heap and len(tokens) < most:
            rarity, _, token, parent, after, length = heapq.heappop(heap)
            if -rarity < least_share:
                break
            tokens.append(token)
            parents.append(parent)
            for follower in self._followers(after, length, -rarity, len(tokens) - 1, branches):
                heapq.heappush(heap, follower)
        return tokens, parents

    def _followers(
        self, state: int, length: int, share: float, parent: int, branches: int
    ) -> Iterator[tuple[float, int, int, int, int, int]]:
        """Yield what most often followed a state: the share of all places, negative, and what `tree` goes on with."""
        if not self._followed[state]:
            return
        best, following = self._best[state], self._next[state]
        frequent = heapq.nlargest(
            branches, following, key=lambda token: (self._counts[following[token]], token == best)
        )
        further = min(length + 1, self._longest)
        for rank, token in enumerate(frequent):
            after = following[token]
            ratio = share * self._counts[after] / self._followed[state]
            yield -ratio, rank, token, parent, self._shortened(after, further), further

    def _shortened(self, state: int, length: int) -> int:
        """Return the state that a state's part of so many tokens is in: it may have been split, or cut to `longest`."""
        while length and self._lengths[self._links[state]] >= length:
            state = self._links[state]
        return state if length else ROOT

    def _count(self, state: int) -> None:
        counts, links = self._counts, self._links
        while state != ROOT:
            counts[state] += 1
            state = links[state]

    def _follow(self, state: int, token: int) -> None:
        """Note that a token followed a state and its suffixes; what it leads to has been counted."""
        counts, links, following, followed, bests = self._counts, self._links, self._next, self._followed, self._best
        while state != -1:
            followed[state] += 1
            best = bests[state]
            if best != token:
                after = following[state]
                if best < 0 or counts[after[token]] >= counts[after[best]]:
                    bests[state] = token
            state = links[state]

    def _grown(self, token: int) -> int:
        """Return the state of the text with one more token, which is made if there is none."""
        whole = self._whole
        known = self._next[whole].get(token)
        if known is not None:  # another text begins as this one does, or has all of it
            return self._exact(whole, token, known)
        self.size += 1
        grown = self._state({}, self._lengths[whole] + 1)
        state = whole
        while state != -1 and token not in self._next[state]:
            self._next[state][token] = grown
            state = self._links[state]
        self._links[grown] = ROOT if state == -1 else self._exact(state, token, self._next[state][token])
        return grown

    def _exact(self, state: int, token: int, after: int) -> int:
        """Return what a token leads to from a state, split off from longer parts that now end at fewer places."""
        if self._lengths[after] == self._lengths[state] + 1:
            return after
        split = self._state(dict(self._next[after]), self._lengths[state] + 1, like=after)
        self._links[split] = self._links[after]
        self._links[after] = split
        while state != -1 and self._next[state].get(token) == after:
            self._next[state][token] = split
            state = self._links[state]
        return split

    def _state(self, following: dict[int, int], length: int, like: int | None = None) -> int:
        self._next.append(following)
        self._lengths.append(length)
        self._links.append(ROOT)
        self._counts.append(0 if like is None else self._counts[like])
        self._followed.append(0 if like is None else self._followed[like])
        self._best.append(-1 if like is None else self._best[like])
        return len(self._next) - 1

    def __len__(self) -> int:
        """Return how many states there are: at most two a token held, and one."""
        return len(self._next)


def match_of(automaton: SuffixAutomaton, tokens: Sequence[int]) -> tuple[int, int]:
    """Return the state and length of the longest suffix of tokens that is a part of an automaton's texts."""
    state, length = ROOT, 0
    for token in tokens:
        state, length = automaton.advance(state, length, token)
    return state, length
