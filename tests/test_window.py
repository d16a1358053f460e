"""Header bytes come in windows that grow, and no byte comes twice."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from intake_tiffstack.header.header_bytes import HeaderBytes


class Spy:
    """A source that tells what was asked of it."""

    read_cost = 1

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []

    def fill(self, spans: Sequence[tuple[int, memoryview]]) -> None:
        for start, buffer in spans:
            self.asked.append((start, buffer.nbytes))
            buffer[:] = self.content[start : start + buffer.nbytes]


@given(
    st.integers(1, 400),
    st.lists(st.tuples(st.integers(0, 450), st.integers(0, 120)), max_size=20),
    st.integers(1, 64),
)
def test_reads_give_the_bytes_and_fetch_each_at_most_once(size, reads, smallest):
    content = bytes(i % 251 for i in range(size))
    spy = Spy(content)
    data = HeaderBytes(spy, size, smallest=smallest)
    for start, count in reads:
        assert data.read(start, count) == content[start : start + count]
    fetched = [place for start, count in spy.asked for place in range(start, start + count)]
    assert len(fetched) == len(set(fetched))
    assert not fetched or max(fetched) < size


def test_a_chain_of_distant_pages_costs_a_handful_of_requests():
    size = 5_000_000
    spy = Spy(bytes(size))
    data = HeaderBytes(spy, size)
    for page in range(64):
        data.read(page * 76_000, 200)
        data.read(max(0, page * 76_000 - 300), 8)  # values lie before their directory
    assert len(spy.asked) <= 12
    assert sum(count for _, count in spy.asked) <= size


def test_pixels_that_came_with_the_header_are_not_fetched_again():
    spy = Spy(bytes(range(200)))
    data = HeaderBytes(spy, 200, smallest=100)
    data.read(0, 8)
    buffers = [bytearray(10), bytearray(10)]
    data.fill([(50, memoryview(buffers[0])), (150, memoryview(buffers[1]))])
    assert [bytes(b) for b in buffers] == [bytes(range(50, 60)), bytes(range(150, 160))]
    assert spy.asked == [(0, 100), (150, 10)]
