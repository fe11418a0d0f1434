"""Runs when a Python starts that finds this folder: see `torchvision_operators`.

The operators are declared when torchvision is imported, and only then: most processes never do.
The modules that the variable ``WITHOUT_MODULES`` names are as if they were not installed.
"""

import os
import sys
from importlib.abc import MetaPathFinder


class _Provide(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torchvision_operators

            torchvision_operators.provide()
            return sys.modules["torchvision"].__spec__ if name in sys.modules else None
        return None


sys.modules.update(dict.fromkeys(os.environ.get("WITHOUT_MODULES", "").split()))
sys.meta_path.insert(0, _Provide())
