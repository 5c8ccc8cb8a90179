"""From a user's files to the rows a trainer takes: read, tell the format, normalise, tokenise, mask, cache.

Only `tokens` and `rows` may load the tokenizer and data set libraries: a broken file is told before that.
"""
