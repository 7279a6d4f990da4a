"""Which lengths fit the U-Net."""

import pytest

from mousai.shapes import to_stride


def test_the_next_multiple_of_the_stride_is_found_or_another_length_refused():
    assert [to_stride(length, 8) for length in (1, 7, 8, 9, 17)] == [8, 8, 8, 16, 24]
    assert to_stride(16, 8, paper_exact=True) == 16
    with pytest.raises(ValueError, match="length 17 is not a multiple of the stride 8: pad it first"):
        to_stride(17, 8, paper_exact=True)
