"""Classical classifiers from the files of a run: skops and plain JSON, no pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from imbalance_lab.errors import InputError

_TRUSTED = ("sklearn.", "imblearn.", "numpy.")


def load_classifiers(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """``about.json`` of a folder, and the fitted classifier of each head (None where none could be fitted).

    Raises
    ------
    InputError
        If a file holds types of other packages than those that made it.
    """
    import skops.io

    about = json.loads((folder / "about.json").read_text(encoding="utf-8"))
    models: dict[str, Any] = {}
    for number, head in enumerate(about["heads"]):
        file = folder / f"{number}.skops"
        if not file.exists():
            models[head] = None
            continue
        types = skops.io.get_untrusted_types(file=file)
        foreign = [t for t in types if not t.startswith(_TRUSTED)]
        if foreign:
            raise InputError(f"{file.name} holds {foreign[0]}, expected types of scikit-learn and imbalanced-learn")
        models[head] = skops.io.load(file, trusted=types)
    return about, models
