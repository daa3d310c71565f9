"""umap-learn, compiled once instead of once in every process.

umap-learn has numba compile most of its functions anew in each process: 10 seconds before the first map of
two hundred points. numba can keep what it compiled beside a library's modules, or in the user's cache where
these cannot be written; pynndescent and evoc have it do so, and so does nearsql.
"""

import sys
import warnings
from functools import cache
from types import ModuleType


@cache
def import_umap() -> ModuleType:
    """The module umap. What its functions are compiled to, from then on, is kept on disk."""
    with warnings.catch_warnings():
        # It offers a variant that needs TensorFlow, which we do not use.
        warnings.filterwarnings("ignore", "Tensorflow not installed", ImportWarning)
        import umap
    from numba.core.dispatcher import Dispatcher

    modules = [module for name, module in sys.modules.items() if name.startswith("umap.")]
    found = [value for module in modules for value in vars(module).values()]
    for function in [value for value in found if isinstance(value, Dispatcher)]:
        # Some were compiled when they were imported, and some are kept already.
        if not function.signatures and function.stats.cache_path is None:
            function.enable_caching()
    return umap
