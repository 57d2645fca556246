"""Sources in, one :class:`~imbalance_lab.data.dataset.SequenceDataset` out."""
