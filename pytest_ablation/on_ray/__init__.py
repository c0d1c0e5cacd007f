"""Training on a Ray cluster: an executor beside those of ``executors.py``, and its other end.

``executor`` submits runs and keeps what comes back; ``node`` is what happens on a node. Ray itself
is imported only where a session asks for it.
"""
