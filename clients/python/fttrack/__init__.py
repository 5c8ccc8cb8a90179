"""Tells a tracker a job's metrics, from a process of its own: the daemon starts `python -m fttrack` for each one.

It is a client as any other: it reads the job's stream, so a tracker that hangs, refuses or dies only holds up itself.
"""
