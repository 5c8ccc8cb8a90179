"""Reads the training files of other tools into a spec: pure, and honest about every key.

Values in, values out: what is on a disk is asked of `place`. Nothing here prints, and nothing here may leave a key of a
file without an entry in the report.
"""
