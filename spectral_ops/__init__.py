"""spectral-ops: structured neural layers as fast as their compression ratios promise.

`import spectral_ops` registers `torch.ops.spectral.*`. On top: `spectral_ops.nn` (layers), `spectral_ops.transforms`,
`spectral_ops.ensemble`, `spectral_ops.compress` (spectral layers in any model), `spectral_ops.models` (the papers'
networks), and the tensor algebra of `spectral_ops.algebra` (`tprod`, `tsvd`, ...). `explain(op, *args)` says which
kernel a call takes; `use(backend)` forces one.
"""

from . import op as _op
from .forced import use
from .native import cpu_level, cpu_levels
from .op import backends, explain

_op.register_all()

from . import algebra, compress, ensemble, models, nn, transforms  # noqa: E402  (they call the registered ops)
from .algebra import (  # noqa: E402
    bcirc,
    facewise,
    fold,
    low_tubal_rank,
    teye,
    tinv,
    tnorm,
    tprod,
    tsvd,
    ttranspose,
    tubal_rank,
    unfold,
)
from .functional import dct, dctn, dst, dstn, idct, idctn, idst, idstn  # noqa: E402

__version__ = "0.1.0"
__all__ = [
    "algebra",
    "backends",
    "bcirc",
    "compress",
    "cpu_level",
    "cpu_levels",
    "dct",
    "dctn",
    "dst",
    "dstn",
    "ensemble",
    "explain",
    "facewise",
    "fold",
    "idct",
    "idctn",
    "idst",
    "idstn",
    "low_tubal_rank",
    "models",
    "nn",
    "teye",
    "tinv",
    "tnorm",
    "tprod",
    "transforms",
    "tsvd",
    "ttranspose",
    "tubal_rank",
    "unfold",
    "use",
]
