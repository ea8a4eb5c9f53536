"""The agent: runs inside a node and serves one stream. Standard library only, Python 3.9 and later.

It knows four things: run a command, read and write a file (a unix socket that speaks JSON-RPC is
one), make and move network interfaces, and send and capture frames. It knows nothing of Open
vSwitch. It ends, and as the first process of its PID namespace takes everything in the node with
it, when its stream ends.

The stream carries messages both ways: two big-endian 32-bit lengths (of the whole body, and of the
JSON at its start), the JSON, then raw bytes (the *blob*). A request has an ``id`` and an ``op``;
its answer has the same ``id`` and ``ok`` or ``error``. Captured blocks come as messages with an
``event``. Everything is done in one thread: many commands, streams and captures are under way at
once because none of them is waited for. (Only what the kernel itself makes us wait for, opening
and closing captures, is done in threads of its own.)
"""
