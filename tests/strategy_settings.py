"""One row per registered loss and sampler: the settings that drive the contract suite."""

LOSSES: dict[str, dict] = {
    # name: options to test with; options that make it cross-entropy on equal counts (None: no such options)
    "cross-entropy": {"options": [{}], "plain": {}},
    "focal": {"options": [{}, {"gamma": 0.5}], "plain": {"gamma": 0}},
    "focal-sigmoid": {"options": [{}], "plain": None},
    "ldam": {"options": [{}], "plain": {"max_margin": 1e-12, "scale": 1.0}},
    "balanced-softmax": {"options": [{}], "plain": {}},
    "logit-adjusted": {"options": [{}], "plain": {"tau": 0}},
    "vector-scaling": {"options": [{}], "plain": {"gamma": 0, "tau": 0}},
    "seesaw": {"options": [{}], "plain": {"p": 0, "q": 0}},
    "ghm": {"options": [{}, {"momentum": 0}], "plain": None},
    "influence-balanced": {"options": [{}, {"detach": True}], "plain": None},
    "equalization-v2": {"options": [{}], "plain": None},
    "dice": {"options": [{}, {"over": "batch", "square_denominator": False, "alpha": 0.5}], "plain": None},
    "label-smoothing": {"options": [{}], "plain": {"epsilon": 0}},
    "label-aware": {"options": [{}, {"spread": "all"}], "plain": {"head": 0, "tail": 0}},
}

SAMPLERS: dict[str, dict] = {
    "natural": {"natural": {}},
    "class-balanced": {"natural": {"q": 1}},
    "progressive": {"natural": None},
    "dynamic": {"natural": None},
    "rarest-class": {"natural": {"power_of_frequency": 0}},
    "token-balanced": {"natural": None},
}
