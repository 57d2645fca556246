"""imbalance-lab: audit, train, analyse and compare classifiers on imbalanced labels.

Importing this package imports neither torch, matplotlib nor scikit-learn;
each submodule imports what it needs.
"""

__version__ = "0.1.0"
