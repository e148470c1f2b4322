import torch

from lit_modules.layers.grouped_heads import stack_groups, unstack_groups


def test_one_product_with_the_shared_keys_equals_that_with_repeated_ones():
    """Query head h belongs to key head ⌊h / G⌋: `repeat_interleave`, not `repeat`."""
    query, key = torch.randn(2, 6, 3, 4), torch.randn(2, 2, 5, 4)
    scores = unstack_groups(stack_groups(query, 2) @ key.mT, 6)
    torch.testing.assert_close(scores, query @ key.repeat_interleave(3, dim=1).mT)
