"""The first three tokens of every vocabulary that sequences are read and written in.

A sequence to be read ends with `EOS`; one to be written starts with `BOS` and ends with `EOS`. `PAD`
fills a row up behind that.
"""

PAD, BOS, EOS = 0, 1, 2
