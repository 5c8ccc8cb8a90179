"""Every call of the daemon, written once: coroutines that take plain values and return frozen records.

`ftclient.aio` offers them as they are, `ftclient.client` each as one that blocks. Nothing here knows which of the two.

`job` is an id, a prefix of one, a name that only one job has, or a Job. `timeout` is in seconds for this one call.
Calls raise the errors of `ftclient.errors`.
"""

from __future__ import annotations

from ftclient.calls.chat import ChatCalls
from ftclient.calls.data import DataCalls
from ftclient.calls.follow import FollowCalls
from ftclient.calls.host import HostCalls
from ftclient.calls.transfers import TransferCalls


class Calls(FollowCalls, DataCalls, TransferCalls, ChatCalls, HostCalls):
    """All of them."""
