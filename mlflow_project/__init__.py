"""The MLflow side of imbalance-lab: the only code that imports mlflow."""
