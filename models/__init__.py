"""The two model families that the studies in ``ablation_tests/`` take apart."""
