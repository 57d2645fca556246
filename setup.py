"""What pyproject.toml cannot say: the experiment files, which lie beside the packages, go into the wheel with them."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithExperiments(build_py):
    """Copies ``experiments/`` to where ``mlflow_project.commands.options`` looks for it in an installed package."""

    def run(self) -> None:
        """Copy modules and package data, then the experiments."""
        super().run()
        if self.editable_mode:  # an editable installation reads them where they lie
            return
        place = Path(self.build_lib) / "mlflow_project" / "experiments"
        self.mkpath(str(place))
        for file in sorted(Path("experiments").glob("*.yaml")):
            self.copy_file(str(file), str(place / file.name))


setup(cmdclass={"build_py": BuildWithExperiments})
