"""The first three tokens of the vocabularies of sequence pairs.

A source ends with `EOS`. A target starts with `BOS` and ends with `EOS`. `PAD` fills the rest of a row.
"""

PAD, BOS, EOS = 0, 1, 2
